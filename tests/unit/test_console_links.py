"""Addresses of the console hold no contact's id, and ids of any characters."""

from urllib import parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.console import addresses, contact_links, installation

KEYS = installation.derive(b"a" * 32)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)


@given(texts)
def test_a_token_stands_for_the_contact_of_one_tenant_only(contact_id: str) -> None:
    token = contact_links.token(KEYS, "acme", contact_id)
    assert contact_links.contact_id(KEYS, "acme", token) == contact_id
    assert contact_links.contact_id(KEYS, "other", token) is None
    assert contact_links.contact_id(installation.derive(b"b" * 32), "acme", token) is None
    assert contact_links.token(KEYS, "acme", contact_id) == token


@given(st.integers(0, 30), st.sampled_from("Aa0_-"))
def test_a_token_that_was_changed_stands_for_nobody(place: int, letter: str) -> None:
    token = contact_links.token(KEYS, "acme", "contact-17")
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]
    assert contact_links.contact_id(KEYS, "acme", changed) in (None, "contact-17" if changed == token else None)


@pytest.mark.parametrize("token", ["", "x", "é", "=", "a" * 10_000, "../..", "AAAA" * 10])
def test_what_is_no_token_stands_for_nobody(token: str) -> None:
    assert contact_links.contact_id(KEYS, "acme", token) is None


@pytest.mark.parametrize(
    ("contact_id", "masked"),
    [
        ("c", "…"),
        ("c-1", "…"),
        ("c-17", "c…7"),
        ("contact", "c…t"),
        ("contact-17", "co…17"),
        ("ann@example.com", "an…om"),
    ],
)
def test_a_masked_id_shows_two_characters_at_either_end_and_never_more_than_half(contact_id: str, masked: str) -> None:
    assert contact_links.masked(contact_id) == masked


@given(texts)
def test_an_id_of_any_characters_is_one_segment_of_a_path(id_: str) -> None:
    segment = addresses.segment(id_)
    decoded_once = parse.unquote(segment)
    assert "/" not in decoded_once
    assert decoded_once not in {".", ".."}
    assert addresses.unquoted(decoded_once) == id_


@pytest.mark.parametrize("id_", [".", "..", "a/b", "a%2Fb", "100%", "?x#y", "%2e%2e"])
def test_ids_that_servers_and_browsers_would_take_apart_stay_whole(id_: str) -> None:
    assert parse.urlsplit(parse.urljoin("http://x/console/", addresses.segment(id_))).path.startswith("/console/")
    assert addresses.unquoted(parse.unquote(addresses.segment(id_))) == id_


def test_plain_ids_are_in_addresses_as_they_are() -> None:
    assert addresses.segment("onboarding-2.1_a") == "onboarding-2.1_a"
