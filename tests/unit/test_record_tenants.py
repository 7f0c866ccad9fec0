"""The tenant of a record is the one that the decoder tells, whatever becomes of the record."""

import json

import pytest
from aiokafka import ConsumerRecord

from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.pipeline import dead_letters, record_tenants
from tests.kit import hostile

TOPIC, FORM = "form-submitted", hostile.DATA["form.submitted"]
ORIGIN = (dead_letters.ORIGINAL_TOPIC, TOPIC.encode())


def value(data: object = FORM, **attributes: object) -> bytes:
    return json.dumps(hostile.envelope("form.submitted", data, **attributes)).encode()


@pytest.mark.parametrize(
    ("topic", "content", "key", "headers", "tenant_id"),
    [
        (TOPIC, value(), None, [], "north"),
        (TOPIC, value({}), None, [], "north"),
        (TOPIC, value({**FORM, "test": True}), None, [], "north"),
        (TOPIC, value(type="order.placed"), None, [], "north"),
        (TOPIC, value(time=None), None, [], "north"),
        (TOPIC, json.dumps(FORM).encode(), None, hostile.ce_headers(tenantid=b"east"), "east"),
        (TOPIC, value(time="2099-01-01T00:00:00Z"), None, [], "north"),
        (TOPIC, value(id=None), b"north:c-1", [], None),
        (TOPIC, b"{", b"north:c-1", [], None),
        (TOPIC, None, b"no%3Arth:c-1", [], "no:rth"),
        (TOPIC, None, b"c-1", [], None),
        (TOPIC, None, b"\xff:c-1", [], None),
        (TOPIC, None, None, [], None),
        ("redrive", value(), None, [ORIGIN], "north"),
        ("redrive", value(), None, [], None),
        ("redrive", value(), None, [(dead_letters.ORIGINAL_TOPIC, b"other")], None),
    ],
)
def test_the_tenant_of_a_record_is_told_by_its_envelope(
    topic: str,
    content: bytes | None,
    key: bytes | None,
    headers: list[tuple[str, bytes | None]],
    tenant_id: str | None,
) -> None:
    decoder = Decoder(hostile.KINDS, Limits())
    record = ConsumerRecord(topic, 0, 7, hostile.TIMESTAMP_MS, 0, key, content, None, 0, 0, headers)
    assert record_tenants.tenant_of(decoder, topic, record) == tenant_id
    assert not decoder.without_time, "the record was counted when it was decoded for its event"
