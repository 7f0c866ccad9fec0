"""One Kafka record becomes an Event, or what is wrong with it (contract section 2).

There are two ways in. The quick one takes a good record in a microsecond or two and explains nothing; whatever it
does not take goes the careful way, field by field, which takes the few good ones left and names what is wrong.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Literal, TypeVar

from msgspec import DecodeError, Raw, Struct, ValidationError, convert, defstruct, json, structs

from goalworker import events, parsed, payload

Data = events.GoalData | events.LifecycleData
Reader = Callable[[Raw], Data]
Headers = Mapping[str, bytes | None]
Pairs = Sequence[tuple[str, bytes | None]]
Wanted = Mapping[str, Callable[[str, Any], object]]
"""By the type of an event: whether anything wants one of this tenant with this data."""
Taken = tuple[list[tuple[parsed.Fetched, events.Event]], list[parsed.Fetched]]
Quick = Callable[[Sequence[parsed.Fetched], datetime, Wanted], Taken]


class Malformed(Struct, frozen=True):
    """Why a record is no event: a reason of contract section 4, where, and a sentence that quotes none of it.

    pointer is a JSON pointer into the value, or names a header: `header ce_id`.
    """

    reason: str
    pointer: str
    detail: str


class Limits(Struct, frozen=True):
    """How large a value may be, how far ahead of the clock a time, and the tenant where an event names none."""

    max_bytes: int = 1_048_576
    max_future: timedelta = timedelta(minutes=5)
    default_tenant: str | None = None


class Decoder:
    """Decodes the records of the topics in kinds, each with the CloudEvents types that it may carry.

    without_time lists, by topic, the offsets of the records whose timestamp stands in for a missing time; the caller
    drains it.
    """

    def __init__(self, kinds: Mapping[str, frozenset[str]], limits: Limits) -> None:
        self.without_time: defaultdict[str, list[int]] = defaultdict(list)
        self._limits = limits
        self._quick = {topic: self._quick_way(topic, allowed) for topic, allowed in kinds.items()}
        self._careful = {topic: {kind: _CAREFUL[kind] for kind in allowed} for topic, allowed in kinds.items()}

    def knows(self, topic: str) -> bool:
        """Say whether a topic is one of kinds."""
        return topic in self._quick

    def decode(
        self, topic: str, value: bytes | None, headers: Pairs, timestamp_ms: int, now: datetime, offset: int = -1
    ) -> events.Event | Malformed | None:
        """Return the event that a record is, or what is wrong with it, or None for a tombstone; no bytes make it raise.

        Of a header that comes twice the last one counts, as of a JSON key. KeyError: the topic is none of kinds.
        """
        if value is None:
            return None
        record = _Record(value, headers, timestamp_ms, offset)
        taken, _ = self._quick[topic]([record], self.latest(now), ANY_WANTED)
        return taken[0][1] if taken else self._carefully(topic, record, dict(headers), now)

    def quick(self, topic: str) -> Quick:
        """Return what takes the records of a topic that are good: those that anything wants, with their events.

        The second thing that it returns is what it leaves to decode(), tombstones included.
        """
        return self._quick[topic]

    def latest(self, now: datetime) -> datetime:
        """Return the last moment that an event may be dated when it is read now."""
        return now + self._limits.max_future

    def _quick_way(self, topic: str, kinds: frozenset[str]) -> Quick:
        # A closure with all that it needs at hand, and no call that could be spared: this is done for each record.
        read, finish = _quick_reader(kinds)
        max_bytes, default_tenant = self._limits.max_bytes, self._limits.default_tenant

        def take(records: Sequence[parsed.Fetched], latest: datetime, wanted: Wanted) -> Taken:
            taken: list[tuple[parsed.Fetched, events.Event]] = []
            left: list[parsed.Fetched] = []
            value: Any
            for record in records:
                value, by_name = record.value, None
                try:
                    if record.headers != _USUAL_HEADERS and record.headers:
                        by_name = dict(record.headers)
                        value = self._structured(value, by_name)
                    elif len(value) > max_bytes:
                        raise ValueError
                    whole = read(value)
                    kind, data, tenant_id, text = whole.type, whole.data, whole.tenantid or default_tenant, whole.time
                    if finish is not None:
                        data = finish(data)
                    # msgspec has seen to the rest of it: see events.time_of_text.
                    is_usual = text is not None and text[10] == "T" and text[-1] == "Z"
                    time = convert(text, datetime) if is_usual else _moment(text, record.timestamp)
                    if time > latest or tenant_id is None:
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
                    trace = _NO_TRACE if by_name is None else _trace_of(by_name)
                    taken.append((record, events.Event(tenant_id, whole.source, whole.id, kind, time, data, *trace)))
            return taken, left

        return take

    def _carefully(self, topic: str, record: "_Record", headers: Headers, now: datetime) -> events.Event | Malformed:
        try:
            envelope = _read(_Envelope, self._structured(record.value, headers), "invalid_envelope", "")
            event = self._event(self._careful[topic], envelope, headers, record.timestamp, now)
        except payload.WrongError as error:
            return Malformed(error.reason, _pointer(error.path, headers), str(error))
        except RecursionError:
            return Malformed("invalid_json", "", "the value is nested too deep")
        if envelope.time is None:
            self.without_time[topic].append(record.offset)
        return event

    def _structured(self, value: bytes, headers: Headers) -> bytes:
        """Return the event in the structured form, whichever form it has."""
        if len(value) > self._limits.max_bytes:
            raise payload.WrongError("too_large", "", f"has {len(value)} bytes; {self._limits.max_bytes} are allowed")
        if value.startswith(b"\x00"):
            raise payload.WrongError(
                "unsupported_wire_format", "", "begins with 0x00, as from a schema registry; send JSON"
            )
        if not headers or not _is_binary(headers):
            return value
        _check_json(value)
        return json.encode({**_attributes(headers), "data": Raw(value)})

    def _event(
        self, readers: Mapping[str, Reader], envelope: "_Envelope", headers: Headers, timestamp_ms: int, now: datetime
    ) -> events.Event:
        tenant_id = envelope.tenantid or self._limits.default_tenant
        if tenant_id is None:
            raise payload.WrongError("invalid_envelope", "tenantid", "is missing, and there is no default tenant")
        time = _moment(envelope.time, timestamp_ms)
        read = readers.get(envelope.type)
        if read is None:
            raise payload.WrongError(
                "unexpected_type", "type", f"must be one of {', '.join(sorted(readers))} in this topic"
            )
        data = read(envelope.data)
        if time - now > self._limits.max_future:
            seconds = self._limits.max_future.total_seconds()
            raise payload.WrongError("future_time", "time", f"is more than {seconds:g} s ahead of the clock")
        return events.Event(tenant_id, envelope.source, envelope.id, envelope.type, time, data, *_trace_of(headers))


class _Record(Struct, frozen=True, gc=False):
    """A record that was not fetched."""

    value: bytes
    headers: Pairs
    timestamp: int
    offset: int = -1
    timestamp_type: int = 0
    key: bytes | None = None


# What msgspec, datetime and this module raise about a record; a tombstone has no length.
_NOT_TAKEN: Final = (ValueError, LookupError, OverflowError, RecursionError, TypeError)

ANY_WANTED: Final[Wanted] = dict.fromkeys(events.DATA_OF_TYPE, lambda *_: True)

# --- the envelope ---

_NULL: Final = Raw(b"null")


def _reader_of_whole(kind: Any, wire: Any) -> Callable[[bytes], Any]:
    """Return what reads an event in the structured form, its data in the same pass."""
    fields: list[Any] = [
        ("specversion", Literal["1.0"]),
        ("id", events.Text),
        ("source", events.Text),
        ("type", kind),
        ("data", wire),
        ("time", events.Text | None, None),
        ("tenantid", events.Text | None, None),
    ]
    return json.Decoder(defstruct("_Whole", fields, gc=False)).decode


class _Envelope(Struct, gc=False):
    specversion: Literal["1.0"]
    id: events.Text
    source: events.Text
    type: events.Text
    time: events.Text | None = None
    tenantid: events.Text | None = None
    data: Raw = _NULL


_HEADER_OF_ATTRIBUTE: Final = {name: f"ce_{name}" for name in _Envelope.__struct_fields__ if name != "data"}
# What a sender by the book sends along with the structured form, and nothing else: no need to look closer.
_USUAL_HEADERS: Final = [("content-type", b"application/cloudevents+json")]
_NO_TRACE: Final[tuple[str | None, str | None]] = (None, None)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TRACE_BYTES_MAX: Final = 512
_BACKSLASH, _DEL = 0x5C, 0x7F


def _is_binary(headers: Headers) -> bool:
    content_type = headers.get("content-type")
    if content_type == b"application/cloudevents+json":
        return False
    kind = content_type[:30].lower() if content_type else b""
    if kind.startswith(b"application/cloudevents-batch"):
        raise payload.WrongError("invalid_envelope", "", "is a batch, says its content-type; send each event alone")
    return "ce_specversion" in headers and not kind.startswith(b"application/cloudevents")


def _attributes(headers: Headers) -> dict[str, str]:
    attributes = {}
    for name, header_name in _HEADER_OF_ATTRIBUTE.items():
        header = headers.get(header_name)
        if header is not None:
            try:
                attributes[name] = header.decode()
            except UnicodeDecodeError:
                raise payload.WrongError("invalid_envelope", name, "must be UTF-8") from None
    return attributes


def _moment(text: str | None, timestamp_ms: int) -> datetime:
    """Return an RFC 3339 time, or for want of one the record's, in UTC, rounded half up to the microsecond."""
    if text is not None:
        time = events.time_of_text(text)
        if time is None:
            raise payload.WrongError("invalid_envelope", "time", payload.RULES["time"])
        return time
    try:
        if timestamp_ms >= 0:
            return _EPOCH + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        pass
    missing = "is missing, and the record has no timestamp to stand in for it"
    raise payload.WrongError("invalid_envelope", "time", missing)


def _trace_of(headers: Headers) -> tuple[str | None, str | None]:
    return _trace(headers.get("traceparent")), _trace(headers.get("tracestate"))


def _trace(header: bytes | None) -> str | None:
    if header and len(header) <= _TRACE_BYTES_MAX and header.isascii() and (text := header.decode()).isprintable():
        return text
    return None


def _reader(kind: str, read: Callable[[type], Callable[[Raw], Any]]) -> Reader:
    read_wire, finish = read(payload.WIRE[kind]), payload.FINISH.get(kind)
    return read_wire if finish is None else lambda raw: finish(read_wire(raw))


def _quick_reader(kinds: frozenset[str]) -> tuple[Callable[[bytes], Any], payload.Finish | None]:
    """Return what reads a whole event, in one pass where its topic has one type, and what is left to do to its data."""
    if len(kinds) == 1:
        (kind,) = kinds
        return _reader_of_whole(Literal[kind], payload.WIRE[kind]), payload.FINISH.get(kind)
    readers = {kind: _reader(kind, lambda wire: json.Decoder(wire).decode) for kind in kinds}
    read = _reader_of_whole(events.Text, Raw)

    def read_any(value: bytes) -> Any:
        whole = read(value)
        whole.data = readers[whole.type](whole.data)
        return whole

    return read_any, None


def _check_texts(texts: tuple[object, ...], body: bytes) -> None:
    body.decode()  # msgspec does not look into the strings that it skips
    if not _has_good_texts(texts):
        raise ValueError


def _has_good_texts(value: object) -> bool:
    if isinstance(value, str):
        return events.is_text(value)
    return not isinstance(value, tuple) or all(map(_has_good_texts, value))


# --- the careful way ---

_S = TypeVar("_S", bound=Struct)
_JSON: Final = json.Decoder(Raw)


def _check_json(value: bytes) -> None:
    try:
        value.decode()
        _JSON.decode(value)
    except UnicodeDecodeError as error:
        raise payload.WrongError("invalid_json", "", f"is not UTF-8: byte {error.start} is wrong") from None
    except DecodeError as error:
        raise payload.WrongError(
            "invalid_json", "", f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}"
        ) from None


def _fields_of(wire: type[Struct]) -> Callable[[bytes], Struct]:
    """Return what finds the fields of a struct in a JSON object; of those that it does not know nothing is kept."""
    fields: list[Any] = [(name, Raw, _NULL) for name in wire.__struct_fields__]
    return json.Decoder(defstruct("_Fields", fields, gc=False)).decode


_FIELDS: Final = {wire: _fields_of(wire) for wire in (_Envelope, *payload.WIRE.values())}


def _read(wire: type[_S], value: bytes, reason: str, path: str) -> _S:
    """Return the struct that a JSON object makes, null being absent, or raise WrongError about the first bad field."""
    _check_json(value)
    try:
        fields = _FIELDS[wire](value)
    except ValidationError:
        raise payload.WrongError(reason, path, "must be a JSON object") from None
    values = {}
    for field in structs.fields(wire):
        where, rule = f"{path}/{field.name}" if path else field.name, payload.RULES.get(field.name, payload.TEXT_RULE)
        raw = getattr(fields, field.name)
        if raw != _NULL:
            try:
                found = json.decode(raw, type=field.type)
            except ValidationError:
                raise payload.WrongError(reason, where, rule) from None
            if not _has_good_texts(found):
                raise payload.WrongError(reason, where, rule)
            values[field.name] = found
        elif field.required:
            raise payload.WrongError(reason, where, f"is missing; it {rule}")
    return wire(**values)


def _read_data(wire: type[_S], raw: Raw) -> _S:
    return _read(wire, bytes(raw), "invalid_data", "data")


_CAREFUL: Final = {kind: _reader(kind, lambda wire: partial(_read_data, wire)) for kind in events.DATA_OF_TYPE}


def _pointer(path: str, headers: Headers) -> str:
    if not path or not headers or not _is_binary(headers):
        return f"/{path}" if path else ""
    return f"/{path}".removeprefix("/data") if path.startswith("data") else f"header ce_{path}"
