"""Curves that show how speed and latency grow, taken from the results. Pure."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "growth"


@dataclass(frozen=True, slots=True)
class Curve:
    """Picture of a measured value (y) by a varied one, as (x, median, min, max)."""

    name: str
    title: str
    upright: str
    level: str
    points: Sequence[tuple[float, float, float, float]]
    scale: str = "linear"
    """Of what is varied, as matplotlib calls it."""

    @property
    def file(self) -> Path:
        """Return the file of the picture."""
        return FOLDER / f"{self.name}.svg"

    @property
    def mark(self) -> str:
        """Return a digest of the data, which the picture contains, so that an outdated picture is found."""
        told = [self.title, self.upright, self.level, *self.points]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


# Name, part of the results, varied value, in words.
_SPEEDS = (
    ("goals", "goals", "goals", "goals", "log"),
    ("enrollments", "enrollments", "enrollments", "enrollments", "log"),
    ("batches", "batches", "records", "records in a batch at most", "log"),
    ("workers", "workers", "workers", "workers, on two processors with Kafka and PostgreSQL", "linear"),
    ("hits", "hits", "hits_percent", "percent of the events that achieve and exit", "symlog"),
)


def of(results: Mapping[str, Any]) -> Iterator[Curve]:
    """Yield a curve for each part that was measured."""
    for name, part, varied, words, scale in _SPEEDS:
        if part in results:
            points = [(row[varied], *_spread(row["events_per_second"])) for row in results[part]]
            yield Curve(name, f"Speed by {words.split(',')[0]}", "events/s", words, points, scale)
    if "goals" in results:
        yield _memory(results["goals"])


def _memory(rows: Sequence[Mapping[str, Any]]) -> Curve:
    points = [(row["goals"], row["peak_mb"], row["resting_mb"], row["peak_mb"]) for row in rows]
    return Curve("memory", "Memory by goals", "MB, from at rest to the most", "goals", points, "log")


def _spread(spread: Mapping[str, float]) -> tuple[float, float, float]:
    return spread["median"], spread["min"], spread["max"]
