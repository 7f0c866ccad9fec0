"""Messages of a judgement are sent, and deleted once acknowledged; a sweeper sends those that were left behind."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import errors as kafka_errors
from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker import metrics
from goalworker.domain import messages
from goalworker.kafka import broker_errors
from goalworker.kafka.delivery import Delivery
from goalworker.kafka.records import Record
from goalworker.pipeline import outbox, refused_messages
from goalworker.postgres import connections, database_errors, tables
from tests.integration import crashes, statements, world
from tests.integration.goal_steps import create
from tests.integration.scenes import ONE, TWO, logic, started, tagged

TOPICS = {name: f"my-{name}" for name in type(world.TOPICS).model_fields}


def achieved(number: int) -> messages.Message:
    return messages.Message(messages.GOAL_ACHIEVED, b"acme:c1", b'{"id":%d}' % number, "00-ab-cd-01", "vendor=1")


def left(number: int) -> messages.Message:
    return messages.Message(messages.WORKFLOW_EXIT, b"acme:c1", b'{"id":%d}' % number)


async def write(administrator: connections.Connection, *written: messages.Message, batch_id: object = None) -> None:
    for message in written:
        await administrator.execute(
            "INSERT INTO outbox (topic, key, value, traceparent, tracestate, batch_id) VALUES ($1, $2, $3, $4, $5, $6)",
            *(message.topic, message.key, message.value, message.traceparent, message.tracestate, batch_id),
        )


async def age(administrator: connections.Connection, seconds: float) -> None:
    await administrator.execute("UPDATE outbox SET created_at = clock_timestamp() - make_interval(secs => $1)", seconds)


async def waiting(administrator: connections.Connection) -> list[bytes]:
    return [row[0] for row in await administrator.fetch("SELECT value FROM outbox ORDER BY id")]


def values(broker: world.Broker) -> list[bytes | None]:
    return [record.value for record in broker.sent]


class Deaf(world.Broker):
    """Broker that never acknowledges."""

    async def send(self, records: Any) -> None:
        raise broker_errors.NotAcknowledgedError


# --- publishing ---


async def test_messages_go_to_the_configured_topics_with_their_trace_and_are_deleted(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    mine, others, broker = uuid4(), uuid4(), world.Broker()
    await write(administrator, achieved(1), left(2), batch_id=mine)
    await write(administrator, achieved(3), batch_id=others)
    await outbox.publish(pool, broker, TOPICS, {mine: [achieved(1), left(2)]})
    content_type = ("content-type", b"application/cloudevents+json")
    trace = [("traceparent", b"00-ab-cd-01"), ("tracestate", b"vendor=1")]
    assert broker.sent == [
        Record("my-goal_achieved", b"acme:c1", b'{"id":1}', [content_type, *trace]),
        Record("my-workflow_exit", b"acme:c1", b'{"id":2}', [content_type]),
    ]
    assert await waiting(administrator) == [achieved(3).value]


async def test_an_achievement_is_acknowledged_before_its_exit_is_sent(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE, TWO], logic("all"))
    broker = world.Broker()
    acknowledged: list[list[str]] = []

    async def hook(statement: statements.Statement) -> Any:
        before = len(broker.sent)
        answer = await statement.run()
        if statement.sql == "SEND":
            acknowledged.append([record.topic for record in broker.sent[before:]])
        return answer

    with statements.hooked(hook):
        await world.Worker(pool, broker).take(started(0), tagged("h1", 5), tagged("h2", 6, "tag-2"))
    assert acknowledged == [["goal-achieved", "goal-achieved"], ["workflow-exit"]]


async def test_messages_without_an_acknowledgement_stay_in_the_outbox(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    batch_id = uuid4()
    await write(administrator, achieved(1), batch_id=batch_id)
    with pytest.raises(broker_errors.NotAcknowledgedError):
        await outbox.publish(pool, Deaf(), TOPICS, {batch_id: [achieved(1)]})
    await write(administrator, achieved(2))
    with pytest.raises(broker_errors.NotAcknowledgedError):
        await outbox.sweep(pool, Deaf(), TOPICS)
    assert await waiting(administrator) == [achieved(1).value, achieved(2).value]


# --- refusals ---


class Narrow(world.Broker):
    """Broker with a topic that accepts small messages only, until its limit is raised."""

    limit: int | None = 30

    async def deliver(self, delivery: Delivery, **options: Any) -> None:
        for number, record in list(delivery.pending.items()):
            if record.topic == "my-goal_achieved" and self.limit is not None and len(record.value or b"") > self.limit:
                delivery.refuse(number, kafka_errors.MessageSizeTooLargeError(), self.limit)
        await super().deliver(delivery, **options)


def large(number: int, size: int = 40) -> messages.Message:
    return structs.replace(achieved(number), value=b'{"id":%d}' % number + b" " * size)


async def held(pool: sa_async.AsyncEngine) -> list[refused_messages.HeldByTopic]:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        return await refused_messages.status(connection)


async def test_a_refused_message_is_held_and_all_others_are_sent(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker, batch_id = Narrow(), uuid4()
    judged = [large(1), achieved(2), left(3)]
    await write(administrator, *judged, batch_id=batch_id)
    await outbox.publish(pool, broker, TOPICS, {batch_id: judged})
    assert values(broker) == [achieved(2).value, left(3).value]
    assert await waiting(administrator) == []
    (of_topic,) = await held(pool)
    assert (of_topic.topic, of_topic.records, of_topic.limit_bytes) == ("goal_achieved", 1, 30)
    assert of_topic.smallest_bytes == of_topic.largest_bytes > 40
    assert of_topic.reason == "larger than max.message.bytes"


async def test_messages_refused_during_a_sweep_are_held_too(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = Narrow()
    await write(administrator, large(1), achieved(2), left(3))
    assert await outbox.sweep(pool, broker, TOPICS) == 3
    assert values(broker) == [achieved(2).value, left(3).value]
    assert await waiting(administrator) == []
    assert [of_topic.records for of_topic in await held(pool)] == [1]


async def test_a_refused_message_is_sent_unchanged_once_its_topic_accepts_it(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = Narrow()
    written = [large(number, 40 * number) for number in (3, 1, 2)]
    await write(administrator, *written)
    await outbox.sweep(pool, broker, TOPICS)
    assert await outbox.retry_refused(pool, broker, TOPICS) == 0
    broker.limit = 100
    assert await outbox.retry_refused(pool, broker, TOPICS) == 2
    assert [(each.records, each.limit_bytes) for each in await held(pool)] == [(1, 100)]
    broker.limit = None
    assert await outbox.retry_refused(pool, broker, TOPICS) == 1
    assert await held(pool) == []
    # The smallest message goes first, as a probe of the topic's limit.
    assert values(broker) == [written[1].value, written[2].value, written[0].value]
    assert dict(broker.sent[0].headers)["tracestate"] == b"vendor=1"


async def test_a_topic_that_refuses_the_smallest_message_gets_no_others(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = Narrow()
    await write(administrator, *[large(number, 40 + number) for number in range(50)])
    await outbox.sweep(pool, broker, TOPICS)
    asked = 0

    class Counting(Narrow):
        async def deliver(self, delivery: Delivery, **options: Any) -> None:
            nonlocal asked
            asked += len(delivery.pending)
            await super().deliver(delivery, **options)

    assert await outbox.retry_refused(pool, Counting(), TOPICS) == 0
    assert asked == 1


# --- what was acknowledged already ---


class Forgetful(world.Broker):
    """Broker that acknowledges everything but exits, for a while."""

    silent = True

    async def deliver(self, delivery: Delivery, **options: Any) -> None:
        if self.silent and any(record.topic == "my-workflow_exit" for record in delivery.pending.values()):
            raise broker_errors.NotAcknowledgedError
        await super().deliver(delivery, **options)


async def test_a_repeated_publish_sends_only_unacknowledged_messages(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker, batch_id, acknowledged = Forgetful(), uuid4(), set[bytes]()
    judged = [achieved(1), left(2), achieved(3)]
    await write(administrator, *judged, batch_id=batch_id)
    for _ in range(3):
        with pytest.raises(broker_errors.NotAcknowledgedError):
            await outbox.publish(pool, broker, TOPICS, {batch_id: judged}, acknowledged)
    broker.silent = False
    await outbox.publish(pool, broker, TOPICS, {batch_id: judged}, acknowledged)
    assert values(broker) == [achieved(1).value, achieved(3).value, left(2).value]
    assert (await waiting(administrator), acknowledged) == ([], set())


async def test_a_sweep_that_fails_halfway_deletes_acknowledged_messages(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = Forgetful()
    await write(administrator, achieved(1), left(2))
    with pytest.raises(broker_errors.NotAcknowledgedError):
        await outbox.sweep(pool, broker, TOPICS)
    assert await waiting(administrator) == [left(2).value]


class Throttling(world.Broker):
    """Broker that accepts one record a window, and asks for a delay after each."""

    def __init__(self, wait_seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._wait_seconds, self._look = wait_seconds, look

    async def deliver(self, delivery: Delivery, **options: Any) -> None:
        next_at = time.monotonic()
        for number, record in list(delivery.pending.items()):
            if next_at >= options["deadline"]:
                return
            await self.send([record])
            delivery.acknowledge([number])
            next_at = time.monotonic() + self._wait_seconds
            await options["after_window"](next_at)
            await self._look()


@pytest.mark.parametrize(("wait_seconds", "left_after_each"), [(60.0, [2, 1, 0]), (0.1, [3, 3, 3])])
async def test_a_slow_publish_deletes_acknowledged_messages_window_by_window(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, wait_seconds: float, left_after_each: list[int]
) -> None:
    batch_id, others, found = uuid4(), uuid4(), list[int]()

    async def look() -> None:
        found.append(len(await waiting(administrator)) - 1)

    judged = [achieved(1), achieved(2), left(3)]
    await write(administrator, *judged, batch_id=batch_id)
    await write(administrator, achieved(4), batch_id=others)
    broker = Throttling(wait_seconds, look)
    await outbox.publish(pool, broker, TOPICS, {batch_id: judged})
    assert found == left_after_each
    assert (values(broker), await waiting(administrator)) == ([each.value for each in judged], [achieved(4).value])


async def test_a_publish_interrupted_after_a_delete_sends_the_rest_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    async def die() -> None:
        raise broker_errors.NotAcknowledgedError

    batch_id, known = uuid4(), set[bytes]()
    judged = [achieved(1), achieved(2), left(3)]
    await write(administrator, *judged, batch_id=batch_id)
    dying, healthy = Throttling(60.0, die), world.Broker()
    with pytest.raises(broker_errors.NotAcknowledgedError):
        await outbox.publish(pool, dying, TOPICS, {batch_id: judged}, known)
    assert await waiting(administrator) == [achieved(2).value, left(3).value]
    await outbox.publish(pool, healthy, TOPICS, {batch_id: judged}, known)
    assert values(dying) + values(healthy) == [each.value for each in judged]
    assert (await waiting(administrator), known) == ([], set())


async def test_a_slow_sweep_commits_sent_rows_and_sends_no_exit_before_its_achievement(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    async def look() -> None: ...

    written = [achieved(1), achieved(2), left(3)]
    await write(administrator, *written)
    broker, remaining = Throttling(60.0, look), []
    while await outbox.sweep(pool, broker, TOPICS):
        remaining.append(await waiting(administrator))
    assert remaining == [[each.value for each in written[sent:]] for sent in (1, 2, 3)]
    assert values(broker) == [each.value for each in written]


# --- the age of an exit ---


def exits_measured() -> float:
    return metrics.REGISTRY.get_sample_value("goalworker_exit_age_seconds_count", {"logic": "any"}) or 0.0


async def _timestamp_in_outbox(administrator: connections.Connection) -> int | None:
    query = "SELECT event_timestamp_ms FROM outbox WHERE topic = 'workflow_exit'"
    timestamp: int | None = await administrator.fetchval(query)
    return timestamp


@pytest.mark.parametrize("is_swept", [False, True])
async def test_the_age_of_an_exit_is_measured_for_every_sender(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, is_swept: bool
) -> None:
    await world.install(administrator, [ONE])
    before, broker = exits_measured(), world.Broker()
    taking = world.Worker(pool, broker).take(started(0), tagged("h", 5))
    if is_swept:
        await crashes.crashes(_before_it_sends(), taking)
        assert await _timestamp_in_outbox(administrator) == 0  # the time of this world's records
        await age(administrator, outbox.LEFT_BEHIND_SECONDS)
        await outbox.sweep(pool, broker, world.TOPICS.model_dump())
    else:
        await taking
    assert exits_measured() - before == 1


async def test_an_exit_that_a_late_enrollment_completed_has_no_age(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    worker, before = world.Worker(pool, broker := world.Broker()), exits_measured()
    await worker.take(tagged("h", 5))
    await worker.take(started(0))
    assert [record.topic for record in broker.sent] == ["goal-achieved", "workflow-exit"]
    assert exits_measured() == before


def _before_it_sends() -> statements.Hook:
    async def hook(statement: statements.Statement) -> Any:
        if statement.sql == "SEND":
            raise crashes.Crash
        return await statement.run()

    return hook


# --- sweeping ---


async def test_messages_without_an_owner_are_swept_at_once_and_others_when_left_behind(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    await write(administrator, achieved(1), batch_id=uuid4())
    await write(administrator, achieved(2))
    assert await outbox.sweep(pool, broker, TOPICS) == 1
    await age(administrator, outbox.LEFT_BEHIND_SECONDS - 5)
    assert await outbox.sweep(pool, broker, TOPICS) == 0
    await age(administrator, outbox.LEFT_BEHIND_SECONDS)
    assert await outbox.sweep(pool, broker, TOPICS) == 1
    assert values(broker) == [achieved(2).value, achieved(1).value]
    assert await waiting(administrator) == []


async def test_messages_claimed_by_their_owner_are_not_swept(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker, slow = world.Broker(), uuid4()
    await write(administrator, achieved(1), batch_id=slow)
    await write(administrator, achieved(2), batch_id=uuid4())
    await age(administrator, 100 * outbox.LEFT_BEHIND_SECONDS)
    await outbox.claim(pool, [slow])
    assert await outbox.sweep(pool, broker, TOPICS) == 1
    assert await waiting(administrator) == [achieved(1).value]
    await administrator.execute("UPDATE outbox SET claimed_until = claimed_until - interval '20 s'")
    assert await outbox.sweep(pool, broker, TOPICS) == 1  # the worker that claimed it has died since


async def test_a_worker_claims_only_messages_that_take_long_to_publish(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install(administrator, [ONE])
    worker, query = world.Worker(pool, Deaf()), "SELECT count(claimed_until) FROM outbox"
    with pytest.raises(broker_errors.NotAcknowledgedError):
        await worker.take(started(0), tagged("h", 5))
    await worker.phases.claim()
    assert await administrator.fetchval(query) == 0
    monkeypatch.setattr(outbox, "CLAIM_SECONDS", 0.0)
    await worker.phases.claim()
    assert await administrator.fetchval(query) == 2


async def test_a_change_of_a_goal_is_announced_by_the_next_sweep(pool: sa_async.AsyncEngine) -> None:
    broker = world.Broker()
    goal = await create(pool)
    assert await outbox.sweep(pool, broker, TOPICS) == 1
    (record,) = broker.sent
    assert record.topic == "my-goal_configured"
    assert json.loads(record.value or b"")["data"]["goal_id"] == str(goal.id)


async def test_a_sweep_goes_by_id_in_slices_with_achievements_before_exits(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SWEEP_RECORDS", 3)
    broker = world.Broker()
    await write(administrator, achieved(1), left(2), achieved(3), left(4))
    assert [await outbox.sweep(pool, broker, TOPICS) for _ in range(3)] == [3, 1, 0]
    assert values(broker) == [achieved(1).value, achieved(3).value, left(2).value, left(4).value]


async def test_the_sweeper_sends_the_same_bytes_as_the_owner(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    owner, sweeper = world.Broker(), world.Broker()
    traced = structs.replace(tagged("h", 5), traceparent="00-ab-cd-01", tracestate="vendor=1")
    taking = world.Worker(pool, owner).take(started(0), traced)
    await crashes.crashes(_before_it_deletes(), taking)
    await age(administrator, outbox.LEFT_BEHIND_SECONDS)
    assert await outbox.sweep(pool, sweeper, world.TOPICS.model_dump()) == 2
    assert sweeper.sent == owner.sent
    assert [dict(record.headers).get("tracestate") for record in owner.sent] == [b"vendor=1"] * 2


def _before_it_deletes() -> statements.Hook:
    async def hook(statement: statements.Statement) -> Any:
        if "DELETE FROM outbox" in statement.sql:
            raise crashes.Crash
        return await statement.run()

    return hook


async def test_only_one_worker_sweeps_at_a_time(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker = world.Broker()
    await write(administrator, achieved(1))
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await connection.execute(f"SELECT pg_advisory_xact_lock({connections.SWEEP_LOCK})")
        assert await outbox.sweep(pool, broker, TOPICS) == 0
    assert await outbox.sweep(pool, broker, TOPICS) == 1


class Slow(world.Broker):
    """Broker that takes longer than a transaction may be idle."""

    def __init__(self, seconds: float, meanwhile: Callable[[], Awaitable[int]]) -> None:
        super().__init__()
        self._seconds, self._meanwhile = seconds, meanwhile
        self.swept_meanwhile: list[int] = []

    async def send(self, records: Any) -> None:
        await asyncio.sleep(self._seconds)
        self.swept_meanwhile.append(await self._meanwhile())
        await super().send(records)


async def test_no_worker_sweeps_while_another_one_sends(
    database_url: str, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_IN_TRANSACTION_SECONDS", 1)
    monkeypatch.setattr(outbox, "DELETE_SECONDS", 60.0)
    await write(administrator, achieved(1), left(2))
    pool = connections.engine(database_url, pool_size=2, statement_timeout_seconds=30, application="test")
    broker = Slow(1.2, lambda: outbox.sweep(pool, world.Broker(), TOPICS))
    assert await outbox.sweep(pool, broker, TOPICS) == 2
    assert broker.swept_meanwhile == [0, 0]
    assert values(broker) == [achieved(1).value, left(2).value]
    assert await waiting(administrator) == []
    await pool.dispose()


async def test_a_frozen_sweeper_does_not_block_the_others(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(administrator, achieved(1))
    another = world.Broker()
    broker = Slow(1.0, lambda: outbox.sweep(pool, another, TOPICS))
    monkeypatch.setattr(outbox, "_OUTLAST_SENDING", "SET LOCAL idle_in_transaction_session_timeout = '300ms'")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)) as ended:
        await outbox.sweep(pool, broker, TOPICS)
    assert database_errors.is_transient(ended.value)
    assert broker.swept_meanwhile == [1]
    assert broker.sent == another.sent


async def test_many_sweepers_and_a_late_owner_send_the_same_and_leave_nothing(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    broker, batch_id = world.Broker(), uuid4()
    own = [achieved(number) for number in range(20)]
    await write(administrator, *own, batch_id=batch_id)
    await age(administrator, outbox.LEFT_BEHIND_SECONDS)
    await asyncio.gather(
        *(outbox.sweep(pool, broker, TOPICS) for _ in range(3)), outbox.publish(pool, broker, TOPICS, {batch_id: own})
    )
    assert set(values(broker)) == {message.value for message in own}
    assert await waiting(administrator) == []


# --- status ---


async def test_the_status_counts_pending_messages_by_topic_with_their_age(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await write(administrator, achieved(1), achieved(2), left(3))
    await administrator.execute("UPDATE outbox SET created_at = to_timestamp(1000 + id - (SELECT min(id) FROM outbox))")
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        found = await outbox.status(connection)
    assert found == [outbox.Pending("goal_achieved", 2, 1000.0), outbox.Pending("workflow_exit", 1, 1002.0)]
