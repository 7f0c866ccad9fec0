"""The envelope of an event: its headers, its tenant, its time and its trace (contract section 2)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from urllib import parse

from msgspec import Raw, ValidationError, json

from goalworker.decoding import wire
from goalworker.domain.text import TEXT_RULE, TIME_RULE, is_valid_text, parse_time

Headers = Mapping[str, bytes | None]
Pairs = Sequence[tuple[str, bytes | None]]
Mode = Literal["structured", "batch", "binary"] | None
"""The form that the headers name; None where they name no form."""

# --- headers ---

ATTRIBUTES: Final = ("specversion", "id", "source", "type", "time", "tenantid")
_TRACE: Final = ("traceparent", "tracestate")
_IGNORED: Final = ("subject", "datacontenttype", "dataschema")
_REMEMBERED_MAX: Final = 1_000
_REMEMBERED_LENGTH_MAX: Final = 64  # characters of a name
_canonical_names = {"content-type", *_TRACE, *(f"ce_{name}" for name in (*ATTRIBUTES, *_TRACE, *_IGNORED))}
"""Header names known to be canonical; names that senders use are added up to a limit, which bounds the memory."""


def headers_of(pairs: Pairs) -> Headers:
    """Return headers by canonical name; the last of several with one name counts."""
    headers = dict(pairs)
    if _canonical_names.issuperset(headers):
        return headers
    if any(canonical(name) != name for name in headers):
        return {canonical(name): value for name, value in pairs}
    if len(headers) + len(_canonical_names) <= _REMEMBERED_MAX:
        _canonical_names.update(name for name in headers if len(name) <= _REMEMBERED_LENGTH_MAX)
    return headers


def canonical(name: str) -> str:
    """Return the canonical name of a header: in lower case, and with `ce_` for `ce-`."""
    name = name.lower()
    return f"ce_{name[3:]}" if name.startswith("ce-") else name


def mode_of(headers: Headers) -> Mode:
    """Return the form of the event that the headers name."""
    content_type = headers.get("content-type")
    if content_type == b"application/cloudevents+json":
        return "structured"
    kind = content_type[:30].lower() if content_type else b""
    if kind.startswith(b"application/cloudevents-batch"):
        return "batch"
    if kind.startswith(b"application/cloudevents"):
        return "structured"
    return "binary" if "ce_specversion" in headers else None


def attributes_of(headers: Headers, names: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes in the headers; names maps each attribute to its header."""
    attributes = {}
    for name, header_name in names.items():
        header = headers.get(header_name)
        if header is not None:
            try:
                attributes[name] = header.decode()
            except UnicodeDecodeError:
                raise wire.InvalidFieldError("invalid_envelope", name, "must be UTF-8") from None
    return attributes


def attribute_headers(tenant_from: str) -> dict[str, str]:
    """Return the header of each attribute in the binary form; `subject` is one only where it holds the tenant."""
    names = (*ATTRIBUTES, "subject") if tenant_from == "subject" else ATTRIBUTES
    return {name: f"ce_{name}" for name in names}


def _utf8(value: bytes, path: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise wire.InvalidFieldError("invalid_envelope", path, "must be UTF-8") from None


# --- the tenant ---

TenantLookup = Callable[[str | None, Headers, bytes | None], str | None]
"""Finds a tenant by an event's subject, its headers and its key."""


def tenant_lookup(tenant_from: str, default_tenant: str | None) -> TenantLookup:
    """Return a function that finds the tenant of an event without `tenantid`, as `EVENTS__TENANT_FROM` says."""
    source, _, name = tenant_from.partition(":")
    name = canonical(name)
    finders: dict[str, tuple[str, TenantLookup]] = {
        "tenantid": ("tenantid", lambda *_: None),
        "subject": ("subject", lambda subject, *_: subject),
        "header": (f"header {name}", lambda _, headers, __: text_header(headers, name)),
        "key-prefix": ("key", lambda _, __, key: _prefix(key or b"")),
    }
    path, find = finders[source]

    def found(subject: str | None, headers: Headers, key: bytes | None) -> str | None:
        tenant_id = find(subject, headers, key)
        if tenant_id and not is_valid_text(tenant_id):
            raise wire.InvalidFieldError("invalid_envelope", path, TEXT_RULE)
        return tenant_id or default_tenant

    return found


def text_header(headers: Headers, name: str) -> str | None:
    """Return the text of a header, None where it is absent or empty."""
    value = headers.get(name)
    return _utf8(value, f"header {name}") if value else None


def tenant_of_key(key: bytes | None) -> str | None:
    """Return the tenant of a key `tenant:contact`, None if it is not a text."""
    try:
        return _prefix(key or b"") or None
    except wire.InvalidFieldError:
        return None


def _prefix(key: bytes) -> str:
    """Return the tenant of a key `tenant:contact`, each part percent-encoded; a key without a colon names no tenant."""
    prefix, colon, _ = key.partition(b":")
    return _utf8(parse.unquote_to_bytes(prefix), "key") if colon else ""


# --- the time ---

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(text: str | None, timestamp_ms: int) -> datetime:
    """Return an RFC 3339 time in UTC, rounded half up to the microsecond; without a text, the record's timestamp."""
    if text is not None:
        time = parse_time(text)
        if time is None:
            raise wire.InvalidFieldError("invalid_envelope", "time", TIME_RULE)
        return time
    try:
        if timestamp_ms >= 0:
            return _EPOCH + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        pass
    missing = "is missing, and the record has no timestamp to stand in for it"
    raise wire.InvalidFieldError("invalid_envelope", "time", missing)


# --- the trace ---

_TRACE_BYTES_MAX: Final = 512


def trace_of(headers: Headers, traceparent: Raw, tracestate: Raw) -> tuple[str | None, str | None]:
    """Return traceparent and tracestate, each from its header, else from its `ce_` header, else from the attribute."""
    return (
        _trace(headers, "traceparent", "ce_traceparent", traceparent),
        _trace(headers, "tracestate", "ce_tracestate", tracestate),
    )


def _trace(headers: Headers, name: str, ce_name: str, attribute: Raw) -> str | None:
    if (header := headers.get(name)) and (text := _trace_text(header)):
        return text
    if (header := headers.get(ce_name)) and (text := _trace_text(header)):
        return text
    return None if attribute is wire.ABSENT else _trace_text(_bytes_of(attribute))


def _bytes_of(attribute: Raw) -> bytes | None:
    try:
        return json.decode(attribute, type=str).encode()
    except ValidationError:
        return None


def _trace_text(value: bytes | None) -> str | None:
    if value and len(value) <= _TRACE_BYTES_MAX and value.isascii() and (text := value.decode()).isprintable():
        return text
    return None
