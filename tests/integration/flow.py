"""A whole worker on topics of one partition each that are kept in memory, without a broker."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from aiokafka import ConsumerRecord, TopicPartition
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events
from goalworker.goal_index import index
from goalworker.kafka.consumer import Consumer
from goalworker.pipeline import worker
from tests.integration import statements, world

RECORDS_MAX = 3


class Log:
    """Produced records, and the offsets that the group has committed."""

    def __init__(self, messages: Iterable[events.Event | bytes] = ()) -> None:
        self.records: dict[TopicPartition, list[ConsumerRecord]] = defaultdict(list)
        self.committed: dict[TopicPartition, int] = defaultdict(int)
        for message in messages:
            self.produce(message)

    def produce(self, message: events.Event | bytes) -> None:
        """Append an event to its topic, or raw bytes to tag-added."""
        if isinstance(message, bytes):
            partition = TopicPartition(world.TOPICS.tag_added, 0)
            offset = len(self.records[partition])
            record = ConsumerRecord(partition.topic, 0, offset, 0, 0, None, message, None, 0, len(message), ())
        else:
            partition = TopicPartition(world.record_of(message, 0).topic, 0)
            record = world.record_of(message, len(self.records[partition]))
        self.records[partition].append(record)

    @property
    def lag(self) -> dict[str, int]:
        """Return the lag of each topic."""
        return {
            partition.topic: len(records) - self.committed[partition] for partition, records in self.records.items()
        }


class LogConsumer(Consumer):
    """Consumer that reads a log from its committed offsets, and stops the worker when it is idle."""

    def __init__(self, settings: config.Settings, log: Log) -> None:
        super().__init__(settings)
        self._log = log
        self.stop: Callable[[], None] = _nothing
        self.during_fetch: Callable[[], None] = _nothing
        self._positions = dict(log.committed)
        self._paused: frozenset[str] = frozenset()
        self.polls = 0
        self.fetch_max: int | None = None
        """Records in a fetch, at most, where these are fewer than the worker would take."""
        self.is_slow = False
        """Whether records arrive only while the worker waits for some."""

    async def fetch(self, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """Return the next records of the topics that are not paused; an empty fetch stops the worker."""
        fetched: dict[TopicPartition, Sequence[ConsumerRecord]] = {}
        max_records = min(max_records, self.fetch_max or max_records) if timeout_ms > 0 or not self.is_slow else 0
        for partition, records in self._log.records.items():
            position = self._positions.get(partition, 0)
            taken = records[position : position + max_records - sum(map(len, fetched.values()))]
            if taken and partition.topic not in self._paused:
                fetched[partition] = taken
                self._positions[partition] = position + len(taken)
        if not fetched and max_records > 0:
            self.stop()
        self.during_fetch()
        return fetched

    async def commit(self, epoch: int, offsets: Mapping[TopicPartition, int]) -> None:
        async def keep() -> None:
            self._log.committed.update(offsets)

        await statements.through_hook(statements.Statement("OFFSETS", keep))

    async def keep_polling(self) -> None:
        self.polls += 1

    def pause_topics(self, topics: Iterable[str]) -> None:
        self._paused = frozenset(topics)

    def rewind(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._positions.update(offsets)


def _nothing() -> None:
    pass


async def run(pool: sa_async.AsyncEngine, broker: world.Broker, log: Log, **env: str) -> None:
    """Run a worker on a log until no records are left."""
    flow, _ = worker_of(pool, broker, log, env)
    await flow.paused_topics.read()
    await flow.run()


def worker_of(
    pool: sa_async.AsyncEngine,
    broker: world.Broker,
    log: Log,
    env: Mapping[str, str],
    decoder: Callable[..., Decoder] = Decoder,
) -> tuple[worker.Worker, LogConsumer]:
    """Return a worker on a log that has not started yet, and its consumer."""
    settings = config.load({"GOALWORKER_BATCH__MAX_RECORDS": str(RECORDS_MAX), **env}, env_file=None, secrets_dir=None)
    consumer = LogConsumer(settings, log)
    decoding = decoder(settings.topics.event_types, Limits())
    flow = worker.Worker(settings, pool, broker, consumer, index.Index(), decoding)
    consumer.stop = flow.stop
    return flow, consumer
