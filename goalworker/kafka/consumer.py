"""Where we are in the topics: fetching, committing, and what a rebalance takes away (hazards 1 to 13)."""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import aiokafka
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from goalworker import config, logs, metrics
from goalworker.decoding.record import FetchedRecord
from goalworker.errors import GoalworkerError
from goalworker.kafka import clients, memory, topic_identity
from goalworker.kafka.fast_fetch.fetch_state import ALLOWANCE

log = logs.get("reader")

STOP_SECONDS: Final = 5
# A fetch of this size is large; after so many bytes of large fetches, freed memory is given back to the system.
LARGE_BYTES: Final = 8 * 1024 * 1024
RELEASE_BYTES: Final = 64 * 1024 * 1024

Offsets = Mapping[TopicPartition, int]


class Consumer(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """A consumer of the group; its epoch grows with each rebalance, and offsets of an older epoch are not committed."""

    def __init__(self, settings: config.Settings) -> None:
        self._settings = settings
        self.before_revoke: Callable[[], Awaitable[None]] = _nothing
        """Awaited before partitions are given away; must take less than rebalance_timeout_ms."""
        self._consumer: aiokafka.AIOKafkaConsumer | None = None
        self._waiting: frozenset[str] = frozenset()
        self._is_held_back = False
        # While the group is rebalanced, aiokafka still has the partitions and positions of before, which may be past
        # what was dropped.
        self._has_joined = False
        self._identity = topic_identity.TopicIdentity()
        self._has_new_partitions = False
        self._unchecked: set[TopicPartition] = set()  # their leader did not answer
        self._polled_at = time.monotonic()
        self.unjoined_since: float | None = time.monotonic()
        self.epoch = 0
        self.fetched_bytes = 0  # of the last fetch, decompressed
        self._large_bytes = 0
        self._records_ahead_seconds = -math.inf
        self.committed: dict[TopicPartition, int] = {}
        self.joined = asyncio.Event()

    @property
    def partitions(self) -> Collection[TopicPartition]:
        """What this worker has now."""
        return frozenset() if self._consumer is None else self._consumer.assignment()

    async def fetch(self, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[FetchedRecord]]:
        """Return the next records, at most so many; nothing after the timeout.

        Raises GoalworkerError for an offset out of range, and what kafka.is_later knows; a new consumer follows then.
        """
        consumer = self._consumer or await self._connect()
        if self._is_held_back:
            self._is_held_back = False
            self._hold_back(self.partitions)
        self._release_memory()
        ALLOWANCE.begin()
        try:
            fetched = dict(await consumer.getmany(timeout_ms=timeout_ms, max_records=max_records))
            fetched_bytes = ALLOWANCE.taken or _size(fetched)  # without the fast path nothing counts
            await self._check_logs(consumer, fetched)
        except kafka_errors.NoOffsetForPartitionError:
            await self._commit_beginnings(consumer)
            await self.close()
            return {}
        except kafka_errors.OffsetOutOfRangeError as error:
            raise _out_of_range(error) from error
        except Exception:
            await self.close()
            raise
        self.fetched_bytes = fetched_bytes
        if fetched:
            newest_ms = max(records[-1].timestamp for records in fetched.values())
            self._records_ahead_seconds = max(self._records_ahead_seconds, newest_ms / 1000 - time.time())
        return fetched

    def take_records_ahead(self) -> float:
        """Return how far the newest record since the last call was ahead of our clock, in seconds; -inf: none came."""
        ahead_seconds, self._records_ahead_seconds = self._records_ahead_seconds, -math.inf
        return ahead_seconds

    async def _check_logs(self, consumer: aiokafka.AIOKafkaConsumer, fetched: Collection[TopicPartition]) -> None:
        """Compare the logs with those that the positions are of, before records are handed on.

        A topic may have been made anew while others had its partitions, or while this process was frozen.
        """
        since, self._polled_at = self._polled_at, time.monotonic()
        was_frozen = self._polled_at - since > self._settings.kafka.session_timeout_seconds
        is_due = self._has_new_partitions or was_frozen or not self._unchecked.isdisjoint(fetched)
        if self._has_joined and is_due:
            self._has_new_partitions = False
            async with asyncio.timeout(clients.COMMIT_TIMEOUT_SECONDS):
                self._unchecked = await self._identity.check(consumer, self.partitions)

    def _release_memory(self) -> None:
        """Give memory back that large batches took: by itself it would stay with this process for good."""
        self._large_bytes += self.fetched_bytes if self.fetched_bytes >= LARGE_BYTES else 0
        is_over = self._large_bytes > 0 and self.fetched_bytes < LARGE_BYTES
        self.fetched_bytes = 0
        if self._large_bytes >= RELEASE_BYTES or is_over:
            self._large_bytes = 0
            memory.release()

    async def commit(self, epoch: int, offsets: Offsets) -> None:
        """Commit offsets of an epoch; those of an earlier one are left to whoever has the partitions now."""
        if self._consumer is None or epoch != self.epoch or not offsets:
            return
        try:
            async with asyncio.timeout(clients.COMMIT_TIMEOUT_SECONDS):
                await self._consumer.commit(self._identity.with_metadata(offsets))
        except (kafka_errors.CommitFailedError, kafka_errors.IllegalStateError) as error:
            log.info("commit_refused", reason=type(error).__name__)
            return
        if epoch == self.epoch:
            self.committed.update(offsets)

    async def commit_idle(self) -> None:
        """Commit positions that moved without a record, past the marker of a transaction (hazard 12).

        Failures are ignored, since the next call tries again; the deadline keeps the caller polling.
        """
        if self._consumer is None or not self._has_joined:
            return
        epoch, moved = self.epoch, {}
        with contextlib.suppress(TimeoutError, kafka_errors.KafkaError):
            # Only where an offset is known to be committed: position() waits for ever where there is none.
            async with asyncio.timeout(clients.COMMIT_TIMEOUT_SECONDS):
                for partition, committed in list(self.committed.items()):
                    position = await self._consumer.position(partition)
                    if position > committed:
                        moved[partition] = position
            await self.commit(epoch, moved)

    async def positions(self) -> Offsets:
        """Return the offset committed for each partition that is ours."""
        consumer, epoch = self._consumer, self.epoch
        for partition in self.partitions if self._has_joined else ():
            if consumer is not None and partition not in self.committed:
                committed = await consumer.committed(partition)
                if committed is not None and epoch == self.epoch:
                    self.committed.setdefault(partition, committed)
        return dict(self.committed)

    async def keep_polling(self) -> None:
        """Show the group that we live while a batch waits; nothing is read until fetch(), nor kept in memory."""
        if self._consumer is None:
            return
        # Until the next fetch: what would be read in between is thrown away by each poll, and read again.
        self._is_held_back = True
        self._consumer.pause(*self.partitions)
        if time.monotonic() - self._polled_at > self._settings.kafka.session_timeout_seconds:
            self._has_new_partitions = True  # frozen: the next fetch is to look at the topics
        self._polled_at = time.monotonic()
        try:
            polled = await self._consumer.getmany(timeout_ms=0)
            self.rewind({partition: records[0].offset for partition, records in polled.items()})
        except kafka_errors.KafkaError as error:
            # It comes again with the next fetch, which knows what to do about it.
            log.info("poll_failed", reason=type(error).__name__)

    def wait_for(self, topics: Iterable[str]) -> None:
        """Read nothing from these topics until told otherwise."""
        if self._waiting != frozenset(topics):
            self._waiting = frozenset(topics)
            self._hold_back(self.partitions)

    def rewind(self, offsets: Offsets) -> None:
        """Read these partitions again from an offset, as far as they are still ours."""
        for partition, offset in offsets.items():
            if self._consumer is not None and partition in self.partitions:
                self._consumer.seek(partition, offset)

    async def close(self) -> None:
        """Leave the group; what is not committed is read again by whoever comes next."""
        consumer, self._consumer = self._consumer, None
        self._lose_membership()
        if consumer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    # Gathered, since where the broker is away stop() is cancelled by a task that it cancels itself.
                    await asyncio.gather(consumer.stop(), return_exceptions=True)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish the batches in flight, then forget the partitions that were ours."""
        await self.before_revoke()
        self._lose_membership()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Begin anew with what is ours now."""
        assigned = list(assigned)
        self._has_joined = self._has_new_partitions = True
        self.unjoined_since = None
        self._forget()
        self._hold_back(assigned)
        metrics.consumer_rebalances_total.inc()
        metrics.consumer_assigned_partitions.set(len(assigned))
        log.info("partitions_assigned", partitions=len(assigned), epoch=self.epoch)
        self.joined.set()

    async def _connect(self) -> aiokafka.AIOKafkaConsumer:
        consumer = clients.consumer(self._settings)
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        topics = self._settings.topics
        consumer.subscribe([*topics.inputs, topics.redrive], listener=self)
        self._consumer = consumer
        return consumer

    async def _commit_beginnings(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        """Begin at the earliest record where the group never committed, explicitly (hazard 9)."""
        new = [partition for partition in consumer.assignment() if await consumer.committed(partition) is None]
        self._identity.begin(new)
        await self.commit(self.epoch, await consumer.beginning_offsets(new))
        log.info("partitions_begun", partitions=len(new))

    def _lose_membership(self) -> None:
        self._has_joined = False
        self.unjoined_since = self.unjoined_since or time.monotonic()
        self._forget()

    def _forget(self) -> None:
        self.epoch += 1
        for partition in self.committed:
            with contextlib.suppress(KeyError):
                metrics.forget_partition(partition.topic, partition.partition)
        self.committed = {}

    def _hold_back(self, partitions: Iterable[TopicPartition]) -> None:
        if self._consumer is None:
            return
        waiting = {partition for partition in partitions if partition.topic in self._waiting}
        self._consumer.pause(*waiting)
        self._consumer.resume(*(set(partitions) - waiting))


def _size(fetched: Mapping[TopicPartition, Sequence[FetchedRecord]]) -> int:
    return sum(len(record.key or b"") + len(record.value or b"") for records in fetched.values() for record in records)


async def _nothing() -> None:
    pass


def _out_of_range(error: Any) -> GoalworkerError:
    where = ", ".join(
        f"{partition.topic}[{partition.partition}] at {offset}" for partition, offset in error.args[0].items()
    )
    return GoalworkerError(
        f"the offsets committed are out of range: {where}. Records were deleted before they were read, or the topic "
        f"was made anew. {topic_identity.REMEDY}"
    )
