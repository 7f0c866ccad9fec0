"""One Kafka record becomes an Event, or what is wrong with it (contract section 2).

There are two ways in. The quick one takes a good record in a microsecond or two and explains nothing; whatever it
does not take goes the careful way, field by field, which takes the few good ones left and names what is wrong.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from msgspec import Raw, Struct, convert, defstruct, json, structs

from goalworker.decoding import careful, envelope
from goalworker.decoding.record import FetchedRecord
from goalworker.decoding.wire import FINISH, WIRE, Finish, InvalidFieldError
from goalworker.domain import events
from goalworker.domain.text import Text

Pairs = envelope.Pairs
Wanted = Mapping[str, Callable[[str, Any], object]]
"""By the type of an event: whether anything wants one of this tenant with this data."""
Decoded = tuple[list[tuple[FetchedRecord, events.Event]], list[FetchedRecord]]
FastDecode = Callable[[Sequence[FetchedRecord], datetime, Wanted], Decoded]
PartitionOffset = tuple[int, int]
"""The partition and the offset that a record has in its topic."""


class Malformed(Struct, frozen=True):
    """Why a record is no event: a reason of contract section 4, where, and a sentence that quotes none of it.

    pointer is a JSON pointer into the value, or names a header: `header ce_id`.
    """

    reason: str
    pointer: str
    detail: str


class Limits(Struct, frozen=True):
    """What may come: size, time ahead of the clock, and where tenant and id are if not in the envelope (settings)."""

    max_bytes: int = 1_048_576
    max_future: timedelta = timedelta(minutes=5)
    default_tenant: str | None = None
    tenant_from: str = "tenantid"
    plain_json: bool = False
    plain_id: str = "id"


class Decoder:
    """Decodes the records of the topics in kinds, each with the CloudEvents types that it may carry.

    without_time lists, by topic, the offsets of the records whose timestamp stands in for a missing time; the caller
    drains it. ahead is how far the clock that decides what is in the future is ahead of this machine's.
    """

    def __init__(self, kinds: Mapping[str, frozenset[str]], limits: Limits) -> None:
        self.without_time: defaultdict[str, list[int]] = defaultdict(list)
        self.ahead = timedelta(0)
        self._limits = limits
        names = (*envelope.ATTRIBUTES, *(["subject"] if limits.tenant_from == "subject" else []))
        self._attributes = {name: f"ce_{name}" for name in names}
        self._elsewhere = envelope.tenant_lookup(limits.tenant_from, limits.default_tenant)
        self._quick = {topic: self._quick_way(topic, allowed) for topic, allowed in kinds.items()}
        self._careful = {topic: {kind: _CAREFUL[kind] for kind in allowed} for topic, allowed in kinds.items()}
        self._plain_kinds = {topic: _plain_kind(allowed) for topic, allowed in kinds.items()}

    def knows(self, topic: str) -> bool:
        """Say whether a topic is one of kinds."""
        return topic in self._quick

    def decode(
        self,
        topic: str,
        value: bytes | None,
        headers: envelope.Pairs,
        timestamp_ms: int,
        now: datetime,
        offset: int = -1,
        *,
        key: bytes | None = None,
        place: PartitionOffset | None = None,
    ) -> events.Event | Malformed | None:
        """Return the event that a record is, or what is wrong with it, or None for a tombstone; no bytes make it raise.

        Of a header that comes twice the last one counts, as of a JSON key. place is where the record was first read
        from its topic, the id of a value that has no other. KeyError: the topic is none of kinds.
        """
        if value is None:
            return None
        record = _Record(value, headers, timestamp_ms, offset, key=key)
        taken, _ = self._quick[topic]([record], self.latest(now), ANY_WANTED)
        return taken[0][1] if taken else self._carefully(topic, record, now, place)

    def quick(self, topic: str) -> FastDecode:
        """Return what takes the records of a topic that are good: those that anything wants, with their events.

        The second thing that it returns is what it leaves to decode(), tombstones included.
        """
        return self._quick[topic]

    def latest(self, now: datetime) -> datetime:
        """Return the last moment that an event may be dated when it is read now."""
        return now + self._limits.max_future

    def _quick_way(self, topic: str, kinds: frozenset[str]) -> FastDecode:
        # A closure with all that it needs at hand, and no call that could be spared: this is done for each record.
        read, finish = _quick_reader(kinds, with_subject="subject" in self._attributes)
        max_bytes, tenant_from = self._limits.max_bytes, self._limits.tenant_from
        default_tenant = self._limits.default_tenant if tenant_from == "tenantid" else None
        headers_of, trace_of, moment, absent = envelope.headers_of, envelope.trace_of, envelope.moment, envelope.ABSENT

        def take(records: Sequence[FetchedRecord], latest: datetime, wanted: Wanted) -> Decoded:
            taken: list[tuple[FetchedRecord, events.Event]] = []
            left: list[FetchedRecord] = []
            value: Any
            for record in records:
                value, by_name = record.value, None
                try:
                    if record.headers != _USUAL_HEADERS and record.headers:
                        by_name = headers_of(record.headers)
                        value = self._structured(value, by_name)
                    elif len(value) > max_bytes:
                        raise ValueError
                    whole = read(value)
                    kind, data, tenant_id, text = whole.type, whole.data, whole.tenantid or default_tenant, whole.time
                    if finish is not None:
                        data = finish(data)
                    # msgspec has seen to the rest of it: see events.time_of_text.
                    is_usual = text is not None and text[10] == "T" and text[-1] == "Z"
                    time = convert(text, datetime) if is_usual else moment(text, record.timestamp)
                    if tenant_id is None:
                        tenant_id = self._tenant_elsewhere(whole, by_name, record)
                    if time > latest:
                        raise ValueError
                    # In ASCII without escapes and DEL, JSON can say no control character: no need to look at each text.
                    if not value.isascii() or _BACKSLASH in value or _DEL in value:
                        _check_texts((whole.id, whole.source, tenant_id, *structs.astuple(data)), value)
                except _NOT_TAKEN:
                    left.append(record)
                    continue
                if text is None:
                    self.without_time[topic].append(record.offset)
                if wanted[kind](tenant_id, data):
                    if by_name is None and whole.traceparent is absent and whole.tracestate is absent:
                        trace = _NO_TRACE
                    else:
                        trace = trace_of(by_name or {}, whole.traceparent, whole.tracestate)
                    taken.append((record, events.Event(tenant_id, whole.source, whole.id, kind, time, data, *trace)))
            return taken, left

        return take

    def _structured(self, value: bytes, headers: envelope.Headers) -> bytes:
        """Return an event in the structured form as it is, one in the binary form as the structured one says it."""
        if len(value) > self._limits.max_bytes:
            raise ValueError
        mode = envelope.mode_of(headers)
        if mode != "binary":
            if mode == "batch":
                raise ValueError
            return value
        _JSON.decode(value)
        return json.encode({**envelope.attributes_of(headers, self._attributes), "data": Raw(value)})

    def _tenant_elsewhere(self, whole: Any, headers: envelope.Headers | None, record: FetchedRecord) -> str:
        subject = whole.subject if self._limits.tenant_from == "subject" else None
        if headers is None:
            headers = envelope.headers_of(record.headers)
        tenant_id = self._elsewhere(subject, headers, record.key)
        if tenant_id is None:
            raise ValueError
        return tenant_id

    def _carefully(
        self, topic: str, record: "_Record", now: datetime, place: PartitionOffset | None
    ) -> events.Event | Malformed:
        headers, form = envelope.headers_of(record.headers), careful.Form("structured", record.value)
        kind = self._plain_kinds[topic]
        plain: careful.Bare = "impossible" if kind is None else "taken" if self._limits.plain_json else "refused"
        try:
            form = careful.form_of(record.value, headers, self._limits.max_bytes, plain)
            if form.mode == "plain" and kind is not None:
                id_ = envelope.text_header(headers, envelope.canonical(self._limits.plain_id))
                found = careful.plain_envelope_of(form, kind, topic, id_, place)
            else:
                found, form = careful.envelope_of(form, headers, self._attributes)
            event = self._event(self._careful[topic], found, headers, record, now)
        except InvalidFieldError as error:
            return Malformed(error.reason, form.pointer(error.path), str(error))
        except RecursionError:
            return Malformed("invalid_json", "", "the value is nested too deep")
        if found.time is None:
            self.without_time[topic].append(record.offset)
        return event

    def _event(
        self,
        readers: Mapping[str, careful.Reader],
        found: careful.Envelope,
        headers: envelope.Headers,
        record: "_Record",
        now: datetime,
    ) -> events.Event:
        tenant_id = found.tenantid or self._tenant_of(found, headers, record.key)
        time = envelope.moment(found.time, record.timestamp)
        read = readers.get(found.type)
        if read is None:
            raise InvalidFieldError(
                "unexpected_type", "type", f"must be one of {', '.join(sorted(readers))} in this topic"
            )
        data = read(careful.data_of(found))
        if time - now > self._limits.max_future:
            seconds = self._limits.max_future.total_seconds()
            raise InvalidFieldError("future_time", "time", f"is more than {seconds:g} s ahead of the database's clock")
        trace = envelope.trace_of(headers, found.traceparent, found.tracestate)
        return events.Event(tenant_id, found.source, found.id, found.type, time, data, *trace)

    def _tenant_of(self, found: careful.Envelope, headers: envelope.Headers, key: bytes | None) -> str:
        tenant_from = self._limits.tenant_from
        subject = careful.text_of(found.subject, "subject") if tenant_from == "subject" else None
        tenant_id = self._elsewhere(subject, headers, key)
        if tenant_id is None:
            other = "" if tenant_from == "tenantid" else f", {_NO_TENANT[tenant_from.partition(':')[0]]}"
            rule = f"is missing{other}, and there is no default tenant"
            raise InvalidFieldError("invalid_envelope", "tenantid", rule)
        return tenant_id


class _Record(Struct, frozen=True, gc=False):
    """A record that was not fetched."""

    value: bytes
    headers: envelope.Pairs
    timestamp: int
    offset: int = -1
    timestamp_type: int = 0
    key: bytes | None = None


# What msgspec, datetime and this module raise about a record; a tombstone has no length.
_NOT_TAKEN: Final = (ValueError, LookupError, OverflowError, RecursionError, TypeError)

ANY_WANTED: Final[Wanted] = dict.fromkeys(events.DATA_OF_TYPE, lambda *_: True)

_CAREFUL: Final = {kind: careful.reader(kind) for kind in events.DATA_OF_TYPE}
_ABSENT: Final = envelope.ABSENT
_JSON: Final = json.Decoder(Raw)
_NO_TENANT: Final = {
    "subject": "so is `subject`",
    "header": "so is the header that EVENTS__TENANT_FROM names",
    "key-prefix": "the key does not begin with a tenant and a colon",
}
# What a sender by the book sends along with the structured form, and nothing else: no need to look closer.
_USUAL_HEADERS: Final = [("content-type", b"application/cloudevents+json")]
_NO_TRACE: Final[tuple[str | None, str | None]] = (None, None)
_BACKSLASH, _DEL = 0x5C, 0x7F


def _plain_kind(kinds: frozenset[str]) -> str | None:
    """Return the type that a value without an envelope has in a topic; a lifecycle topic has none."""
    return next((kind for kind in events.GOAL_TYPE_OF_EVENT if kind in kinds), None)


def _reader_of_whole(kind: Any, wire: Any, *, with_subject: bool) -> Callable[[bytes], Any]:
    """Return what reads an event in the structured form, its data in the same pass."""
    fields: list[Any] = [
        ("specversion", Literal["1.0"]),
        ("id", Text),
        ("source", Text),
        ("type", kind),
        ("data", wire),
        ("time", Text | None, None),
        ("tenantid", Text | None, None),
        ("traceparent", Raw, _ABSENT),
        ("tracestate", Raw, _ABSENT),
    ]
    if with_subject:
        fields.append(("subject", Text | None, None))
    return json.Decoder(defstruct("_Whole", fields, gc=False)).decode


def _quick_reader(kinds: frozenset[str], *, with_subject: bool) -> tuple[Callable[[bytes], Any], Finish | None]:
    """Return what reads a whole event, in one pass where its topic has one type, and what is left to do to its data."""
    if len(kinds) == 1:
        (kind,) = kinds
        whole = _reader_of_whole(Literal[kind], WIRE[kind], with_subject=with_subject)
        return whole, FINISH.get(kind)
    readers = {kind: _data_reader(kind) for kind in kinds}
    read = _reader_of_whole(Text, Raw, with_subject=with_subject)

    def read_any(value: bytes) -> Any:
        whole = read(value)
        whole.data = readers[whole.type](whole.data)
        return whole

    return read_any, None


def _data_reader(kind: str) -> careful.Reader:
    read: careful.Reader = json.Decoder(WIRE[kind]).decode
    finish = FINISH.get(kind)
    return read if finish is None else lambda raw: finish(read(raw))


def _check_texts(texts: tuple[object, ...], body: bytes) -> None:
    body.decode()  # msgspec does not look into the strings that it skips
    if not careful.has_good_texts(texts):
        raise ValueError
