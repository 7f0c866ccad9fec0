"""Log of the CloudEvents types that their topics do not list: a line for each topic, type and hour."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

from goalworker import log_repeats, logs
from goalworker.decoding.skipping import FOREIGN_TYPE
from goalworker.pipeline.batches import SkippedRecord

log = logs.get("worker")

WINDOW_SECONDS: Final = 3_600.0
# Types of a topic that are logged within the window; further ones are counted by the metric only.
TYPES_MAX: Final = 100


class ForeignTypes:
    """Log of the types of skipped records, with a limited memory of types."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._lines = log_repeats.RepeatLimiter(clock, window_seconds=WINDOW_SECONDS, shapes_max=TYPES_MAX)

    def log(self, skipped: Iterable[SkippedRecord]) -> None:
        """Log each foreign type among the skipped records of a batch, unless it was logged within the window."""
        found: dict[tuple[str, str], list[SkippedRecord]] = {}
        for record in skipped:
            if record[2].outcome == FOREIGN_TYPE:
                found.setdefault((record[0].topic, record[2].type), []).append(record)
        for (topic, event_type), records in found.items():
            if self._lines.admit(topic, event_type) is not None:
                partition, offset, _ = records[0]
                log.info(
                    "foreign_type",
                    topic=topic,
                    type=event_type,
                    partition=partition.partition,
                    offset=offset,
                    records=len(records),
                )
