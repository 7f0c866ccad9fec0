"""The careful way to decode a record: any form that a sender may use, field by field, or the fault in it."""

import binascii
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final, Literal, TypeVar

from msgspec import DecodeError, Raw, Struct, ValidationError, defstruct, json, structs

from goalworker.decoding import envelope, lenient
from goalworker.decoding.wire import ABSENT, FINISH, RULES, WIRE, InvalidFieldError, Reader, has_valid_texts
from goalworker.domain import events
from goalworker.domain.text import TEXT_RULE, Text, is_valid_text


class Envelope(Struct, gc=False):
    """An event in the structured form; raw attributes are decoded only where they are used."""

    specversion: Literal["1.0"]
    id: Text
    source: Text
    type: Text
    time: Text | None = None
    tenantid: Text | None = None
    subject: Raw = ABSENT
    traceparent: Raw = ABSENT
    tracestate: Raw = ABSENT
    data: Raw = ABSENT
    data_base64: Raw = ABSENT


class Plain(Struct, gc=False):
    """Attributes that a value without an envelope may hold among its data."""

    id: Raw = ABSENT
    time: Text | None = None
    tenantid: Text | None = None
    subject: Raw = ABSENT
    traceparent: Raw = ABSENT
    tracestate: Raw = ABSENT


class Form(Struct, frozen=True):
    """The form of a record: the JSON to read, and the locations of its parts in the original record.

    attributes and data are prefixes of pointers. No pointer leads into a text that holds JSON, be it the whole value or
    the data.
    """

    mode: Literal["structured", "binary", "plain"]
    body: bytes
    attributes: str = "/"
    data: str = "/data"
    all_in_text: bool = False
    data_in_text: bool = False

    def pointer(self, path: str) -> str:
        """Return the pointer of a path of the structured form in this one; headers and the key keep their names."""
        name, _, rest = path.partition("/")
        if not path or path == "key" or path.startswith("header "):
            return path
        if self.all_in_text:
            return self.data
        if name != "data":
            return f"{self.attributes}{path}"
        return self.data if self.data_in_text or not rest else f"{self.data}/{rest}"


_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_WRAPPED: Final = (
    "is wrapped in `schema` and `payload` by Kafka Connect; set value.converter.schemas.enable=false there"
)
_PLAIN_HINT: Final = "GOALWORKER_EVENTS__PLAIN_JSON=true here"
PlainJson = Literal["enabled", "disabled", "impossible"]
"""Whether a value without an envelope is accepted; it cannot be in a topic without a goal type."""


def form_of(value: bytes, headers: envelope.Headers, max_bytes: int, plain: PlainJson) -> Form:
    """Return the form of a record, or raise InvalidFieldError."""
    if len(value) > max_bytes:
        raise InvalidFieldError("too_large", "", f"has {len(value)} bytes; {max_bytes} are allowed")
    if value.startswith(b"\x00"):
        raise InvalidFieldError("unsupported_wire_format", "", "begins with 0x00, as from a schema registry; send JSON")
    body, mode = value.removeprefix(_BYTE_ORDER_MARK), envelope.mode_of(headers)
    check_json(body)
    if mode == "binary":
        return Form("binary", body, "header ce_", "")
    form = _one_of_array(body, mode)
    if mode is None and not any(name.startswith("ce_") for name in headers):
        if plain == "enabled":
            return _plain_form(form)
        _check_envelope(form.body, can_be_enabled=plain == "disabled")
    return form


def _check_envelope(body: bytes, *, can_be_enabled: bool) -> None:
    """Raise InvalidFieldError for a JSON object without an envelope, with a remedy."""
    if _connect_payload(body) is not None:
        raise InvalidFieldError("invalid_envelope", "", _WRAPPED + (f", or {_PLAIN_HINT}" if can_be_enabled else ""))
    if can_be_enabled and body.lstrip().startswith(b"{") and not _has_specversion(body):
        rule = f"is missing; it {RULES['specversion']}. For JSON without an envelope set {_PLAIN_HINT}"
        raise InvalidFieldError("invalid_envelope", "specversion", rule)


def _one_of_array(body: bytes, mode: envelope.Mode) -> Form:
    """Return the form of a single event, which may be the only one of an array."""
    if not body.lstrip().startswith(b"["):
        if mode == "batch":
            raise InvalidFieldError("invalid_envelope", "", "is a batch by its content-type, but not an array")
        return Form("structured", body)
    try:
        (event,) = _ONE.decode(body)
    except ValidationError:
        raise InvalidFieldError("invalid_envelope", "", "is an array; send each event alone") from None
    return Form("structured", bytes(event), "/0/", "/0/data")


def _plain_form(form: Form) -> Form:
    """Return the form of a value that need not be a CloudEvent, unwrapped from Connect's schema and from a text."""
    body, prefix, in_text = form.body, form.attributes.removesuffix("/"), False
    wrapped = _connect_payload(body)
    if wrapped is not None:
        body, prefix = bytes(wrapped), f"{prefix}/payload"
    if body.lstrip().startswith(b'"'):
        body, in_text = json.decode(body, type=str).encode(), True
        try:
            check_json(body)
        except (InvalidFieldError, RecursionError):
            raise InvalidFieldError("invalid_data", "", "is a text without JSON in it") from None
    if _has_specversion(body):
        return Form("structured", body, f"{prefix}/", prefix if in_text else f"{prefix}/data", in_text)
    return Form("plain", body, f"{prefix}/", prefix, in_text)


def _connect_payload(body: bytes | Raw) -> Raw | None:
    try:
        payload_: Raw = _CONNECT.decode(body).payload
    except ValidationError:
        return None
    return payload_


def _has_specversion(body: bytes) -> bool:
    try:
        found: Raw = _FIELDS[Envelope](body).specversion
    except ValidationError:
        return False
    return found != ABSENT


_ONE: Final = json.Decoder(tuple[Raw])
_CONNECT: Final[Any] = json.Decoder(
    defstruct("_Connect", [("schema", Raw), ("payload", Raw)], forbid_unknown_fields=True, gc=False)
)


def envelope_of(form: Form, headers: envelope.Headers, attributes: Mapping[str, str]) -> tuple[Envelope, Form]:
    """Return the envelope of an event in the structured or the binary form, and its form with the place of the data."""
    body = form.body
    if form.mode == "binary":
        body = json.encode({**envelope.attributes_of(headers, attributes), "data": Raw(body)})
    found = _read(Envelope, body, "invalid_envelope", "")
    if found.data == ABSENT and not _is_absent(found.data_base64):
        form = structs.replace(form, data=f"{form.attributes}data_base64", data_in_text=True)
    return found, form


def data_of(found: Envelope) -> Raw:
    """Return the data of an event, decoded from base64 where it has no other."""
    if found.data != ABSENT or _is_absent(found.data_base64):
        return found.data
    try:
        text = json.decode(found.data_base64, type=str)
        decoded = binascii.a2b_base64(text, strict_mode=True).removeprefix(_BYTE_ORDER_MARK)
        check_json(decoded)
    except (ValueError, RecursionError):
        raise InvalidFieldError("invalid_data", "data_base64", "must be JSON in base64") from None
    return Raw(decoded)


def plain_envelope_of(
    form: Form, event_type: str, topic: str, id_: str | None, position: tuple[int, int] | None
) -> Envelope:
    """Return an envelope for a value without one; id_ is the id in its header, position its partition and offset."""
    if not form.body.lstrip().startswith(b"{"):
        raise InvalidFieldError("invalid_data", "data", "must be a JSON object")
    found = _read(Plain, form.body, "invalid_envelope", "")
    if id_ is None:
        id_ = _own_id(found.id)
    if id_ is None and position is not None:
        id_ = f"{topic}/{position[0]}/{position[1]}"
    if id_ is None or not is_valid_text(id_):
        raise InvalidFieldError("invalid_envelope", "id", TEXT_RULE)
    attributes = structs.asdict(found) | {"id": id_}
    return Envelope(specversion="1.0", source=f"kafka:{topic}", type=event_type, data=Raw(form.body), **attributes)


def _own_id(raw: Raw) -> str | None:
    number = lenient.integer_text(raw)
    return text_of(raw, "id") if number is None else number


def text_of(raw: Raw, path: str) -> str | None:
    """Return an optional text attribute, None where it is absent or empty."""
    if _is_absent(raw):
        return None
    try:
        text = json.decode(raw, type=str)
    except ValidationError:
        text = ""
    if not is_valid_text(text):
        raise InvalidFieldError("invalid_envelope", path, TEXT_RULE)
    return text


def reader(event_type: str) -> Reader:
    """Return a reader of the data of a CloudEvents type."""
    read_wire, finish = partial(_read_data, WIRE[event_type]), FINISH.get(event_type)
    return read_wire if finish is None else lambda raw: finish(read_wire(raw))


def _read_data(wire: type["_S"], raw: Raw) -> Any:
    try:
        return _read(wire, bytes(raw), "invalid_data", _DATA)
    except InvalidFieldError:
        if _connect_payload(raw) is not None:
            raise InvalidFieldError("invalid_data", "data", _WRAPPED) from None
        raise


# --- field by field ---

_S = TypeVar("_S", bound=Struct)
_JSON: Final = json.Decoder(Raw)
_EMPTY_TEXT: Final = Raw(b'""')
_DATA: Final = "data"  # path of the only struct whose fields may have several forms


def _is_absent(raw: Raw) -> bool:
    return raw in (ABSENT, _EMPTY_TEXT)


def check_json(value: bytes) -> None:
    """Raise InvalidFieldError for a value that is not JSON in UTF-8."""
    try:
        value.decode()
        _JSON.decode(value)
    except UnicodeDecodeError as error:
        raise InvalidFieldError("invalid_json", "", f"is not UTF-8: byte {error.start} is wrong") from None
    except DecodeError as error:
        raise InvalidFieldError(
            "invalid_json", "", f"is not JSON: {str(error).removeprefix('JSON is malformed: ')}"
        ) from None


def _fields_of(wire: type[Struct]) -> Callable[[bytes], Struct]:
    """Return a decoder that finds the fields of a struct, still raw, in a JSON object and drops all others."""
    fields: list[Any] = [(name, Raw, ABSENT) for name in wire.__struct_fields__]
    return json.Decoder(defstruct("_Fields", fields, gc=False)).decode


_STRUCTS: Final[tuple[type[Struct], ...]] = (Envelope, Plain, events.EventReference, *WIRE.values())
_FIELDS: Final[Mapping[type[Struct], Callable[[bytes], Any]]] = {struct: _fields_of(struct) for struct in _STRUCTS}


def _read(wire: type[_S], value: bytes, reason: str, path: str) -> _S:
    """Return the struct of a JSON object, null meaning absent, or raise InvalidFieldError about its first bad field."""
    check_json(value)
    try:
        fields = _FIELDS[wire](value)
    except ValidationError:
        raise InvalidFieldError(reason, path, "must be a JSON object") from None
    values = {}
    for field in _fields(wire):
        where = f"{path}/{field.name}" if path else field.name
        raw = getattr(fields, field.name)
        if path == _DATA:
            raw = lenient.usual_form(field.name, raw)
        if not (raw == ABSENT or (raw == _EMPTY_TEXT and field.type == (Text | None))):
            values[field.name] = _field(raw, field.type, reason, where)
        elif field.required:
            raise InvalidFieldError(reason, where, f"is missing; it {_rule(where)}")
    return wire(**values)


# msgspec inspects a type anew at each call, which takes longer than decoding a field.
_fields: Final = cache(structs.fields)
_decoder: Final = cache(json.Decoder)


def _field(raw: Raw, type_: Any, reason: str, where: str) -> Any:
    if type_ is Raw:
        return raw
    if type_ == (events.EventReference | None):
        return _reference(raw, reason, where)
    try:
        found = _decoder(type_).decode(raw)
    except ValidationError:
        raise InvalidFieldError(reason, where, _rule(where)) from None
    if not has_valid_texts(found):
        raise InvalidFieldError(reason, where, _rule(where))
    return found


def _reference(raw: Raw, reason: str, where: str) -> events.EventReference:
    if not bytes(raw).startswith(b"{"):
        raise InvalidFieldError(reason, where, _rule(where))
    return _read(events.EventReference, bytes(raw), reason, where)


def _rule(where: str) -> str:
    path, _, name = where.rpartition("/")
    return lenient.ID_RULE if path == _DATA and lenient.is_id(name) else RULES.get(name, TEXT_RULE)
