"""Goals with chosen times on a real PostgreSQL, and workers that process batches without a broker."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import hypothesis
import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events, goals
from goalworker.goal_index import index
from goalworker.kafka import sender
from goalworker.kafka.delivery import Delivery
from goalworker.kafka.records import Record
from goalworker.pipeline import dead_letters, outbox, phases
from goalworker.pipeline.batches import Batch
from goalworker.pipeline.recording import Recorded
from goalworker.postgres import connections, tables
from tests.integration import hit_days, statements
from tests.kit import goal_history, naive_judge

TOPICS = config.load({}, env_file=None, secrets_dir=None).topics
_TOPIC_OF_TYPE = {event_type: topic for topic, types in TOPICS.event_types.items() for event_type in types}
_RECORDED_TYPES = events.LIFECYCLE_TYPES | events.REVERSAL_TYPES


def examples(number: int) -> hypothesis.settings:
    """Return settings for this many examples with a database; with CI set, they are the same on every run."""
    return hypothesis.settings(
        max_examples=number,
        deadline=None,
        derandomize=os.environ.get("CI") == "true",
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )


# --- what comes in ---


async def clear(administrator: connections.Connection) -> None:
    """Empty all tables, as they are after the migration."""
    emptied = [table for table in reversed(tables.metadata.sorted_tables) if table is not tables.goal_revision]
    await administrator.execute(
        "SET session_replication_role = replica;"  # without triggers
        + "".join(f"DELETE FROM {table.name};" for table in emptied)
        + "UPDATE goal_revision SET revision = 0, moment = 'epoch'; RESET session_replication_role"
    )


async def install(
    administrator: connections.Connection, given_goals: Iterable[goals.Goal], logics: naive_judge.Logics | None = None
) -> None:
    """Write goals and logics with their history, under the next revision, and make partitions for hits."""
    await hit_days.make(administrator)
    await goal_history.write(administrator, given_goals, logics or {})


def batch_of(messages: Iterable[events.Event], goal_index: index.Index) -> Batch:
    """Return events as one fetch, decoded and matched, without those that no goal matches, as decoding does."""
    records = [(_record(event), event) for event in messages]
    batch = Batch(1, goal_index.revision, _DECODER)
    fetched: dict[TopicPartition, list[ConsumerRecord]] = {}
    for record, event in records:
        partition = TopicPartition(record.topic, 0)
        fetched.setdefault(partition, []).append(record)
        batch.timestamps.setdefault(record.topic, Counter()).update([record.timestamp])
        if event.type in _RECORDED_TYPES or goal_index.candidates(event) or not _is_decoded(record):
            batch.items.append((partition, record, event))
    batch.fetched = fetched
    batch.has_lifecycle = any(event.type in events.LIFECYCLE_TYPES for *_, event in batch.items)
    batch.has_reversals = any(event.type in events.REVERSAL_TYPES for *_, event in batch.items)
    batch.match(goal_index)
    return batch


def _is_decoded(record: ConsumerRecord) -> bool:
    """Say whether a record can carry an event; one with a NUL, for example, cannot be decoded."""
    now = datetime.now(UTC)
    return isinstance(_DECODER.decode(record.topic, record.value, record.headers, 0, now), events.Event)


_DECODER = decoder.Decoder(TOPICS.event_types, Limits())
_offsets = itertools.count()


def _record(event: events.Event) -> ConsumerRecord:
    return record_of(event, next(_offsets))


def record_of(event: events.Event, offset: int) -> ConsumerRecord:
    """Return an event as a producer sends it."""
    topic = _TOPIC_OF_TYPE.get(event.type, TOPICS.workflow_lifecycle)
    envelope = {"specversion": "1.0", "tenantid": event.tenant_id, **msgspec.structs.asdict(event)}
    value = msgspec.json.encode({name: envelope[name] for name in envelope if name not in ("tenant_id", *_TRACE)})
    headers = tuple((name, getattr(event, name).encode()) for name in _TRACE if getattr(event, name) is not None)
    return ConsumerRecord(topic, 0, offset, 0, 0, b"key", value, None, 3, len(value), headers)


_TRACE = ("traceparent", "tracestate")


# --- who works ---


class Broker(sender.Sender):
    """Sender that acknowledges and keeps all records; several workers may share it."""

    def __init__(self) -> None:
        self.sent: list[Record] = []

    async def send(self, records: Iterable[Record]) -> None:
        """Keep the records, as one round trip."""
        sending = list(records)

        async def acknowledge() -> None:
            self.sent += sending

        await statements.through_hook(statements.Statement("SEND", acknowledge))

    async def deliver(self, delivery: Delivery, **options: Any) -> None:
        """Acknowledge all records."""
        if delivery.pending:
            await self.send(list(delivery.pending.values()))
            delivery.acknowledge(list(delivery.pending))

    def letters(self) -> list[tuple[str, bytes | None]]:
        """Return reason and value of each dead letter."""
        letters = [record for record in self.sent if record.topic == TOPICS.dead_letters]
        return [(dict(letter.headers)[dead_letters.ERROR_REASON].decode(), letter.value) for letter in letters]


async def through(of_worker: phases.Phases, batch: Batch) -> Recorded:
    """Take a batch through the phases, one after the other."""
    recorded = await of_worker.record(batch)
    await of_worker.send_letters(batch)
    judged = [part async for part in of_worker.judge(batch)]
    async with aclosing(of_worker.judge_activated_workflows(batch)) as parts:
        async for part in parts:
            judged.append(part)
            await of_worker.publish(judged)
            judged.clear()
    await of_worker.publish(judged)
    return recorded


class Worker:
    """Worker process with an index of its own; a new object is the successor after a crash."""

    def __init__(self, pool: sa_async.AsyncEngine, broker: Broker, *, tracked: bool = True) -> None:
        env = {"GOALWORKER_ENROLLMENTS__TRACKING": str(tracked).lower()}
        settings = config.load(env, env_file=None, secrets_dir=None)
        self.goal_index = index.Index()
        self.recorded = Recorded()
        self.phases = phases.Phases(settings, pool, broker, self.goal_index)
        self._pool, self._broker = pool, broker

    async def take(self, *messages: events.Event) -> Batch:
        """Take one batch through all phases."""
        batch = batch_of(messages, self.goal_index)
        self.recorded = await through(self.phases, batch)
        return batch

    async def take_all(self, batches: Iterable[Sequence[events.Event]]) -> None:
        """Take batches through all phases, one after the other."""
        for batch in batches:
            await self.take(*batch)

    async def sweep(self) -> int:
        """Send the outbox messages that are due."""
        return await outbox.sweep(self._pool, self._broker, TOPICS.model_dump())
