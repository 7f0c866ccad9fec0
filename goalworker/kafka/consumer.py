"""Consumer of the topics in: fetch, commit, and follow the rebalances of its group (hazards 1 to 13)."""

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import aiokafka
from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from goalworker import config, logs, metrics
from goalworker.decoding.record import FetchedRecord, size_of
from goalworker.errors import OutOfRangeError, UndecodableError
from goalworker.kafka import clients, memory, topic_identity, unreadable_batches
from goalworker.kafka.fast_fetch.fetch_state import ALLOWANCE

log = logs.get("reader")

# Seconds to leave the group; then the connection is dropped, and the group notices by the session timeout.
STOP_SECONDS: Final = 5
# Seconds to ask where a topic's partitions begin: the client would ask for 40 s about one that has been deleted.
BEGIN_TIMEOUT_SECONDS: Final = 3
# A fetch of this many decompressed bytes is large.
LARGE_BYTES: Final = 8 * 1024 * 1024
# After large fetches of this many bytes together, and after the last one, freed memory is returned to the system.
RELEASE_BYTES: Final = 64 * 1024 * 1024

Offsets = Mapping[TopicPartition, int]


class Consumer(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Member of the group; its epoch grows with each rebalance, and offsets of an older epoch are not committed."""

    def __init__(self, settings: config.Settings, topics: Collection[str] | None = None) -> None:
        self._settings = settings
        self._topics = [*settings.topics.inputs, settings.topics.redrive] if topics is None else [*topics]
        self.before_revoke: Callable[[], Awaitable[None]] = _nothing
        """Awaited before partitions are given away; must take less than rebalance_timeout_ms."""
        self._consumer: aiokafka.AIOKafkaConsumer | None = None
        self._paused_topics: frozenset[str] = frozenset()
        self._is_all_paused = False  # by keep_polling()
        # During a rebalance aiokafka keeps the former partitions and positions, which may be past records that were
        # dropped without a commit.
        self._has_joined = False
        self._identity = topic_identity.TopicIdentity()
        self._must_check_logs = False
        self._unchecked: set[TopicPartition] = set()  # their leaders did not answer the last check
        self._polled_at = time.monotonic()
        self.unjoined_since: float | None = time.monotonic()
        self.epoch = 0
        self.fetched_bytes = 0  # by the last fetch, decompressed
        self._large_bytes = 0  # by large fetches since memory was last returned
        self._records_ahead_seconds = -math.inf
        self.committed: dict[TopicPartition, int] = {}
        self._handed_over: dict[TopicPartition, int] = {}  # offset behind the last record that fetch() returned
        self._reads_singly = False  # since a batch could not be read; only without the fast path
        self.joined = asyncio.Event()

    @property
    def partitions(self) -> Collection[TopicPartition]:
        """Partitions that the group has assigned to this worker."""
        return frozenset() if self._consumer is None else self._consumer.assignment()

    async def fetch(self, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[FetchedRecord]]:
        """Return up to `max_records` records, none after the timeout.

        Raises OutOfRangeError for an offset out of range, and UndecodableError for a batch that cannot be read, after
        all records before it were returned. On another error, which broker_errors.is_transient tells from a permanent
        one, it leaves the group; the next call joins it again.
        """
        consumer = self._consumer or await self._connect()
        if self._is_all_paused:
            self._is_all_paused = False
            self._pause_and_resume(self.partitions)
        self._release_memory()
        ALLOWANCE.begin()
        try:
            fetched = await self._fetch(consumer, max_records, timeout_ms)
            self._handed_over |= {partition: records[-1].offset + 1 for partition, records in fetched.items()}
            fetched_bytes = ALLOWANCE.taken or _size(fetched)  # only the fast path counts bytes
            await self._check_logs(consumer, fetched)
        except kafka_errors.NoOffsetForPartitionError:
            await self._commit_earliest(consumer)
            await self.close()
            return {}
        except kafka_errors.OffsetOutOfRangeError as error:
            raise _out_of_range(error) from error
        except UndecodableError as error:
            raise _with_remedy(error) from error  # still a member, since batches in flight are to be committed
        except Exception as error:
            if self._reads_singly and unreadable_batches.is_unreadable(error):
                return {}  # nothing was read along with it
            await self.close()
            if not unreadable_batches.is_unreadable(error):
                raise
            self._reads_singly = True
            return {}
        self.fetched_bytes = fetched_bytes
        if fetched:
            newest_ms = max(records[-1].timestamp for records in fetched.values())
            self._records_ahead_seconds = max(self._records_ahead_seconds, newest_ms / 1000 - time.time())
        return fetched

    async def _fetch(
        self, consumer: aiokafka.AIOKafkaConsumer, max_records: int, timeout_ms: int
    ) -> dict[TopicPartition, Sequence[FetchedRecord]]:
        if self._reads_singly and self._has_joined:
            return dict(await unreadable_batches.read_singly(consumer, max_records))
        # The group may assign partitions during the call.
        limit = 1 if self._reads_singly else max_records
        return dict(await consumer.getmany(timeout_ms=timeout_ms, max_records=limit))

    def take_records_ahead(self) -> float:
        """Return by how many seconds the newest record since the last call was ahead of our clock; -inf without one."""
        ahead_seconds, self._records_ahead_seconds = self._records_ahead_seconds, -math.inf
        return ahead_seconds

    async def _check_logs(self, consumer: aiokafka.AIOKafkaConsumer, fetched: Collection[TopicPartition]) -> None:
        """Check that the committed offsets belong to the logs that records come from, before these are processed.

        A topic may have been recreated while another worker had its partitions, or while this process was frozen.
        """
        since, self._polled_at = self._polled_at, time.monotonic()
        was_frozen = self._polled_at - since > self._settings.kafka.session_timeout_seconds
        is_due = self._must_check_logs or was_frozen or not self._unchecked.isdisjoint(fetched)
        if self._has_joined and is_due:
            self._must_check_logs = False
            async with asyncio.timeout(clients.COMMIT_TIMEOUT_SECONDS):
                self._unchecked = await self._identity.check(consumer, self.partitions)

    def check_logs(self) -> None:
        """Check at the next fetch whether the committed offsets belong to the logs that records come from."""
        self._must_check_logs = True

    def _release_memory(self) -> None:
        """Return the memory of large fetches to the system; the allocator would keep it for the process's life."""
        self._large_bytes += self.fetched_bytes if self.fetched_bytes >= LARGE_BYTES else 0
        is_over = self._large_bytes > 0 and self.fetched_bytes < LARGE_BYTES
        self.fetched_bytes = 0
        if self._large_bytes >= RELEASE_BYTES or is_over:
            self._large_bytes = 0
            memory.release()

    async def commit(self, epoch: int, offsets: Offsets) -> None:
        """Commit the offsets of an epoch; if it is over, the partitions' new owner reads the records again.

        While the group is rebalanced nothing is committed: the client would answer a refusal by joining once more.
        """
        if self._consumer is None or epoch != self.epoch or not self._has_joined or not offsets:
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
        """Commit positions that moved without a record, past a transaction marker (hazard 12).

        A partition with a record that was handed over and is not committed is left out: its position may be past that
        record. Errors are ignored, since the next call retries; the timeout lets the caller go on polling. Call it from
        the task that fetches.
        """
        if self._consumer is None or not self._has_joined:
            return
        epoch, moved = self.epoch, {}
        with contextlib.suppress(TimeoutError, kafka_errors.KafkaError):
            # Only for partitions with a committed offset: without one, position() never returns.
            async with asyncio.timeout(clients.COMMIT_TIMEOUT_SECONDS):
                for partition, committed in list(self.committed.items()):
                    position = await self._consumer.position(partition)
                    if position > committed >= self._handed_over.get(partition, committed):
                        moved[partition] = position
            await self.commit(epoch, moved)

    def be_of_cell(self, cell_id: uuid.UUID) -> None:
        """Commit the cell along with offsets, and report offsets that another cell has committed."""
        self._identity.cell_id = cell_id

    @property
    def topic_ids(self) -> Mapping[str, uuid.UUID]:
        """Ids of the topics that the committed offsets belong to, as far as the brokers have ids."""
        return self._identity.ids

    async def committed_offsets(self) -> Offsets:
        """Return the committed offset of each partition that this worker has."""
        consumer, epoch = self._consumer, self.epoch
        for partition in self.partitions if self._has_joined else ():
            if consumer is not None and partition not in self.committed:
                committed = await consumer.committed(partition)
                if committed is not None and epoch == self.epoch:
                    self.committed.setdefault(partition, committed)
        return dict(self.committed)

    async def keep_polling(self) -> None:
        """Poll without fetching, so that the group keeps this member while a batch waits for something."""
        if self._consumer is None:
            return
        # Until the next fetch: otherwise each poll would fetch records, drop them, and fetch them again.
        self._is_all_paused = True
        self._consumer.pause(*self.partitions)
        if time.monotonic() - self._polled_at > self._settings.kafka.session_timeout_seconds:
            self._must_check_logs = True  # the process was frozen
        self._polled_at = time.monotonic()
        try:
            polled = await self._consumer.getmany(timeout_ms=0)
            self.rewind({partition: records[0].offset for partition, records in polled.items()})
        except kafka_errors.KafkaError as error:
            # The next fetch gets the same error and handles it.
            log.info("poll_failed", reason=type(error).__name__)

    def pause_topics(self, topics: Iterable[str]) -> None:
        """Fetch nothing from these topics, and from all others again, until the next call."""
        if self._paused_topics != frozenset(topics):
            self._paused_topics = frozenset(topics)
            self._pause_and_resume(self.partitions)

    def rewind(self, offsets: Offsets) -> None:
        """Fetch partitions again from an offset, except those that were reassigned."""
        for partition, offset in offsets.items():
            if self._consumer is not None and partition in self.partitions:
                self._consumer.seek(partition, offset)
                if offset < self._handed_over.get(partition, offset):
                    self._handed_over[partition] = offset

    async def close(self) -> None:
        """Leave the group; the partitions' next owner reads again what is not committed."""
        consumer, self._consumer = self._consumer, None
        self._lose_membership()
        if consumer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await clients.stop(consumer)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish the batches in flight, then end the epoch."""
        await self.before_revoke()
        self._lose_membership()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Begin a new epoch with the assigned partitions."""
        assigned = list(assigned)
        self._has_joined = self._must_check_logs = True
        self.unjoined_since = None
        self.begin_epoch()
        self._pause_and_resume(assigned)
        metrics.consumer_rebalances_total.inc()
        metrics.consumer_assigned_partitions.set(len(assigned))
        log.info("partitions_assigned", partitions=len(assigned), epoch=self.epoch)
        self.joined.set()

    async def _connect(self) -> aiokafka.AIOKafkaConsumer:
        consumer = clients.consumer(self._settings)
        await clients.start(consumer)
        consumer.subscribe(self._topics, listener=self)
        self._consumer = consumer
        return consumer

    async def _commit_earliest(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        """Commit the earliest offset of partitions for which the group has no committed one (hazard 9).

        A topic that has just been deleted keeps none of the others waiting.
        """
        new: dict[str, list[TopicPartition]] = {}
        for partition in consumer.assignment():
            if await consumer.committed(partition) is None:
                new.setdefault(partition.topic, []).append(partition)
        begun = 0
        for topic, partitions in new.items():
            try:
                async with asyncio.timeout(BEGIN_TIMEOUT_SECONDS):
                    offsets = await consumer.beginning_offsets(partitions)
            except TimeoutError:
                log.warning("topic_not_begun", topic=topic, partitions=len(partitions))
                continue
            self._identity.forget_epochs(partitions)
            await self.commit(self.epoch, offsets)
            begun += len(partitions)
        log.info("partitions_begun", partitions=begun)

    def _lose_membership(self) -> None:
        self._has_joined = False
        self.unjoined_since = self.unjoined_since or time.monotonic()
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Forget what was fetched before: partitions may be another member's by now."""
        self.epoch += 1
        for partition in self.committed:
            with contextlib.suppress(KeyError):
                metrics.forget_partition(partition.topic, partition.partition)
        self.committed, self._handed_over = {}, {}

    def _pause_and_resume(self, partitions: Iterable[TopicPartition]) -> None:
        if self._consumer is None:
            return
        paused = {partition for partition in partitions if partition.topic in self._paused_topics}
        self._consumer.pause(*paused)
        self._consumer.resume(*(set(partitions) - paused))


def _size(fetched: Mapping[TopicPartition, Sequence[FetchedRecord]]) -> int:
    return sum(size_of(record) for records in fetched.values() for record in records)


async def _nothing() -> None:
    pass


def _with_remedy(error: UndecodableError) -> UndecodableError:
    topic, partition, last = error.topic, error.partition, error.last
    remedy = (
        "Install a version that the warning fast_fetch_unavailable names: this error then says how to skip the batch."
        if last is None
        else "Keep a copy of the batch, stop all workers and skip all of it: "
        f"`goalworker topics skip {topic} {partition} --offset {last}`."
    )
    hint = f"The records before it are committed, and none after it is read. {remedy}"
    return UndecodableError(topic, partition, error.first, last, error.reason, hint=hint)


def _out_of_range(error: Any) -> OutOfRangeError:
    where = ", ".join(
        f"{partition.topic}[{partition.partition}] at {offset}" for partition, offset in error.args[0].items()
    )
    return OutOfRangeError(
        f"the committed offsets are out of range: {where}. Records were deleted before they were read, or the topic "
        f"was recreated. {topic_identity.REMEDY}"
    )
