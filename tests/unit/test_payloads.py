"""Payloads of dead letters in a page: cut, escaped where they cannot be shown, and masked until somebody asks."""

import base64
import json
from typing import Any

import aiokafka
import pytest

from goalworker.console import contact_links, payloads

CONTACT = "contact-4711"
ENVELOPE = {"specversion": "1.0", "tenantid": "acme", "data": {"contact_id": CONTACT, "amount": 49.90}}


def record(value: bytes | None, key: bytes | None = None, **headers: bytes | None) -> aiokafka.ConsumerRecord:
    named = tuple((name.replace("_", "-"), content) for name, content in headers.items())
    return aiokafka.ConsumerRecord("dlq", 0, 7, 0, 0, key, value, None, 0, len(value or b""), named)


def letter(
    value: bytes | None, key: bytes | None = None, *, revealed: bool = False, **headers: bytes
) -> payloads.Letter:
    return payloads.letter({}, record(value, key, **headers), contact_links.masked, revealed=revealed)


def text_of(value: bytes, *, revealed: bool = False) -> str | None:
    return letter(value, revealed=revealed).value.text


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(ENVELOPE).encode(),
        b"\xef\xbb\xbf" + json.dumps(ENVELOPE).encode(),
        json.dumps({"contactId": CONTACT, "note": f"call {CONTACT} back"}).encode(),
        json.dumps({"Contact": {"id": CONTACT, "mails": [CONTACT]}}).encode(),
        json.dumps({"contact_id": "another", "subject": CONTACT}).encode(),
        json.dumps([{"data": {"merged_contact_id": CONTACT}}, {CONTACT: 1}]).encode(),
        b'{"contact_id": "contact-4711", "contact_id": "another"}',
        b'{"contact_id": "another", "other": "\\u0063ontact-4711", "contact_id": "contact-4711"}',
        json.dumps({"data_base64": base64.b64encode(json.dumps(ENVELOPE["data"]).encode()).decode()}).encode(),
    ],
)
def test_ids_of_contacts_are_masked_wherever_a_value_names_them(value: bytes) -> None:
    text = text_of(value)
    assert text is not None
    assert CONTACT not in text
    assert "\\u0063ontact" not in text
    assert base64.b64encode(CONTACT.encode()).decode()[:8] not in text
    json.loads(text)


def test_what_is_not_an_id_stays_as_the_sender_wrote_it() -> None:
    value = b'{"contact_id":  "contact-4711", "amount": 49.90, "big": 123456789012345678901234567890}'
    assert text_of(value) == value.decode().replace(CONTACT, contact_links.masked(CONTACT))


def test_a_short_id_is_masked_only_where_it_is_a_whole_value() -> None:
    assert text_of(b'{"contact_id": 17, "note": "17", "amount": 1700}') == (
        '{"contact_id": "…", "note": "…", "amount": 1700}'
    )


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b"\xff",
        b'{"person": "c-17"}',
        b"[" * 100_000,
        b'{"contact_id": "c-17", "text": "' + b"x" * payloads.MASKED_BYTES + b'"}',
    ],
    ids=["no JSON", "no text", "no contact", "too deep", "too large"],
)
def test_a_value_whose_ids_are_not_sure_is_hidden_until_asked_for(value: bytes) -> None:
    hidden = letter(value).value
    assert (hidden.text, hidden.is_hidden, hidden.size) == (None, True, len(value))
    assert text_of(value, revealed=True) is not None


def test_keys_show_the_tenant_and_mask_the_contact() -> None:
    assert letter(b"{}", b"acme:contact-4711").key.text == "acme:co…11"
    assert letter(b"{}", b"contact-4711").key.text == "co…11"
    assert letter(b"{}", b"acme:contact-4711", revealed=True).key.text == "acme:contact-4711"
    assert letter(b"{}", b"\xff").key.is_hidden
    assert letter(b"{}", None).key == payloads.Part("key", None, None)


def test_headers_that_may_name_a_contact_are_hidden_and_ids_in_the_others_masked() -> None:
    value = json.dumps(ENVELOPE).encode()
    given: dict[str, Any] = {"x_error_message": b"contact-4711 is odd", "ce_subject": b"contact-4711", "person": b"Ann"}
    masked = {part.name: part.text for part in letter(value, **given).headers}
    assert masked == {"x-error-message": "co…11 is odd", "ce-subject": None, "person": None}
    revealed = {part.name: part.text for part in letter(value, revealed=True, **given).headers}
    assert revealed == {"x-error-message": "contact-4711 is odd", "ce-subject": "contact-4711", "person": "Ann"}


def test_the_sentence_of_a_fault_masks_ids_as_its_header_does() -> None:
    value = json.dumps(ENVELOPE).encode()
    odd = record(value, x_error_message=b"contact-4711 is odd")
    assert payloads.described(odd, contact_links.masked)["message"] == "co…11 is odd"
    assert payloads.described(record(value), contact_links.masked)["message"] is None


def test_an_id_that_is_percent_encoded_is_masked_too() -> None:
    value = json.dumps({"contact_id": "a b/contact", "link": "/c/a%20b%2Fcontact"}).encode()
    text = text_of(value)
    assert text is not None
    assert 'contact"' not in text.replace('"contact_id"', "")


def test_long_parts_are_cut_and_say_so() -> None:
    long = letter(b'{"contact_id": "c-17", "text": "' + b"y" * 9_000 + b'"}', b"k" * 2_000, revealed=True)
    assert (len(long.value.text or ""), long.value.is_cut, long.value.size) == (4_096, True, 9_034)
    assert (len(long.key.text or ""), long.key.is_cut) == (512, True)
    euros = letter("€".encode() * 4_096, revealed=True).value
    assert (euros.text, euros.is_cut) == ("€" * 4_096, False)


def test_many_headers_are_counted_and_not_shown() -> None:
    headers = tuple((f"h{number}", b"x") for number in range(60))
    made = aiokafka.ConsumerRecord("dlq", 0, 7, 0, 0, None, b"{}", None, 0, 2, headers)
    shown = payloads.letter({}, made, contact_links.masked, revealed=True)
    assert (len(shown.headers), shown.more_headers) == (50, 10)


def test_characters_that_would_change_the_page_are_shown_as_escapes() -> None:
    revealed = letter(b"{}", "\u202eevil\x00".encode(), revealed=True)
    assert revealed.key.text == "\\u202eevil\\x00"
    assert text_of(b"a\nb\x1b[31m", revealed=True) == "a\nb\\x1b[31m"
    assert text_of(b"\xff\x00", revealed=True) == "base64 /wA="
