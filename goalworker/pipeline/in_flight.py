"""Batches in flight: with a backlog, one is recorded while others are judged or published."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from aiokafka import TopicPartition

from goalworker import logs, metrics
from goalworker.domain import facts
from goalworker.kafka.consumer import Consumer
from goalworker.pipeline import outcomes, phases, waiting
from goalworker.pipeline.batches import Batch
from goalworker.pipeline.foreign_types import ForeignTypes
from goalworker.pipeline.judgements import Judged
from goalworker.pipeline.recording import Recorded
from goalworker.pipeline.waiting import retry_transient

log = logs.get("worker")

# Batches at once: one computes while the others wait for the database. More would not help, and would take the last
# connections of the pool.
IN_FLIGHT_MAX: Final = 3
# Bytes of fetched records: beyond them no other batch begins, and none waits to be published with others.
IN_FLIGHT_BYTES: Final = 16 * 1024 * 1024
# Batches published together, at most; and messages, beyond which no further batch is waited for. A publication takes
# the broker three requests, whatever its size.
PUBLISH_BATCHES_MAX: Final = 8
PUBLISH_MESSAGES: Final = 1_000
# Seconds that a batch of a backlog waits for the next one to be judged, so that both are published together.
PUBLISH_WAIT_SECONDS: Final = 0.05
# Seconds that a rebalance waits for batches in flight, less than rebalance_timeout_ms allows; what is unfinished then
# is replayed by the new owner of its partitions (hazard 5).
FINISH_SECONDS: Final = 10.0


class Unpublished(NamedTuple):
    """A judged batch, with the results of its phases that are yet to be published and counted."""

    batch: Batch
    recorded: Recorded
    judged: tuple[Judged, ...]
    effects: Mapping[facts.EventKey, str]


class Publication(NamedTuple):
    """The judged batches that were published together, and those that are left to the next batch to publish."""

    published: Sequence[Unpublished]
    left: Sequence[Unpublished]


class InFlight(NamedTuple):
    """One batch, whose steps are tasks: each awaits the step before it.

    Batches are recorded, published and committed in order; one is committed while the next is published. Judgements
    need no order, since those of the same enrollment take turns (design, The flow).
    """

    size_bytes: int
    recording: asyncio.Task[Recorded]
    judging: asyncio.Task[Unpublished]
    publishing: asyncio.Task[Publication]
    committing: asyncio.Task[None]

    @property
    def tasks(self) -> tuple[asyncio.Task[Any], ...]:
        return (self.recording, self.judging, self.publishing, self.committing)


class InFlightBatches:
    """The batches between fetch and commit, in the order in which they were fetched.

    `on_recorded` is awaited with each batch whose facts are recorded, before the next batch begins.
    """

    def __init__(
        self,
        of_worker: phases.Phases,
        consumer: Consumer,
        on_recorded: Callable[[Batch], Awaitable[None]],
        *,
        batches_max: int,
        tracking: bool,
    ) -> None:
        self._phases = of_worker
        self._consumer = consumer
        self._on_recorded = on_recorded
        self._batches_max = batches_max
        self._tracking = tracking
        self._batches: deque[InFlight] = deque()
        self._is_finishing = False
        self._foreign_types = ForeignTypes()

    def begin(self, batch: Batch, *, backlog: bool) -> None:
        """Let a batch go through the phases, after those in flight; with a backlog its messages may wait for others."""
        before = self._batches[-1] if self._batches else None
        recording = asyncio.create_task(self._record(batch))
        judging = asyncio.create_task(self._judge(batch, recording))
        wait_seconds = PUBLISH_WAIT_SECONDS if backlog else 0.0
        publishing = asyncio.create_task(self._publish(judging, before and before.publishing, wait_seconds))
        committing = asyncio.create_task(self._commit(publishing, before and before.committing))
        self._batches.append(InFlight(batch.size_bytes, recording, judging, publishing, committing))

    async def until_recorded(self) -> None:
        """Wait until the last batch is recorded and another one may begin."""
        await self._until(lambda last: last.recording.done())

    @property
    def is_judged(self) -> bool:
        """True once the last batch is judged."""
        return not self._batches or self._batches[-1].judging.done()

    async def judged_within(self, seconds: float) -> None:
        """Wait until the last batch is judged, or for this many seconds."""
        if self._batches:
            await asyncio.wait({self._batches[-1].judging}, timeout=seconds)

    async def until_judged(self) -> None:
        """Wait until the last batch is judged and another one may begin."""
        await self._until(lambda last: last.judging.done())

    async def until_committed(self) -> None:
        """Wait until all batches are published and committed."""
        await self._until(lambda last: last.committing.done())

    async def finish(self) -> None:
        """Wait a limited time for the batches in flight, before their partitions are given away."""
        self._is_finishing = True
        try:
            if self._batches:
                await asyncio.wait({batch.committing for batch in self._batches}, timeout=FINISH_SECONDS)
        finally:
            self._is_finishing = False

    async def cancel(self) -> None:
        """Abandon what is in flight: it is not committed, and is read again."""
        tasks = [task for batch in self._batches for task in batch.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until(self, is_far_enough: Callable[[InFlight], bool]) -> None:
        while True:
            for task in [task for batch in self._batches for task in batch.tasks if task.done()]:
                await task  # raises its error, whatever the batches before it are waiting for
            while self._batches and self._batches[0].committing.done():
                self._batches.popleft()
            if not self._batches:
                return
            has_room = len(self._batches) < self._batches_max and _size(self._batches) < IN_FLIGHT_BYTES
            if is_far_enough(self._batches[-1]) and has_room:
                return
            unfinished = [task for batch in self._batches for task in batch.tasks if not task.done()]
            await waiting.first_done(unfinished, self._consumer)

    async def _record(self, batch: Batch) -> Recorded:
        recorded = Recorded()  # by all attempts: what is new to the first one is known to the next

        async def record() -> None:
            nonlocal recorded
            recorded = recorded.merged(await self._phases.record(batch))
            await self._phases.send_letters(batch)

        await retry_transient(record)
        await self._on_recorded(batch)
        return recorded

    async def _judge(self, batch: Batch, recording: asyncio.Task[Recorded]) -> Unpublished:
        recorded = await recording
        judged: list[Judged] = []  # of every attempt: what one committed before it failed is published too
        effects: dict[facts.EventKey, str] = {}

        async def judge() -> None:
            async for part in self._phases.judge(batch):
                judged.append(part)
                effects.update(part.effects)
            async with aclosing(self._phases.judge_activated_workflows(batch)) as parts:
                async for part in parts:
                    judged.append(part)
                    await self._phases.publish(judged)  # at once: a large workflow has many parts
                    judged.clear()

        async def judge_again() -> None:
            nonlocal recorded
            # A retry begins at facts: after a failover the database may lack them.
            recorded = recorded.merged(await self._phases.record(batch))
            await self._phases.send_letters(batch)
            await judge()

        try:
            await judge()
        except Exception as error:
            if not waiting.is_transient(error):
                raise
            await retry_transient(judge_again, error)
        batch.forget_records()
        return Unpublished(batch, recorded, tuple(judged), effects)

    async def _publish(
        self, judging: asyncio.Task[Unpublished], before: asyncio.Task[Publication] | None, wait_seconds: float
    ) -> Publication:
        judged = await judging
        unpublished = [*((await before).left if before is not None else ()), judged]
        if self._may_wait(unpublished) and await self._next_is_judged(judging, wait_seconds):
            return Publication((), unpublished)
        parts = [part for of_batch in unpublished for part in of_batch.judged]
        await retry_transient(lambda: self._phases.publish(parts))
        return Publication(unpublished, ())

    def _may_wait(self, unpublished: Sequence[Unpublished]) -> bool:
        return (
            not self._is_finishing
            and len(unpublished) < PUBLISH_BATCHES_MAX
            and _messages(unpublished) < PUBLISH_MESSAGES
            and _size(judged.batch for judged in unpublished) < IN_FLIGHT_BYTES
        )

    async def _next_is_judged(self, judging: asyncio.Task[Unpublished], wait_seconds: float) -> bool:
        of_all = [batch.judging for batch in self._batches]
        following = of_all[of_all.index(judging) + 1 :][:1]
        if not following:
            return False
        done, _ = await asyncio.wait(following, timeout=wait_seconds)
        return bool(done)

    async def _commit(self, publishing: asyncio.Task[Publication], before: asyncio.Task[None] | None) -> None:
        """Commit last: a crash before it replays, and a replay is harmless."""
        published = (await publishing).published
        if before is not None:
            await before
        if not published:
            return
        epoch = published[-1].batch.epoch
        offsets: dict[TopicPartition, int] = {}
        for batch, *_ in published:
            offsets |= batch.offsets if batch.epoch == epoch else {}
        with metrics.batch_duration_seconds.labels(stage="commit").time():
            await retry_transient(lambda: self._consumer.commit(epoch, offsets))
        for batch, recorded, _, effects in published:
            outcomes.count(batch, recorded, effects, tracking=self._tracking)
            self._foreign_types.log(batch.skipped)
            log.debug("batch", records=batch.records, hits=len(batch.hits), dead_letters=len(batch.letters))


def _size(batches: Iterable[InFlight | Batch]) -> int:
    return sum(batch.size_bytes for batch in batches)


def _messages(unpublished: Iterable[Unpublished]) -> int:
    return sum(len(part.messages) for of_batch in unpublished for part in of_batch.judged)
