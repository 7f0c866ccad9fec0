"""The fast way to decode records: it decodes well-formed ones in one pass and leaves all others to the careful way."""

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NoReturn

from msgspec import Raw, ValidationError, convert, defstruct, json, structs

from goalworker.decoding import envelope, skipping
from goalworker.decoding.limits import Limits
from goalworker.decoding.record import FetchedRecord
from goalworker.decoding.wire import ABSENT, FINISH, WIRE, Finish, Reader, has_valid_texts
from goalworker.domain import events
from goalworker.domain.text import Text

Wanted = Mapping[str, Callable[[str, Any], object]]
"""Predicates by CloudEvents type: whether anything in the service needs an event of this tenant with this data."""
Decoded = tuple[
    list[tuple[FetchedRecord, events.Event]], list[FetchedRecord], list[tuple[FetchedRecord, skipping.Skipped]]
]
"""Wanted records with their events, the records left to the careful way, and skipped ones with their outcomes."""
Foreign = Mapping[str, bool] | None
"""Says of each tenant whether it is another cell's; None if no tenant is."""
FastDecode = Callable[..., Decoded]
"""Decodes records by the latest time that they may have, by Wanted, and by Foreign where a cell owns some tenants."""

# True of any two objects. As a function of C, it takes a third of the time of a lambda, for each record.
ANY_WANTED: Final[Wanted] = dict.fromkeys(events.DATA_OF_TYPE, operator.is_not)

# Errors that msgspec, datetime and this module raise about a record; a tombstone's value has no length.
_NOT_TAKEN: Final = (ValueError, LookupError, OverflowError, RecursionError, TypeError)
# The only header that the structured form prescribes; a record with no other needs no closer look.
_USUAL_HEADERS: Final = [("content-type", b"application/cloudevents+json")]
_NO_TRACE: Final[tuple[str | None, str | None]] = (None, None)
_BACKSLASH, _DEL = 0x5C, 0x7F
_JSON: Final = json.Decoder(Raw)


def fast_decode(  # noqa: PLR0915 - one closure, see below
    topic: str, event_types: frozenset[str], limits: Limits, without_time: Mapping[str, list[int]]
) -> FastDecode:
    """Return the fast decoder of a topic; it notes in without_time the offsets of records that it dated itself."""
    # The closure has everything at hand and makes no avoidable call, because it runs for each record.
    primary, with_subject = events.primary_type(event_types), limits.tenant_from == "subject"
    finish: Finish | None = None
    read = read_other = _other_reader(event_types, limits)
    if primary is not None:
        read, finish = _primary_reader(primary, with_subject=with_subject)
    has_tests, has_stages = primary is not None, primary == events.STAGE_CHANGED
    max_bytes, tenant_from = limits.max_bytes, limits.tenant_from
    default_tenant = limits.default_tenant if tenant_from == "tenantid" else None
    headers_of, trace_of, moment, absent = envelope.headers_of, envelope.trace_of, envelope.moment, ABSENT
    settle = skipping.settling(count_tests=limits.test_events == "count")
    structured, tenant_elsewhere = _structured_form(limits), _tenant_elsewhere(limits)

    def take(  # noqa: PLR0912, PLR0915 - a call for each record would take longer than most of these branches
        records: Sequence[FetchedRecord], latest: datetime, wanted: Wanted, foreign: Foreign = None
    ) -> Decoded:
        taken: list[tuple[FetchedRecord, events.Event]] = []
        left: list[FetchedRecord] = []
        skipped: list[tuple[FetchedRecord, skipping.Skipped]] = []
        value: Any
        for record in records:
            value, by_name = record.value, None
            try:
                if record.headers != _USUAL_HEADERS and record.headers:
                    by_name = headers_of(record.headers)
                    value = structured(value, by_name)
                elif len(value) > max_bytes:
                    raise ValueError
                try:
                    whole = read(value)
                    kind, data = primary or whole.type, whole.data
                    if finish is not None:
                        data = finish(data)
                except ValidationError:  # another type than the primary one, or a fault
                    whole = read_other(value)
                    kind, data = whole.type, whole.data
                tenant_id, text = whole.tenantid or default_tenant, whole.time
                # msgspec has checked the other rules of a time: see text.parse_time.
                is_usual = text is not None and text[10] == "T" and text[-1] == "Z"
                time = convert(text, datetime) if is_usual else moment(text, record.timestamp)
                if tenant_id is None:
                    tenant_id = tenant_elsewhere(whole, by_name, record)
                if time > latest and data is not None:
                    raise ValueError
                # ASCII JSON without escapes and DEL cannot hold a control character, so its texts need no check.
                if not value.isascii() or _BACKSLASH in value or _DEL in value:
                    others = (kind,) if data is None else structs.astuple(data)
                    _check_texts((whole.id, whole.source, tenant_id, *others), value)
            except _NOT_TAKEN:
                left.append(record)
                continue
            if foreign is not None and foreign[tenant_id]:
                skipped.append((record, skipping.Skipped(skipping.FOREIGN_TENANT, kind, tenant_id)))
                continue
            if data is None:
                skipped.append((record, skipping.Skipped(skipping.FOREIGN_TYPE, kind, tenant_id)))
                continue
            if has_tests and (data.test is not None or (has_stages and data.stage_id == data.previous_stage_id)):
                data, outcome = settle(data)
                if outcome is not None:
                    skipped.append((record, skipping.Skipped(outcome, kind, tenant_id)))
                    continue
            if text is None:
                without_time[topic].append(record.offset)
            if wanted[kind](tenant_id, data):
                if by_name is None and whole.traceparent is absent and whole.tracestate is absent:
                    trace = _NO_TRACE
                else:
                    trace = trace_of(by_name or {}, whole.traceparent, whole.tracestate)
                taken.append((record, events.Event(tenant_id, whole.source, whole.id, kind, time, data, *trace)))
        return taken, left, skipped

    return take


def _structured_form(limits: Limits) -> Callable[[bytes, envelope.Headers], bytes]:
    """Return a function that converts an event in the binary form to the structured one and keeps the others."""
    max_bytes, attributes = limits.max_bytes, envelope.attribute_headers(limits.tenant_from)

    def structured(value: bytes, headers: envelope.Headers) -> bytes:
        if len(value) > max_bytes:
            raise ValueError
        mode = envelope.mode_of(headers)
        if mode != "binary":
            if mode == "batch":
                raise ValueError
            return value
        _JSON.decode(value)
        return json.encode({**envelope.attributes_of(headers, attributes), "data": Raw(value)})

    return structured


def _tenant_elsewhere(limits: Limits) -> Callable[[Any, envelope.Headers | None, FetchedRecord], str]:
    """Return a function that finds the tenant of an event without `tenantid`."""
    with_subject = limits.tenant_from == "subject"
    lookup = envelope.tenant_lookup(limits.tenant_from, limits.default_tenant)

    def tenant_elsewhere(whole: Any, headers: envelope.Headers | None, record: FetchedRecord) -> str:
        subject = whole.subject if with_subject else None
        if headers is None:
            headers = envelope.headers_of(record.headers)
        tenant_id = lookup(subject, headers, record.key)
        if tenant_id is None:
            raise ValueError
        return tenant_id

    return tenant_elsewhere


def _primary_reader(event_type: str, *, with_subject: bool) -> tuple[Callable[[bytes], Any], Finish | None]:
    """Return a reader of whole events of a type, data included, and the Finish that is left to apply to their data."""
    whole = _envelope_reader(Literal[event_type], WIRE[event_type], with_subject=with_subject)
    return whole, FINISH.get(event_type)


def _other_reader(event_types: frozenset[str], limits: Limits) -> Callable[[bytes], Any]:
    """Return a reader of whole events of these types; to those of a foreign type, which are skipped, it gives no data.

    It reads the envelope before the data, so it takes longer than a reader of one type.
    """
    readers = {event_type: _data_reader(event_type) for event_type in event_types}
    read = _envelope_reader(Text, Raw, with_subject=limits.tenant_from == "subject")
    foreign = None if limits.foreign_types == "ignore" else _refuse

    def read_other(value: bytes) -> Any:
        whole = read(value)
        of_type = readers.get(whole.type, foreign)
        whole.data = None if of_type is None else of_type(whole.data)
        return whole

    return read_other


def _refuse(_: Raw) -> NoReturn:
    raise LookupError


def _envelope_reader(event_type: Any, data: Any, *, with_subject: bool) -> Callable[[bytes], Any]:
    """Return a reader of events in the structured form, whose `type` and `data` are of these types."""
    fields: list[Any] = [
        ("specversion", Literal["1.0"]),
        ("id", Text),
        ("source", Text),
        ("type", event_type),
        ("data", data),
        ("time", Text | None, None),
        ("tenantid", Text | None, None),
        ("traceparent", Raw, ABSENT),
        ("tracestate", Raw, ABSENT),
    ]
    if with_subject:
        fields.append(("subject", Text | None, None))
    return json.Decoder(defstruct("_Whole", fields, gc=False)).decode


def _data_reader(event_type: str) -> Reader:
    read: Reader = json.Decoder(WIRE[event_type]).decode
    finish = FINISH.get(event_type)
    return read if finish is None else lambda raw: finish(read(raw))


def _check_texts(texts: tuple[object, ...], body: bytes) -> None:
    body.decode()  # msgspec does not look into the strings that it skips
    if not has_valid_texts(texts):
        raise ValueError
