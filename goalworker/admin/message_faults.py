"""Search for every fault of a message: the decoder names one, which is repaired with a stand-in to find the next."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from goalworker.decoding import decoder, envelope

Decode = Callable[[bytes, envelope.Pairs], object]

_ABSENT: Final = object()
# For each field of the contract, the decoder accepts one of these. An object comes last, because it has faults of its
# own where the field may be absent.
_STAND_INS: Final[Sequence[object]] = (1, "1.0", "EUR", _ABSENT, {})


def faults(decode: Decode, value: bytes, headers: envelope.Pairs, types: Sequence[str]) -> list[decoder.Malformed]:
    """Return the faults of a message in the decoder's order; types are the event types of its topic."""
    found: list[decoder.Malformed] = []
    stand_ins: dict[str, Iterator[object]] = {}
    fault = decode(value, headers)
    while isinstance(fault, decoder.Malformed):
        if fault.pointer not in stand_ins:
            found.append(fault)
            stand_ins[fault.pointer] = iter((*types, *_STAND_INS))
        # A stand-in may pass the check of types and fail a closer one: then the next stand-in is tried.
        stand_in = next(stand_ins[fault.pointer], None)
        repaired = None if stand_in is None else _repaired(value, headers, fault.pointer, stand_in)
        if repaired is None:
            break
        value, headers = repaired
        fault = decode(value, headers)
    return found


def _repaired(
    value: bytes, headers: envelope.Pairs, pointer: str, stand_in: Any
) -> tuple[bytes, envelope.Pairs] | None:
    """Return a message with a stand-in at a pointer, None if it cannot be put there."""
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
    others = [(other, value) for other, value in headers if other != name]
    return others if stand_in is _ABSENT else [*others, (name, str(stand_in).encode())]
