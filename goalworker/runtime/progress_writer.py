"""Task that writes the progress of this worker's partitions once a second (`fresh_as_of`, contract section 5)."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

from aiokafka import TopicPartition
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config
from goalworker.kafka import broker_requests
from goalworker.kafka.broker_requests import DescribedTopic
from goalworker.kafka.consumer import Consumer
from goalworker.kafka.observer import Observer
from goalworker.pipeline import progress
from goalworker.postgres import connections, migrations
from goalworker.runtime import housekeeping

# Seconds between two writes. The API's fresh_as_of lags behind the clock by one to two of them.
WRITE_SECONDS: Final = 1.0

_T = TypeVar("_T")


class ProgressWriter:
    """Marks where the partitions end, and writes which marks are reached; what cannot be asked waits for the next time.

    The redrive topic is left out: what is read there reached Kafka before, and was judged a dead letter.
    """

    def __init__(self, settings: config.Settings, pool: AsyncEngine, consumer: Consumer) -> None:
        self._topics = list(settings.topics.inputs)
        self._pool = pool
        self._consumer = consumer
        self._observer = Observer(settings)
        self._marks = progress.Marks()
        self._marked_at: datetime | None = None
        self._unwritten: dict[TopicPartition, datetime] = {}
        self._absent_at: dict[TopicPartition, datetime] = {}  # of partitions that were added
        self._seen: set[TopicPartition] = set()
        self._listed_at: datetime | None = None

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            await housekeeping.every(WRITE_SECONDS, "progress", self.write)
        finally:
            await self._observer.drop()

    async def write(self) -> None:
        """Write what is judged up to the last marks, and mark the ends of this worker's partitions as they are now."""
        marked_at = self._marked_at or await connections.now(self._pool)
        topics = await self._ask(lambda observer: broker_requests.describe_topics(observer, self._topics))
        if topics.keys() != set(self._topics):
            return  # a missing topic makes the worker unready, and may only be unknown to that broker
        existing = {TopicPartition(name, number) for name, topic in topics.items() for number in topic.partitions}
        self._note_added(existing, marked_at)
        committed = self._committed(existing, topics)
        self._unwritten |= self._marks.take_reached(committed)
        self._marked_at = await progress.write(self._pool, existing, self._unwritten, self._absent_at, marked_at)
        self._unwritten = {}
        if committed:
            ends = await self._ask(lambda observer: broker_requests.high_watermarks(observer, committed))
            self._marks.add(self._marked_at, ends, committed)

    def _note_added(self, existing: set[TopicPartition], before_listing: datetime) -> None:
        if self._listed_at is not None:
            self._absent_at |= dict.fromkeys(existing - self._seen, self._listed_at)
        self._seen |= existing
        self._listed_at = before_listing

    def _committed(
        self, existing: Collection[TopicPartition], topics: Mapping[str, DescribedTopic]
    ) -> dict[TopicPartition, int]:
        """Return the committed offsets of this worker's partitions of the topics in, as far as they are of these logs.

        A topic may have been recreated (hazard B2): then its offsets say nothing, and the consumer is to check them.
        After a rebalance, the health watch asks for the offsets.
        """
        committed = self._consumer.committed
        foreign = {name for name, topic in topics.items() if not self._is_checked(name, topic)}
        if not foreign.isdisjoint(partition.topic for partition in committed):
            self._consumer.check_logs()
        return {
            partition: offset
            for partition, offset in committed.items()
            if partition in existing and partition.topic not in foreign
        }

    def _is_checked(self, name: str, topic: DescribedTopic) -> bool:
        return topic.topic_id is None or self._consumer.topic_ids.get(name) == topic.topic_id

    async def _ask(self, question: Callable[[Any], Awaitable[_T]]) -> _T:
        return await self._observer.ask(question, migrations.PROBE_TIMEOUT_SECONDS)
