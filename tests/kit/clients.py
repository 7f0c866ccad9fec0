"""Kafka and database clients of an installation: send records, wait until they are processed, read what comes out."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiokafka
import asyncpg
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.group import LeaveGroupRequest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections
from goalworker.stores import goal_store
from tests.kit import messages_in, support, worker_process

SETTLED_SECONDS: Final = 30.0
INPUTS: Final = (*support.TOPICS[:6], "redrive")
OUTPUTS: Final = ("goal_achieved", "workflow_exit", "goal_configured", "dead_letters")


@dataclass(frozen=True, slots=True)
class Message:
    """Outgoing message, one for each id; the topic is the lower-case name of its setting."""

    topic: str
    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes

    @property
    def body(self) -> dict[str, Any]:
        return messages_in.body(self.value)

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.body["data"]
        return data


@dataclass(frozen=True, slots=True)
class Client:
    """Producer, consumer, admin client and database pool of one installation."""

    installation: worker_process.Installation
    producer: aiokafka.AIOKafkaProducer
    consumer: aiokafka.AIOKafkaConsumer
    admin: AIOKafkaAdminClient
    pool: sa_async.AsyncEngine
    received: list[aiokafka.ConsumerRecord] = field(default_factory=list)

    # --- in ---

    async def create_goal(self, workflow_id: str, goal_type: str, **criteria: object) -> goal_store.StoredGoal:
        """Create a goal, which is in force from its created_at on."""
        draft = goal_store.parse_draft({"goal_type": goal_type, "criteria": criteria})
        return await goal_store.create(self.pool, messages_in.TENANT, workflow_id, draft, actor="test", maximum=3)

    async def update_goal(self, goal: goal_store.StoredGoal, **given: object) -> goal_store.StoredGoal:
        return await goal_store.update(self.pool, messages_in.TENANT, goal.id, given, actor="test")

    async def delete_goal(self, goal: goal_store.StoredGoal) -> goal_store.StoredGoal:
        return await goal_store.delete(self.pool, messages_in.TENANT, goal.id, actor="test")

    async def set_logic(self, workflow_id: str, logic: str) -> None:
        await goal_store.set_logic(self.pool, messages_in.TENANT, workflow_id, logic, actor="test")

    async def send(self, *records: messages_in.Record) -> list[aiokafka.structs.RecordMetadata]:
        """Send records in this order, and return the position of each."""
        waiting = [
            await self.producer.send(
                self.installation.topics[record.topic],
                record.value,
                key=record.key,
                partition=record.partition,
                timestamp_ms=record.timestamp_ms,
                headers=list(record.headers),
            )
            for record in records
        ]
        return [await acknowledged for acknowledged in waiting]

    async def send_nothing(self, topic: str) -> None:
        """Send a record with neither key nor value, which `producer.send` refuses."""
        batch = self.producer.create_batch()
        batch.append(key=None, value=None, timestamp=None)
        await (await self.producer.send_batch(batch, self.installation.topics[topic], partition=0))

    async def process(self, *records: messages_in.Record) -> None:
        """Send records, and wait until everything sent so far is judged and published."""
        await self.send(*records)
        await self.settle()

    # --- waiting ---

    async def settle(self, timeout_seconds: float = SETTLED_SECONDS) -> None:
        """Wait until the group has committed every record; by then the results are published."""
        await until(self._is_settled, timeout_seconds)

    async def _is_settled(self) -> bool:
        return not await self.lag()

    async def lag(self, topics: Iterable[str] = INPUTS) -> dict[TopicPartition, int]:
        """Return the lag of each partition that has one, up to its last stable offset."""
        partitions = self.partitions(*topics)
        ends = await self.consumer.end_offsets(partitions)
        committed = await self.committed()
        return {each: end - committed.get(each, 0) for each, end in ends.items() if end > committed.get(each, 0)}

    async def committed(self) -> dict[TopicPartition, int]:
        offsets = await self.admin.list_consumer_group_offsets(self.installation.group_id)
        return {partition: found.offset for partition, found in offsets.items() if found.offset >= 0}

    async def members(self) -> dict[str, str]:
        """Return the members of the group: client id by member id."""
        (response,) = await self.admin.describe_consumer_groups([self.installation.group_id])
        ((_, _, _, _, _, members, *_),) = response.groups
        return {member_id: client_id for member_id, client_id, *_ in members}

    async def remove_member(self, worker: worker_process.Worker) -> None:
        """Remove a killed worker from its group, which would otherwise wait a session timeout, 45 s, for it."""
        coordinator = await self.admin.find_coordinator(self.installation.group_id)
        for member_id, client_id in (await self.members()).items():
            if client_id == worker.client_id:
                request = LeaveGroupRequest(self.installation.group_id, member_id)
                await self.admin._send_request(request, coordinator)

    async def rewind(self, offset: int = 0) -> None:
        """Set the offsets of the group, which must have no members, so that it reads again from there."""
        partitions = self.partitions(*INPUTS)
        group = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self.installation.bootstrap_servers,
            group_id=self.installation.group_id,
            enable_auto_commit=False,
        )
        async with group:
            group.assign(partitions)
            await group.commit(dict.fromkeys(partitions, offset))

    async def wait_until_published(self) -> None:
        """Wait until the outbox is empty, and let a worker sweep at once what a killed one left in it."""
        await self.sql("UPDATE outbox SET created_at = created_at - interval '1 hour'")
        await until(self._is_published)

    async def _is_published(self) -> bool:
        return not await self.sql("SELECT count(*) FROM outbox")

    # --- out ---

    async def records(self, topic: str) -> list[aiokafka.ConsumerRecord]:
        """Return all records of an outgoing topic, each partition in order."""
        for partition, end in (await self.consumer.end_offsets(self.partitions(topic))).items():
            while await self.consumer.position(partition) < end:
                for records in (await self.consumer.getmany(timeout_ms=1_000)).values():
                    self.received.extend(records)
        return [record for record in self.received if record.topic == self.installation.topics[topic]]

    async def messages(self, topic: str) -> list[Message]:
        """Return the messages of a topic without repeats, which must be the same bytes as the first."""
        messages: dict[str, Message] = {}
        for record in await self.records(topic):
            message = Message(topic, record.key, tuple(record.headers), record.value)
            assert messages.setdefault(message.body["id"], message) == message
        return list(messages.values())

    async def messages_about(self, enrollment: messages_in.Enrollment) -> list[Message]:
        """Return the messages about an enrollment: achieved and revoked in their order, then exits."""
        both = [*await self.messages("goal_achieved"), *await self.messages("workflow_exit")]
        return [message for message in both if message.body["subject"] == enrollment.enrollment_id]

    async def dead_letters(self) -> list[aiokafka.ConsumerRecord]:
        return await self.records("dead_letters")

    # --- the database ---

    async def sql(self, query: str, *arguments: object) -> Any:
        """Return the single value of a query."""
        connection = await asyncpg.connect(self.installation.database_url)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    def partitions(self, *topics: str) -> list[TopicPartition]:
        """Return the partitions of topics, which are the lower-case names of their settings."""
        names = [self.installation.topics[topic] for topic in topics]
        return [TopicPartition(name, number) for name in names for number in range(support.PARTITIONS)]


@contextlib.asynccontextmanager
async def connect(installation: worker_process.Installation) -> AsyncIterator[Client]:
    """Connect to an installation."""
    servers: Mapping[str, Any] = {"bootstrap_servers": installation.bootstrap_servers}
    pool = connections.engine(installation.database_url, pool_size=2, statement_timeout_seconds=30, application="test")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(pool.dispose)
        producer = await stack.enter_async_context(
            aiokafka.AIOKafkaProducer(**servers, max_request_size=worker_process.REQUEST_BYTES)
        )
        consumer = aiokafka.AIOKafkaConsumer(
            **servers, isolation_level="read_committed", enable_auto_commit=False, fetch_max_wait_ms=10
        )
        await stack.enter_async_context(consumer)
        admin = await stack.enter_async_context(support.admin_client(installation.bootstrap_servers))
        client = Client(installation, producer, consumer, admin, pool)
        inputs, outputs = client.partitions(*INPUTS), client.partitions(*OUTPUTS)
        consumer.assign([*inputs, *outputs])  # the inputs only for their end offsets
        consumer.pause(*inputs)
        await consumer.seek_to_beginning(*outputs)
        yield client


async def until(condition: Callable[[], Awaitable[bool]], timeout_seconds: float = SETTLED_SECONDS) -> None:
    """Wait until a condition holds, as long as `settle` does by default."""
    await support.until(condition, timeout_seconds)


def kinds(messages: Iterable[Message]) -> list[tuple[str, int | None]]:
    """Return the type and revision of each message."""
    return [(message.body["type"].removeprefix("workflow."), message.data.get("revision")) for message in messages]


def partition(topic: str, number: int) -> TopicPartition:
    return TopicPartition(topic, number)
