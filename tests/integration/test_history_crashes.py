"""An insight process may crash anywhere or be frozen: each event and each exit is kept once, and counted once."""

import asyncio
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events
from goalworker.insight import history_loop
from goalworker.insight.history_loop import HistoryLoop
from goalworker.kafka.positioned_consumer import PositionedConsumer, TopicLog
from goalworker.pipeline import dead_letters
from goalworker.postgres import connections, tables
from goalworker.stores import day_partitions, history, history_writing
from tests.integration import crashes, flow, statements, world
from tests.integration.scenes import paid, tagged
from tests.kit import support

pytestmark = pytest.mark.unmeasured

How = Callable[[int], statements.Hook]
EVENTS = [
    *(tagged(f"t{number}", number, "tag-1", f"c{number % 3}") for number in range(4)),
    *(paid(f"p{number}", number, contact_id=f"c{number % 3}") for number in range(4)),
    tagged("t1", 1, "tag-1", "c1"),  # repeated: two rows, read once
]
EXITS = TopicPartition(world.TOPICS.workflow_exit, 0)
ALL = {"GOALWORKER_HISTORY__KEEP": "all", "GOALWORKER_HISTORY__DELAY_SECONDS": "0"}


class LogConsumer(PositionedConsumer):
    """Consumer of a log in memory that stops the loop when it is idle."""

    def __init__(self, settings: config.Settings, log: flow.Log) -> None:
        super().__init__(settings, ())
        self._log = log
        self._positions: dict[TopicPartition, int] = {}
        self.stop: Callable[[], None] = lambda: None
        self.begins: dict[TopicPartition, int] = {}
        self.epoch = 1

    async def fetch(self, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        await asyncio.sleep(0)
        if self.needs_positions:
            return {}
        fetched: dict[TopicPartition, Sequence[ConsumerRecord]] = {}
        for partition, records in self._log.records.items():
            position = self._positions[partition]
            if taken := records[position : position + flow.RECORDS_MAX]:
                fetched[partition] = taken
                self._positions[partition] = position + len(taken)
        if not fetched:
            self.stop()
        return fetched

    async def logs(self) -> dict[TopicPartition, TopicLog]:
        return {
            partition: TopicLog(self.begins.get(partition, 0), len(records))
            for partition, records in self._log.records.items()
        }

    @property
    def partitions(self) -> Collection[TopicPartition]:
        return self._log.records.keys()

    def end_of(self, partition: TopicPartition) -> int:
        return len(self._log.records[partition])

    def seek_to(self, epoch: int, positions: Mapping[TopicPartition, int]) -> None:
        self._positions = dict(positions)
        self.needs_positions = False

    async def commit(self, epoch: int, offsets: Mapping[TopicPartition, int]) -> None:
        async def keep() -> None:
            self._log.committed.update(offsets)

        await statements.through_hook(statements.Statement("OFFSETS", keep))

    async def keep_polling(self) -> None:
        pass

    async def commit_idle(self) -> None:
        pass

    async def close(self) -> None:
        pass


def log_with_exits() -> flow.Log:
    """Return a log of all events, and of exits that were published a second apart."""
    log = flow.Log(EVENTS)
    for number in range(4):
        value = f'{{"id":"{UUID(int=number)}","type":"workflow.exit.goal","tenantid":"north"}}'.encode()
        log.records[EXITS].append(
            ConsumerRecord(EXITS.topic, 0, number, number * 1_000, 0, None, value, None, 0, len(value), ())
        )
    return log


def loop_of(pool: sa_async.AsyncEngine, log: flow.Log, **env: str) -> tuple[HistoryLoop, LogConsumer]:
    settings = config.load({**ALL, **env}, env_file=None, secrets_dir=None)
    consumer = LogConsumer(settings, log)
    reading = HistoryLoop(settings, pool, consumer, Decoder(settings.topics.event_types, Limits()))
    consumer.stop = reading.stop
    return reading, consumer


async def read(pool: sa_async.AsyncEngine, log: flow.Log, **env: str) -> None:
    await loop_of(pool, log, **env)[0].run()


async def assert_each_once(administrator: connections.Connection, log: flow.Log, produced: list[events.Event]) -> None:
    rows = await administrator.fetch('SELECT topic, "offset", event_id FROM history_events')
    expected = Counter(
        (partition.topic, record.offset)
        for partition, records in log.records.items()
        for record in records
        if partition != EXITS
    )
    assert Counter((row[0], row[1]) for row in rows) == expected
    assert Counter(row[2] for row in rows) == Counter(event.id for event in produced)
    counted = await administrator.fetch("SELECT field, sum(count)::int FROM seen_values GROUP BY field")
    assert {row[0]: row[1] for row in counted} == {
        "tag_id": sum(isinstance(event.data, events.TagAdded) for event in produced),
        "currency": sum(isinstance(event.data, events.PaymentCompleted) for event in produced),
    }
    positions = await administrator.fetch("SELECT topic, next_offset FROM history_positions")
    assert {row[0]: row[1] for row in positions} == {
        partition.topic: len(records) for partition, records in log.records.items()
    }
    exits = await administrator.fetch("SELECT tenant_id, exit_id, published_at FROM history_exits")
    assert Counter(map(tuple, exits)) == Counter(
        ("north", UUID(int=number), datetime.fromtimestamp(number, UTC))
        for number, _ in enumerate(log.records.get(EXITS, ()))
    )


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_loop, "BUFFER_RECORDS", 4)


@pytest.mark.parametrize("end", [crashes.before, crashes.after], ids=["before", "after"])
async def test_a_crash_at_any_round_trip_keeps_each_event_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, end: How
) -> None:
    step, is_over = 0, False
    while not is_over:
        await world.clear(administrator)
        log = log_with_exits()
        is_over = await crashes.survives(end(step), read(pool, log))
        await read(pool, log)
        await assert_each_once(administrator, log, EVENTS)
        assert set(log.lag.values()) == {0}
        step += 1
    assert step >= 20, "fewer round trips than there are"


async def test_a_process_that_crashes_a_little_later_each_time_finishes(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    log, step = log_with_exits(), 0
    while not await crashes.survives(crashes.after(step), read(pool, log)):
        step += 1
    await assert_each_once(administrator, log, EVENTS)


async def test_a_killed_connection_is_retried_and_writes_nothing_twice(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    steps = len(await crashes.round_trips(read(pool, log_with_exits())))
    for step in range(0, steps, 2):
        await world.clear(administrator)
        log = log_with_exits()
        with statements.hooked(_kill_at(step, administrator)):
            await read(pool, log)
        await assert_each_once(administrator, log, EVENTS)


def _kill_at(step: int, administrator: connections.Connection) -> statements.Hook:
    numbers = itertools.count()

    async def hook(statement: statements.Statement) -> Any:
        if next(numbers) == step and statement.connection is not None:
            pid = statement.connection.get_server_pid()  # type: ignore[attr-defined]
            await administrator.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
        return await statement.run()

    return hook


async def test_a_commit_whose_reply_is_lost_is_found_in_the_positions(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    log = log_with_exits()
    lost: list[statements.Statement] = []

    async def hook(statement: statements.Statement) -> Any:
        answer = await statement.run()
        if statement.sql == "COMMIT" and len(lost) < 2:
            lost.append(statement)
            raise asyncpg.ConnectionDoesNotExistError("the reply is lost")
        return answer

    with statements.hooked(hook):
        await read(pool, log)
    await assert_each_once(administrator, log, EVENTS)
    assert len(lost) == 2


# --- several processes ---


async def test_a_frozen_process_is_fenced_by_the_one_that_read_on(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    log, others = log_with_exits(), 0

    async def hook(statement: statements.Statement) -> Any:
        nonlocal others
        if "next_offset = n.stored" in statement.sql and not others:
            others += 1
            with statements.hooked(lambda inner: inner.run()):
                await read(pool, log)  # while the first one is frozen before its transaction moves the positions
        return await statement.run()

    with statements.hooked(hook):
        await read(pool, log)
    await assert_each_once(administrator, log, EVENTS)
    assert others == 1


async def test_processes_that_read_the_same_partitions_at_once_keep_each_event_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    log = flow.Log(EVENTS * 5)
    await asyncio.gather(*(read(pool, log) for _ in range(4)))
    await assert_each_once(administrator, log, EVENTS * 5)


@world.examples(20)
@given(data=st.data())
async def test_however_processes_crash_each_event_is_kept_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, data: st.DataObject
) -> None:
    await world.clear(administrator)
    produced = data.draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=30))
    log = flow.Log(produced)
    for step in data.draw(st.lists(st.integers(0, 60), max_size=4)):
        await crashes.survives(data.draw(st.sampled_from([crashes.before, crashes.after]))(step), read(pool, log))
    await asyncio.gather(*(read(pool, log) for _ in range(data.draw(st.integers(1, 3)))))
    rows = await administrator.fetch('SELECT topic, "offset" FROM history_events')
    assert len(rows) == len({tuple(row) for row in rows}) == len(produced)


# --- repetitions ---


async def test_a_record_that_was_malformed_is_kept_and_counted_once_it_is_redriven(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    log, again = flow.Log([b"{"]), TopicPartition(world.TOPICS.redrive, 0)
    mended = world.record_of(EVENTS[0], 0)
    origin = (dead_letters.ORIGINAL_TOPIC, mended.topic.encode())
    log.records[again].append(dataclasses.replace(mended, topic=again.topic, headers=(*mended.headers, origin)))
    await read(pool, log)
    assert [row[0] for row in await administrator.fetch("SELECT topic FROM history_events")] == [again.topic]
    assert await administrator.fetchval("SELECT sum(count)::int FROM seen_values WHERE field = 'tag_id'") == 1


# --- retention, days and enrollments ---


async def test_without_retention_nothing_is_kept_and_values_are_counted(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    log = log_with_exits()
    await history_writing.set_coverage(pool, "all", timedelta(0))
    await read(pool, log, GOALWORKER_HISTORY__RETENTION="P0D")
    assert await administrator.fetchval("SELECT count(*) FROM history_events") == 0
    assert await administrator.fetchval("SELECT count(*) FROM history_exits") == 0
    assert await administrator.fetchval("SELECT sum(count)::int FROM seen_values") == len(EVENTS)
    assert await administrator.fetchval("SELECT sum(next_offset)::int FROM history_positions") == len(EVENTS) + 4


async def test_a_missing_day_is_made_by_the_batch_that_needs_it(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    today = (await connections.now(pool)).date()
    await read(pool, flow.Log(EVENTS))
    days = [row[0] for row in await administrator.fetch("SELECT DISTINCT recorded_on FROM history_events")]
    assert days == [today]
    made = await administrator.fetch("SELECT 1 FROM pg_inherits WHERE inhparent = 'history_events'::regclass")
    assert len(made) == 1 + day_partitions.DAYS_AHEAD


async def test_days_are_made_ahead_and_dropped_when_they_are_older_than_the_retention(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    now = await connections.now(pool)
    await history_writing.set_coverage(pool, "all", timedelta(days=7))
    first = now.date() - timedelta(days=9)
    await administrator.execute("SELECT goalworker_make_history_days($1, $2)", first, now.date())
    assert await history_writing.keep_days(pool, timedelta(days=7)) == [first, first + timedelta(days=1)]
    assert await history_writing.keep_days(pool, timedelta(days=7)) == []
    dropped_before = await administrator.fetchval("SELECT dropped_before FROM history_coverage")
    assert dropped_before == (now - timedelta(days=7)).date()
    left = await administrator.fetch("SELECT 1 FROM pg_inherits WHERE inhparent = 'history_events'::regclass")
    assert len(left) == 8 + day_partitions.DAYS_AHEAD
    assert await history_writing.last_day(pool) == now.date() + timedelta(days=day_partitions.DAYS_AHEAD)
    assert len(await history_writing.keep_days(pool, timedelta(0))) == len(left)
    assert await history_writing.last_day(pool) is None


async def test_exits_bound_no_time_that_history_covers(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await history_writing.set_coverage(pool, "all", timedelta(days=30))

    async def covered() -> history.Coverage:
        async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
            return await history.coverage(connection, "north")

    log = log_with_exits()
    exits = log.records.pop(EXITS)
    others, log.records[EXITS] = log.records.copy(), exits
    for partition in others:
        del log.records[partition]
    await read(pool, log)
    assert (await covered()).history_from is None
    log.records |= others
    await read(pool, log)
    until = datetime(2026, 5, 1, tzinfo=UTC)
    await history_writing.cover_until(pool, dict.fromkeys(others, until))
    found = await covered()
    assert (found.history_from, found.history_until) == (datetime(1970, 1, 1, tzinfo=UTC), until)


# The events have just arrived, whatever the timestamps of their records say, which are of 1970.
@pytest.mark.parametrize("judged_ago", [timedelta(days=1), timedelta(seconds=1)])
async def test_the_enrollments_of_events_are_awaited(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, judged_ago: timedelta
) -> None:
    settings = {"GOALWORKER_HISTORY__KEEP": "enrolled", "GOALWORKER_HISTORY__DELAY_SECONDS": "1"}
    await administrator.execute(
        "INSERT INTO progress VALUES ('workflow-lifecycle', 0, now() - $1::interval, now())", judged_ago
    )
    reading, consumer = loop_of(pool, flow.Log(EVENTS), **settings)
    consumer.stop = lambda: None
    running = asyncio.create_task(reading.run())
    await support.until(lambda: reading.is_waiting)
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id) VALUES ($1, 'e', 'w', 'c1')",
        EVENTS[0].tenant_id,
    )
    await administrator.execute("UPDATE progress SET judged_until = now()")

    async def is_read() -> bool:
        return bool(await administrator.fetchval("SELECT sum(next_offset)::int FROM history_positions") == len(EVENTS))

    await support.until(is_read)
    reading.stop()
    await running
    kept = await administrator.fetch("SELECT DISTINCT contact_id FROM history_events")
    assert [row[0] for row in kept] == ["c1"]


# --- gaps ---


async def _coverage_begins(administrator: connections.Connection, topic: str) -> datetime:
    at: datetime = await administrator.fetchval("SELECT history_from FROM history_positions WHERE topic = $1", topic)
    return at


async def test_history_begins_with_the_first_record_and_now_behind_a_gap(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    log, before = flow.Log(EVENTS), await connections.now(pool)
    await read(pool, log)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)  # the timestamp of every record of the log
    assert {await _coverage_begins(administrator, partition.topic) for partition in log.records} == {epoch}
    partition, records = next(iter(log.records.items()))
    ends = len(records)
    records += [dataclasses.replace(record, offset=record.offset + ends) for record in records]
    reading, consumer = loop_of(pool, log)
    consumer.begins = {partition: ends + 1}  # the records behind the gap are dated before it
    await reading.run()
    assert await _coverage_begins(administrator, partition.topic) > before
    kept = 'SELECT max("offset"), count(*) FROM history_events WHERE topic = $1'
    assert tuple(await administrator.fetchrow(kept, partition.topic)) == (2 * ends - 1, 2 * ends - 1)
