"""Sender of the plans: many at once, at a given rate; a step that depends on the worker waits for it."""

import asyncio
import dataclasses
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import RecordMetadata

from goalworker.demo import generator, plans
from goalworker.demo.own_offsets import OwnOffsets
from goalworker.demo.sent_events import SentEvents

OPEN_PLANS: Final = 64
"""Plans in progress, whose records are mixed."""

TICK_SECONDS: Final = 0.02
LATENCIES_KEPT: Final = 10_000
"""Older latencies are dropped; the monitor takes them every second."""


@dataclasses.dataclass(slots=True, eq=False)
class _ActiveStep:
    """A step in progress; `offsets` are those that the worker commits when it has handled all of its records."""

    plan: int
    step: plans.Step
    sent: int = 0
    acknowledged: int = 0
    offsets: dict[TopicPartition, int] = dataclasses.field(default_factory=dict)

    def is_committed(self, committed: Mapping[TopicPartition, int]) -> bool:
        return self.acknowledged == len(self.step.records) and _lag(self.offsets, committed) == 0


class Traffic:
    """Sender of the plans, with the expected outcome so far and the latencies of exits."""

    def __init__(
        self, producer: AIOKafkaProducer, source: generator.Generator, seed: int, own_offsets: OwnOffsets
    ) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.sampled_lag_records = 0
        self._latencies_seconds: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self.offsets: dict[TopicPartition, int] = {}
        self.own_offsets = own_offsets
        self.sent_events = SentEvents()
        self.enrollments: set[plans.Enrollment] = set()
        self._producer = producer
        self._source = source
        self._rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._outcomes: list[plans.Outcome] = []
        self._open: list[_ActiveStep] = []
        self._until_exited: dict[plans.EnrollmentKey, _ActiveStep] = {}
        self._until_committed: list[_ActiveStep] = []
        self._committed: Mapping[TopicPartition, int] = {}
        self._exited: set[plans.EnrollmentKey] = set()
        self._latency_starts: dict[plans.EnrollmentKey, float] = {}
        self._progress = asyncio.Event()
        self._send_error: BaseException | None = None

    def outcome(self) -> plans.Outcome:
        """Return the expected outcome of all records sent so far."""
        return plans.Outcome(
            tuple(achievement for outcome in self._outcomes for achievement in outcome.achieved),
            tuple(exit_ for outcome in self._outcomes for exit_ in outcome.exited),
            tuple(letter for outcome in self._outcomes for letter in outcome.dead_letters),
            tuple(payment for outcome in self._outcomes for payment in outcome.payments),
            tuple(revocation for outcome in self._outcomes for revocation in outcome.revocable),
        )

    @property
    def near_miss(self) -> plans.Enrollment | None:
        """The first enrollment whose events just missed its goals, None until it was planned."""
        return self._source.near_miss

    @property
    def lag_records(self) -> int:
        """Acknowledged records that the worker has not committed."""
        return _lag(self.offsets, self._committed)

    @property
    def is_finished(self) -> bool:
        """True if all steps are sent, acknowledged, and committed by the worker."""
        waiting = self._open or self._until_exited or self._until_committed
        return not waiting and self.acknowledged == self.sent and self.lag_records == 0

    def take_latencies(self) -> list[float]:
        """Return the seconds from event to exit of all exits since the previous call."""
        taken = list(self._latencies_seconds)
        self._latencies_seconds.clear()
        return taken

    # --- progress of the worker ---

    def record_exit(self, key: plans.EnrollmentKey) -> float | None:
        """Record an exit; return the seconds that it took, or None if it came before or belongs to another sender."""
        if key in self._exited:
            return None
        self._exited.add(key)
        self._progress.set()
        if (active := self._until_exited.pop(key, None)) is not None:
            self._begin_next(active)
        latency_start = self._latency_starts.pop(key, None)
        if latency_start is None:
            return None
        latency = time.monotonic() - latency_start
        self._latencies_seconds.append(latency)
        return latency

    def record_commits(self, committed: Mapping[TopicPartition, int]) -> None:
        """Record the committed offsets."""
        self._committed = committed
        # Sampled here: records sent until the next poll of the commits would look like lag.
        self.sampled_lag_records = self.lag_records
        self._progress.set()
        waiting, self._until_committed = self._until_committed, []
        for active in waiting:
            if active.is_committed(committed):
                self._begin_next(active)
            else:
                self._until_committed.append(active)

    # --- sending ---

    async def send_opening(self) -> None:
        """Send the records that the worker must read first, and wait until it has committed them."""
        for step in self._source.opening():
            self._begin(step)
        await self.finish()

    async def run(self, rate: float, is_over: Callable[[], bool]) -> None:
        """Send plans, `rate` records a second, until `is_over` returns True."""
        began, sent_before = time.monotonic(), self.sent
        while not is_over():
            due = sent_before + (time.monotonic() - began) * rate
            while self.sent < due and not is_over():
                while len(self._open) < OPEN_PLANS:
                    self._begin(self._source.next())
                await self._send_one()
            await asyncio.sleep(TICK_SECONDS)

    async def finish(self) -> None:
        """Send all steps of the open plans, and return once the worker has committed their records."""
        while True:
            self._progress.clear()
            while self._open:
                await self._send_one()
            if self.is_finished:
                return
            await self._producer.flush()
            await self._progress.wait()
            if self._send_error is not None:
                raise self._send_error

    def _begin(self, step: plans.Step) -> None:
        self._outcomes.append(plans.NOTHING)
        self._activate(len(self._outcomes) - 1, step)

    def _activate(self, plan: int, step: plans.Step) -> None:
        self._outcomes[plan] = step.outcome
        self.enrollments.update(step.enrollments)
        self._open.append(_ActiveStep(plan, step))

    async def _send_one(self) -> None:
        if self._send_error is not None:
            raise self._send_error
        index = self._rng.randrange(len(self._open))
        active = self._open[index]
        record = active.step.records[active.sent]
        now = time.monotonic()
        self._latency_starts.update((key, now) for key in record.needed_by if key not in self._exited)
        future = await self._producer.send(
            record.topic, record.value, record.key, timestamp_ms=record.timestamp_ms, headers=list(record.headers)
        )
        future.add_done_callback(lambda done: self._acknowledged(active, record, now, done))
        self.sent += 1
        active.sent += 1
        if active.sent == len(active.step.records):
            self._open[index] = self._open[-1]
            self._open.pop()
            self._wait_for_worker(active)

    def _acknowledged(
        self, active: _ActiveStep, record: plans.PlannedRecord, sent_at: float, done: asyncio.Future[RecordMetadata]
    ) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._send_error = error
            self._progress.set()
            return
        metadata = done.result()
        partition, end = TopicPartition(metadata.topic, metadata.partition), metadata.offset + 1
        self.own_offsets.add(partition, metadata.offset)
        self.sent_events.note(record, partition, metadata.offset, sent_at)
        self.acknowledged += 1
        active.acknowledged += 1
        active.offsets[partition] = max(active.offsets.get(partition, 0), end)
        self.offsets[partition] = max(self.offsets.get(partition, 0), end)

    def _wait_for_worker(self, active: _ActiveStep) -> None:
        if active.step.then is None:
            return
        if active.step.once == "committed":
            self._until_committed.append(active)
            return
        (command,) = active.step.outcome.exited
        if command.key in self._exited:
            self._begin_next(active)
        else:
            self._until_exited[command.key] = active

    def _begin_next(self, active: _ActiveStep) -> None:
        if active.step.then is not None:
            self._activate(active.plan, active.step.then)


def _lag(ends: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]) -> int:
    return sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())
