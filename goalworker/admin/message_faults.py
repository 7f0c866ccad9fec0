"""Finding every fault of a message, where the decoder names the first: it is mended for the moment, and so on."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from goalworker.decoding import decoder, envelope

Decode = Callable[[bytes, envelope.Pairs], object]

_ABSENT: Final = object()
# One of these is right for each field of the contract; which, the decoder says.
_STAND_INS: Final[Sequence[object]] = ({}, 1, "1.0", "EUR", _ABSENT)


def faults(decoded: Decode, value: bytes, headers: envelope.Pairs, types: Sequence[str]) -> list[decoder.Malformed]:
    """Return the faults of a message in the order in which the decoder meets them; types are those of its topic."""
    found: list[decoder.Malformed] = []
    stand_ins: dict[str, Iterator[object]] = {}
    fault = decoded(value, headers)
    while isinstance(fault, decoder.Malformed):
        if fault.pointer not in stand_ins:
            found.append(fault)
            stand_ins[fault.pointer] = iter((*types, *_STAND_INS))
        # A text may pass where the decoder looks at types and fail where it looks closer: then the next one is tried.
        stand_in = next(stand_ins[fault.pointer], None)
        mended = None if stand_in is None else _mended(value, headers, fault.pointer, stand_in)
        if mended is None:
            break
        value, headers = mended
        fault = decoded(value, headers)
    return found


def _mended(value: bytes, headers: envelope.Pairs, pointer: str, stand_in: Any) -> tuple[bytes, envelope.Pairs] | None:
    """Return a message with something else at a pointer, None where that cannot be."""
    if pointer.startswith("header "):
        return value, _headers_with(headers, pointer.removeprefix("header "), stand_in)
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return None
    *path, last = pointer.split("/")[1:] or [""]
    inner = document
    for name in path:
        inner = inner.get(name) if isinstance(inner, dict) else None
    if not last or not isinstance(inner, dict):
        return None
    if stand_in is _ABSENT:
        inner.pop(last, None)
    else:
        inner[last] = stand_in
    return json.dumps(document).encode(), headers


def _headers_with(headers: envelope.Pairs, name: str, stand_in: Any) -> envelope.Pairs:
    others = [(known, value) for known, value in headers if known != name]
    return others if stand_in is _ABSENT else [*others, (name, str(stand_in).encode())]
