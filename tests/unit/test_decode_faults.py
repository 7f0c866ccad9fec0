"""Faults of records: each is named with its location and without any of the payload."""

from dataclasses import replace

import pytest

from tests.kit import hostile
from tests.unit import hostile_fields, hostile_forms, hostile_settings, hostile_skipped
from tests.unit.decoding import ALL, REASONS, decoded, malformed


@pytest.mark.parametrize(
    ("record", "pointer", "detail"),
    [
        (
            hostile.amount(b"-1", "invalid_data"),
            "/data/amount",
            "`amount` must be a JSON number or plain decimal string from 0 to 10^15 with at most 18 decimals, "
            "in major units such as 49.90",
        ),
        (
            hostile.data("", "", form_id=5.5),
            "/data/form_id",
            "`form_id` must be text of 1 to 255 bytes without control characters, or an integer",
        ),
        (
            hostile.data("", "", form_id=None),
            "/data/form_id",
            "`form_id` is missing; it must be text of 1 to 255 bytes without control characters, or an integer",
        ),
        (
            hostile.data("", "", "contact.tag.added", tag_id=None, tag_name=None),
            "/data/tag_id",
            "`tag_id` is missing, and so is `tag_name`; one of them is needed",
        ),
        (
            hostile.data("", "", "payment.completed", product_ids=[""]),
            "/data/product_ids",
            "`product_ids` must be a list of at most 1000 texts of 1 to 255 bytes, or integers",
        ),
        (
            hostile_fields.started_by("", "", b'["/crm", "1"]'),
            "/data/started_by",
            "`started_by` must be an object with the texts `source` and `id`",
        ),
        (
            hostile_fields.started_by("", "", b'{"source": "/crm"}'),
            "/data/started_by/id",
            "`id` is missing; it must be text of 1 to 255 bytes without control characters",
        ),
        (hostile.without("", "", "data"), "/data", "`data` must be a JSON object"),
        (hostile.without("", "", "tenantid"), "/tenantid", "`tenantid` is missing, and no default tenant is set"),
        (
            hostile.structured("", "", time="noon"),
            "/time",
            "`time` must be an RFC 3339 time with an offset, such as 2026-05-01T12:00:00Z",
        ),
        (
            replace(hostile.structured("", "", type="order.placed"), limits=hostile_skipped.REFUSED),
            "/type",
            "`type` must be one of form.rejected, form.submitted in this topic",
        ),
        (hostile.headers("", "", (), b"{} x"), "", "the value is not JSON: trailing characters (byte 4)"),
        (hostile.headers("", "", (), b"[]"), "", "the value is an array; send each event alone"),
        (hostile.headers("", "", (), b"7"), "", "the value must be a JSON object"),
        (hostile.headers("", "", (), b'{"\xff"'), "", "the value is not UTF-8: byte 2 is wrong"),
        (hostile.headers("", "", (), b"[" * 100_000), "", "the value is nested too deep"),
        (hostile.headers("", "", hostile.ce_headers(id=b"\xff"), hostile.FORM), "header ce_id", "`id` must be UTF-8"),
        (
            hostile.headers("", "", hostile.ce_headers(specversion=b"0.3"), hostile.FORM),
            "header ce_specversion",
            '`specversion` must be "1.0"',
        ),
        (
            hostile.headers("", "", hostile.ce_headers(), b'{"contact_id": "c-1"}'),
            "/form_id",
            "`form_id` is missing; it must be text of 1 to 255 bytes without control characters, or an integer",
        ),
        (hostile.headers("", "", hostile.ce_headers(), b"[]"), "", "`data` must be a JSON object"),
        (
            hostile.headers("", "", (), b"[" + hostile.GOOD.replace(b'"f-1"', b"7.5") + b"]"),
            "/0/data/form_id",
            "`form_id` must be text of 1 to 255 bytes without control characters, or an integer",
        ),
        (hostile_forms.coded("", "", b'"e30"'), "/data_base64", "`data_base64` must be JSON in base64"),
        (
            hostile_forms.coded("", "", hostile_forms.base64_of(b"{}")),
            "/data_base64",
            "`contact_id` is missing; it must be text of 1 to 255 bytes without control characters, or an integer",
        ),
        (
            hostile.headers("", "", (), b'{"schema": {}, "payload": {}}'),
            "",
            "the value is wrapped in `schema` and `payload` by Kafka Connect; set value.converter.schemas.enable=false "
            "there, or GOALWORKER_EVENTS__PLAIN_JSON=true here",
        ),
        (
            hostile.headers("", "", hostile.ce_headers(), b'{"schema": {}, "payload": {}}'),
            "",
            "`data` is wrapped in `schema` and `payload` by Kafka Connect; set value.converter.schemas.enable=false "
            "there",
        ),
        (
            hostile.headers("", "", (), hostile.FORM),
            "/specversion",
            '`specversion` is missing; it must be "1.0". For JSON without an envelope set '
            "GOALWORKER_EVENTS__PLAIN_JSON=true here",
        ),
        (
            hostile_settings.plain("", "", hostile_settings.says(form_id=7.5)),
            "/form_id",
            "`form_id` must be text of 1 to 255 bytes without control characters, or an integer",
        ),
        (
            hostile_settings.plain("", "", hostile_settings.wrapped(hostile_settings.says(form_id=7.5))),
            "/payload/form_id",
            "`form_id` must be text of 1 to 255 bytes without control characters, or an integer",
        ),
        (
            hostile_settings.plain("", "", hostile_settings.wrapped(hostile_settings.as_text(b"{}"))),
            "/payload",
            "`contact_id` is missing; it must be text of 1 to 255 bytes without control characters, or an integer",
        ),
        (
            hostile_settings.plain("", "", hostile.FORM, ("event-id", b"\xff")),
            "header event-id",
            "`header event-id` must be UTF-8",
        ),
        (
            hostile_settings.plain("", "", b"{}", kind="workflow.activated"),
            "/specversion",
            '`specversion` is missing; it must be "1.0"',
        ),
        (
            hostile_settings.tenant("", "", "header:X-T", hostile.without("", "", "tenantid")),
            "/tenantid",
            "`tenantid` is missing, so is the header that EVENTS__TENANT_FROM names, and no default tenant is set",
        ),
        (
            hostile_settings.tenant("", "", "key-prefix", hostile.without("", "", "tenantid"), b"%00:c"),
            "key",
            "`key` must be text of 1 to 255 bytes without control characters",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(record: hostile.Record, pointer: str, detail: str) -> None:
    found = malformed(
        decoded(record.topic, record.value, record.headers, record.timestamp_ms, record.limits, record.key)
    )
    assert (found.pointer, found.detail) == (pointer, detail)


@pytest.mark.parametrize("record", [record for record in ALL if record.outcome in REASONS])
def test_a_sentence_never_quotes_the_payload_and_fits_a_header(record: hostile.Record) -> None:
    found = malformed(
        decoded(record.topic, record.value, record.headers, record.timestamp_ms, record.limits, record.key)
    )
    assert found.reason in REASONS
    assert found.detail.isascii()
    assert found.detail.isprintable()
    assert len(found.detail) < 200
    for secret in ("c-1", "p-1", "south", "form-", "sku-1", "north", "/crm", "129.90", "客户"):
        assert secret not in found.detail


@pytest.mark.parametrize("record", [record for record in ALL if record.outcome in REASONS])
def test_no_tenant_is_told_of_a_record_whose_envelope_is_malformed(record: hostile.Record) -> None:
    found = malformed(
        decoded(record.topic, record.value, record.headers, record.timestamp_ms, record.limits, record.key)
    )
    assert found.tenant_id is None or found.reason in {"invalid_data", "future_time", "unexpected_type"}


@pytest.mark.parametrize(
    ("record", "tenant_id"),
    [
        (hostile.data("", "", form_id=5.5), "north"),
        (hostile.without("", "", "data"), "north"),
        (hostile.structured("", "", time="2099-01-01T00:00:00Z"), "north"),
        (replace(hostile.structured("", "", type="order.placed"), limits=hostile_skipped.REFUSED), "north"),
        (hostile.headers("", "", hostile.ce_headers(tenantid=b"east"), b"[]"), "east"),
        (hostile_settings.plain("", "", hostile_settings.says(form_id=7.5)), "south"),
    ],
)
def test_the_tenant_of_malformed_data_is_told(record: hostile.Record, tenant_id: str) -> None:
    found = malformed(
        decoded(record.topic, record.value, record.headers, record.timestamp_ms, record.limits, record.key)
    )
    assert found.tenant_id == tenant_id
