"""Sends the plans, many at once, at a rate; holds back what has to wait for the worker."""

import asyncio
import dataclasses
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import RecordMetadata

from goalworker.demo import generator, ledger, plans

OPEN_PLANS: Final = 64
"""Plans whose records are mixed."""

TICK_SECONDS: Final = 0.02
LATENCIES_KEPT: Final = 10_000
"""At most: somebody takes them every second."""


@dataclasses.dataclass(slots=True, eq=False)
class _Playing:
    """One step of one plan, as far as it is sent; offsets: where the worker is when it has committed all of it."""

    plan: int
    step: plans.Step
    sent: int = 0
    acknowledged: int = 0
    offsets: dict[TopicPartition, int] = dataclasses.field(default_factory=dict)

    def is_committed(self, committed: Mapping[TopicPartition, int]) -> bool:
        return self.acknowledged == len(self.step.sends) and _lag(self.offsets, committed) == 0


class Traffic:
    """What was sent, what must have come of it so far, and how long the exits took."""

    def __init__(self, producer: AIOKafkaProducer, source: generator.Generator, seed: int, own: ledger.Ledger) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.seen_lag_records = 0
        self._latencies_seconds: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self.offsets: dict[TopicPartition, int] = {}
        self.own = own
        self.enrollments: set[plans.Enrollment] = set()
        self._producer = producer
        self._source = source
        self._rng = random.Random(seed)  # noqa: S311 - to be repeatable, not secret
        self._outcomes: list[plans.Outcome] = []
        self._open: list[_Playing] = []
        self._until_exited: dict[plans.EnrollmentKey, _Playing] = {}
        self._until_committed: list[_Playing] = []
        self._committed: Mapping[TopicPartition, int] = {}
        self._exited: set[plans.EnrollmentKey] = set()
        self._settled_at: dict[plans.EnrollmentKey, float] = {}
        self._news = asyncio.Event()
        self._lost: BaseException | None = None

    def outcome(self) -> plans.Outcome:
        """Return what must have come of everything that was sent."""
        return plans.Outcome(
            tuple(each for outcome in self._outcomes for each in outcome.achieved),
            tuple(each for outcome in self._outcomes for each in outcome.exited),
            tuple(each for outcome in self._outcomes for each in outcome.dead_letters),
        )

    @property
    def lag_records(self) -> int:
        """Records that the broker has and the worker has not committed."""
        return _lag(self.offsets, self._committed)

    @property
    def is_through(self) -> bool:
        """Everything begun is sent, acknowledged, and committed by the worker."""
        waiting = self._open or self._until_exited or self._until_committed
        return not waiting and self.acknowledged == self.sent and self.lag_records == 0

    def take_latencies(self) -> list[float]:
        """Return the seconds from event to exit of all exits since this was last asked."""
        taken = list(self._latencies_seconds)
        self._latencies_seconds.clear()
        return taken

    # --- what the others see happening ---

    def saw_exit(self, key: plans.EnrollmentKey) -> float | None:
        """Take in that an enrollment's exit was sent; return the seconds it took, None where it is known already."""
        if key in self._exited:
            return None
        self._exited.add(key)
        self._news.set()
        if (playing := self._until_exited.pop(key, None)) is not None:
            self._play_next(playing)
        settled_at = self._settled_at.pop(key, None)
        if settled_at is None:
            return None
        latency = time.monotonic() - settled_at
        self._latencies_seconds.append(latency)
        return latency

    def saw_commits(self, committed: Mapping[TopicPartition, int]) -> None:
        """Take in how far the worker is."""
        self._committed = committed
        # As of now: what is sent until the commits are looked at again is no lag of the worker's.
        self.seen_lag_records = self.lag_records
        self._news.set()
        waiting, self._until_committed = self._until_committed, []
        for playing in waiting:
            if playing.is_committed(committed):
                self._play_next(playing)
            else:
                self._until_committed.append(playing)

    # --- sending ---

    async def open(self) -> None:
        """Send what the worker must know before all others, and return once it has committed that."""
        for step in self._source.opening():
            self._begin(step)
        await self.finish()

    async def run(self, rate: float, is_over: Callable[[], bool]) -> None:
        """Send one plan after the other, `rate` records a second, until it is over."""
        began, sent_before = time.monotonic(), self.sent
        while not is_over():
            due = sent_before + (time.monotonic() - began) * rate
            while self.sent < due and not is_over():
                while len(self._open) < OPEN_PLANS:
                    self._begin(self._source.next())
                await self._send_one()
            await asyncio.sleep(TICK_SECONDS)

    async def finish(self) -> None:
        """Send what was begun, wait for what must be waited for, and return once the worker has committed it all."""
        while True:
            self._news.clear()
            while self._open:
                await self._send_one()
            if self.is_through:
                return
            await self._producer.flush()
            await self._news.wait()
            if self._lost is not None:
                raise self._lost

    def _begin(self, step: plans.Step) -> None:
        self._outcomes.append(plans.NOTHING)
        self._play(len(self._outcomes) - 1, step)

    def _play(self, plan: int, step: plans.Step) -> None:
        self._outcomes[plan] = step.outcome
        self.enrollments.update(step.enrollments)
        self._open.append(_Playing(plan, step))

    async def _send_one(self) -> None:
        if self._lost is not None:
            raise self._lost
        place = self._rng.randrange(len(self._open))
        playing = self._open[place]
        record = playing.step.sends[playing.sent]
        now = time.monotonic()
        self._settled_at.update((key, now) for key in record.settles if key not in self._exited)
        future = await self._producer.send(
            record.topic, record.value, record.key, timestamp_ms=record.timestamp_ms, headers=list(record.headers)
        )
        future.add_done_callback(lambda done: self._acknowledged(playing, done))
        self.sent += 1
        playing.sent += 1
        if playing.sent == len(playing.step.sends):
            self._open[place] = self._open[-1]
            self._open.pop()
            self._wait_for_worker(playing)

    def _acknowledged(self, playing: _Playing, done: asyncio.Future[RecordMetadata]) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._lost = error
            self._news.set()
            return
        metadata = done.result()
        partition, end = TopicPartition(metadata.topic, metadata.partition), metadata.offset + 1
        self.own.note(partition, metadata.offset)
        self.acknowledged += 1
        playing.acknowledged += 1
        playing.offsets[partition] = max(playing.offsets.get(partition, 0), end)
        self.offsets[partition] = max(self.offsets.get(partition, 0), end)

    def _wait_for_worker(self, playing: _Playing) -> None:
        if playing.step.then is None:
            return
        if playing.step.once == "committed":
            self._until_committed.append(playing)
            return
        (command,) = playing.step.outcome.exited
        if command.key in self._exited:
            self._play_next(playing)
        else:
            self._until_exited[command.key] = playing

    def _play_next(self, playing: _Playing) -> None:
        if playing.step.then is not None:
            self._play(playing.plan, playing.step.then)


def _lag(ends: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]) -> int:
    return sum(max(0, end - committed.get(partition, 0)) for partition, end in ends.items())
