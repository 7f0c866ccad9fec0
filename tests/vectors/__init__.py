"""Records that other software produced; tests/vectors/README.md says how."""

import base64
import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).parent / "senders.jsonl"
PRODUCERS: Final = Path(__file__).parent / "producers.jsonl"
"""Record batches as a broker keeps them."""


class Vector(NamedTuple):
    """Record, byte for byte."""

    source: str
    form: str
    topic: str
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes


def of(source: str) -> list[Vector]:
    """Return the records of the sources whose names begin with a prefix."""
    return [vector for vector in read() if vector.source.startswith(source)]


def read() -> list[Vector]:
    """Return all records."""
    return [_vector(json.loads(line)) for line in FILE.read_text().splitlines()]


def _vector(row: dict[str, Any]) -> Vector:
    headers = tuple((name, _bytes(value)) for name, value in row["headers"])
    return Vector(row["source"], row["form"], row["topic"], _bytes(row["key"]), headers, _bytes(row["value"]) or b"")


def _bytes(coded: str | None) -> bytes | None:
    return None if coded is None else base64.b64decode(coded, validate=True)
