"""Forms of a field of `data` that senders use beside the one that its struct has (contract section 2)."""

import operator
import re
from functools import partial
from itertools import islice
from typing import Final

from msgspec import Raw, ValidationError, json

from goalworker.decoding.wire import ABSENT
from goalworker.domain.events import PRODUCT_IDS_MAX
from goalworker.domain.text import TEXT_RULE, is_valid_text

ID_RULE: Final = f"{TEXT_RULE}, or an integer"
_TRUE: Final = Raw(b"true")
_INTEGER: Final = re.compile(rb"-?[0-9]+")
_ENTRIES: Final = json.Decoder(list[str | int | None])
_STRING: Final = json.Decoder(str)


def is_id(name: str) -> bool:
    """Say whether a field of `data` is an id, which may be a JSON integer."""
    return name.endswith("_id")


def usual_form(name: str, raw: Raw) -> Raw:
    """Return the value of a field in the form that its struct has, and a faulty one as it is."""
    if is_id(name):
        return _as_text(raw)
    if name == "product_ids":
        return _without_nulls(raw)
    if name == "test":
        return raw if raw == _TRUE else ABSENT
    return _text_or_nothing(raw) if name == "starts_at" else raw


def integer_text(raw: Raw) -> str | None:
    """Return the decimal text of a JSON integer, None for any other JSON."""
    token = bytes(raw)
    if not _INTEGER.fullmatch(token):
        return None
    return "0" if token == b"-0" else token.decode()


def _as_text(raw: Raw) -> Raw:
    text = integer_text(raw)
    return raw if text is None else Raw(f'"{text}"'.encode())


def _without_nulls(raw: Raw) -> Raw:
    try:
        entries = _ENTRIES.decode(raw)
    except ValidationError:
        return raw
    # Without a step of Python for each entry, since a record may have very many. One more than are allowed is refused
    # like any number of them.
    ids = islice(filter(_is_given, entries), PRODUCT_IDS_MAX + 1)
    return Raw(json.encode([*map(str, ids)]))


_is_given: Final = partial(operator.is_not, None)


def _text_or_nothing(raw: Raw) -> Raw:
    try:
        return raw if is_valid_text(_STRING.decode(raw)) else ABSENT
    except ValidationError:
        return ABSENT
