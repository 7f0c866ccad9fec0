"""Payload of a dead letter as a page shows it: cut, safe to show, and with the ids of contacts masked until a click.

A part that is shown masked is one in which every id of a contact was found. Where that is not sure, it stays hidden.
"""

import base64
import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib import parse

import aiokafka
import msgspec

from goalworker.domain.faults import printable
from goalworker.inspection import dead_letter_reading
from goalworker.pipeline import dead_letters

VALUE_CHARACTERS: Final = 4_096
PART_CHARACTERS: Final = 512
HEADERS_MAX: Final = 50
# A larger value is hidden until somebody asks for it: searching it for ids would keep the process from others.
MASKED_BYTES: Final = 256 * 1024
# Shorter ids are masked only where they are a whole text or number: parts of other texts would look like them.
PART_OF_TEXT: Final = 4

# Headers that name no contact unless by an id that the value names too. Any other one is hidden.
_ABOUT_NOBODY: Final = frozenset(
    {
        dead_letters.ORIGINAL_TOPIC,
        dead_letters.ORIGINAL_PARTITION,
        dead_letters.ORIGINAL_OFFSET,
        dead_letters.ORIGINAL_TIMESTAMP,
        dead_letters.ORIGINAL_GROUP,
        dead_letters.ERROR_REASON,
        dead_letters.ERROR_MESSAGE,
        dead_letters.REDRIVE_COUNT,
        *("content-type", "traceparent", "tracestate"),
        *(f"ce_{name}" for name in ("specversion", "type", "time", "tenantid")),
    }
)

Mask = Callable[[str], str]
"""Shortens the id of a contact."""


class Part(msgspec.Struct, frozen=True):
    """A key, a header or a value; text is None where it is hidden, size is None where there is nothing to show."""

    name: str
    text: str | None
    size: int | None
    is_cut: bool = False

    @property
    def is_hidden(self) -> bool:
        """Say whether it exists and is not shown."""
        return self.text is None and self.size is not None


class Letter(msgspec.Struct, frozen=True):
    """A dead letter with its payload; is_revealed says whether ids of contacts are shown."""

    described: dict[str, Any]
    key: Part
    headers: list[Part]
    more_headers: int
    value: Part
    is_revealed: bool


def letter(described: dict[str, Any], record: aiokafka.ConsumerRecord, mask: Mask, *, revealed: bool) -> Letter:
    """Return a dead letter for a page."""
    texts = _Texts() if revealed else _MaskedTexts(record.value, mask)
    headers = [
        _part(name, value, PART_CHARACTERS, texts.header(name, value or b""))
        for name, value in record.headers[:HEADERS_MAX]
    ]
    return Letter(
        described,
        _part("key", record.key, PART_CHARACTERS, texts.key(record.key or b"")),
        headers,
        max(0, len(record.headers) - HEADERS_MAX),
        _part("value", record.value, VALUE_CHARACTERS, texts.value(record.value or b"")),
        is_revealed=revealed,
    )


def described(record: aiokafka.ConsumerRecord, mask: Mask) -> dict[str, Any]:
    """Return a dead letter without its payload; in the sentence of its fault, ids are masked as in its header."""
    found = dead_letter_reading.describe(record)
    message = found["message"]
    return {**found, "message": message and _MaskedTexts(record.value, mask).masked(message)}


def _part(name: str, content: bytes | None, limit: int, text: str | None) -> Part:
    """Return a part whose text is cut to a number of characters."""
    name = _safe(name[:PART_CHARACTERS])
    if content is None or text is None:
        return Part(name, None, None if content is None else len(content))
    return Part(name, _safe(text[:limit]), len(content), is_cut=len(text) > limit)


def _safe(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


class _Texts:
    """Texts of a letter as they are, with more characters than are shown where they are longer; or base64."""

    def key(self, content: bytes) -> str | None:
        return _text_or_base64(content, PART_CHARACTERS)

    def header(self, _name: str, content: bytes) -> str | None:
        return _text_or_base64(content, PART_CHARACTERS)

    def value(self, content: bytes) -> str | None:
        return _text_or_base64(content, VALUE_CHARACTERS)


def _text_or_base64(content: bytes, limit: int) -> str:
    start = content[: 4 * (limit + 1)]
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(start, final=len(start) == len(content))
    except UnicodeDecodeError:
        return f"base64 {base64.b64encode(start).decode()}"


# --- masks ---

# A text or a number of JSON, wherever it stands.
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)


class _MaskedTexts(_Texts):
    """Texts with the ids masked that the value names; None where they must stay hidden."""

    def __init__(self, value: bytes | None, mask: Mask) -> None:
        self._mask = mask
        self._ids = sorted(_named_ids(value or b""), key=len, reverse=True)

    def key(self, content: bytes) -> str | None:
        """Mask all but what stands before a colon: a key is `tenant:contact`, or the contact."""
        text = _decoded(content)
        if text is None:
            return None
        tenant, colon, contact = text.rpartition(":")
        return f"{tenant}{colon}{self._mask(contact)}"

    def header(self, name: str, content: bytes) -> str | None:
        text = _decoded(content)
        return None if text is None or name.lower() not in _ABOUT_NOBODY else self.masked(text)

    def value(self, content: bytes) -> str | None:
        """Mask the ids in each text and number of JSON, however they are escaped."""
        if not self._ids:
            return None
        return _TOKEN.sub(lambda token: self._masked_token(token[0]), content.decode("utf-8-sig"))

    def _masked_token(self, token: str) -> str:
        text = json.loads(token, strict=False) if token.startswith('"') else token
        masked = self.masked(text)
        return token if masked == text else json.dumps(masked, ensure_ascii=False)

    def masked(self, text: str) -> str:
        """Return a text with the ids masked."""
        for id_ in self._ids:
            for written in (id_, parse.quote(id_, safe="")):
                if text == written:
                    return self._mask(id_)
                if len(written) >= PART_OF_TEXT:
                    text = text.replace(written, self._mask(id_))
        return text


def _decoded(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


class _Fields(list[tuple[str, Any]]):
    """Fields of an object, repeated ones too."""


def _named_ids(value: bytes) -> set[str]:
    """Return the ids of contacts in JSON; empty where a value is too large, no JSON, or names no contact."""
    if len(value) > MASKED_BYTES:
        return set()
    try:
        return set(_ids_in(json.loads(value.decode("utf-8-sig"), object_pairs_hook=_Fields, strict=False)))
    except (ValueError, RecursionError):
        return set()


def _ids_in(value: object, *, of_contact: bool = False) -> Iterator[str]:
    """Yield the ids in a value; of_contact: what is not an object or a list is one."""
    match value:
        case _Fields():
            for name, inner in value:
                yield from _ids_of(name.lower(), inner, of_contact=of_contact)
        case list():
            for inner in value:
                yield from _ids_in(inner, of_contact=of_contact)
        case str() | int() if of_contact and value != "":
            yield str(value)


def _ids_of(name: str, value: object, *, of_contact: bool) -> Iterator[str]:
    """Yield the ids in a field: of a contact, as senders may spell it, of a subject, or in encoded data."""
    if name == "data_base64" and isinstance(value, str):
        yield value
        yield from _named_ids(_decoded_base64(value))
    yield from _ids_in(value, of_contact=of_contact or "contact" in name or name == "subject")


def _decoded_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""
