"""A worker with a backlog publishes several batches together, and delays none of them for long."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker import metrics
from goalworker.kafka import broker_errors
from goalworker.pipeline import in_flight, phases, waiting, worker
from goalworker.pipeline.batches import Batch
from goalworker.postgres import connections
from tests.integration import checks, flow, statements, world
from tests.integration.scenes import ONE, TWO, logic, started, tagged
from tests.kit import support

BATCHES = 4
ENROLLMENTS = [("w1", f"e{number}", f"c{number}") for number in range(BATCHES * flow.RECORDS_MAX)]
STARTS = [started(0, f"s-{enrollment[1]}", enrollment) for enrollment in ENROLLMENTS]
HITS = [tagged(f"h-{contact}", 5, contact_id=contact) for *_, contact in ENROLLMENTS]
GOALS, LOGICS = (ONE, TWO), logic("any")


@pytest.fixture
async def broker(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> world.Broker:
    monkeypatch.setattr(worker, "DEFER_SECONDS", 0)
    await world.clear(administrator)
    await world.install(administrator, GOALS, LOGICS)
    broker = world.Broker()
    await world.Worker(pool, broker).take(*STARTS)
    return broker


def _without_backlog(pool: sa_async.AsyncEngine, broker: world.Broker, log: flow.Log) -> worker.Worker:
    """Return a worker that fetches far fewer records than it might, and none while a batch waits."""
    working, consumer = flow.worker_of(pool, broker, log, {"GOALWORKER_BATCH__MAX_RECORDS": "1000"})
    consumer.fetch_max, consumer.is_slow = flow.RECORDS_MAX, True
    return working


async def _run_hooked(working: worker.Worker, hook: statements.Hook) -> None:
    async with asyncio.timeout(20):
        with statements.hooked(hook):
            await working.run()


async def test_a_backlog_is_published_and_committed_several_batches_at_once(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    broker: world.Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "PUBLISH_WAIT_SECONDS", 10)  # long enough for a slow machine
    steps: Counter[str] = Counter()

    async def count(statement: statements.Statement) -> Any:
        steps[statement.sql] += 1
        return await statement.run()

    log = flow.Log(HITS)
    with statements.hooked(count):
        await flow.run(pool, broker, log)
    assert set(log.lag.values()) == {0}
    assert steps["COMMIT"] >= 2 * BATCHES
    assert steps["OFFSETS"] < BATCHES
    assert steps["SEND"] < 2 * BATCHES
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])


async def test_a_batch_is_published_while_the_next_one_is_judged(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, broker: world.Broker
) -> None:
    published, judgements = asyncio.Event(), 0

    async def stand_still(statement: statements.Statement) -> Any:
        nonlocal judgements
        if "FOR UPDATE" in statement.sql:
            judgements += 1
            if judgements == 2:
                await published.wait()
        if statement.sql == "SEND":
            published.set()
        return await statement.run()

    log = flow.Log(HITS)
    async with asyncio.timeout(20):
        with statements.hooked(stand_still):
            await flow.run(pool, broker, log)
    assert judgements == BATCHES
    assert set(log.lag.values()) == {0}
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])


async def test_without_a_backlog_no_batch_waits_for_the_next_one_to_be_judged(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    broker: world.Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flight, "PUBLISH_WAIT_SECONDS", 60)
    third_is_judged, second_is_published = asyncio.Event(), asyncio.Event()
    steps: Counter[str] = Counter()

    async def overlap(statement: statements.Statement) -> Any:
        kind = "JUDGE" if "FOR UPDATE" in statement.sql else statement.sql
        steps[kind] += 1
        if kind == "JUDGE" and steps[kind] == 3:
            third_is_judged.set()
            await second_is_published.wait()
        if kind == "SEND" and steps[kind] == 1:
            await third_is_judged.wait()  # meanwhile the second batch is judged
        if kind == "SEND" and steps[kind] == 3:
            second_is_published.set()
        return await statement.run()

    log = flow.Log(HITS)
    working = _without_backlog(pool, broker, log)
    await _run_hooked(working, overlap)
    assert steps["SEND"] == 2 * BATCHES
    assert set(log.lag.values()) == {0}
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])


def all_fetched_after(fetches: int, all_fetched: asyncio.Event) -> Callable[[], None]:
    """Return a callback that sets the event when it is called for the last of these fetches."""
    left = iter(range(fetches - 1))
    return lambda: all_fetched.set() if next(left, None) is None else None


async def test_without_a_backlog_records_that_arrive_during_a_judgement_make_one_batch(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    broker: world.Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    all_fetched, judgements = asyncio.Event(), 0

    async def stand_still(statement: statements.Statement) -> Any:
        nonlocal judgements
        monkeypatch.setattr(worker, "DEFER_SECONDS", 60)  # only the first batch, before goals are known, is due at once
        if "FOR UPDATE" in statement.sql:
            judgements += 1
            await all_fetched.wait()
        return await statement.run()

    log = flow.Log(HITS)
    working, consumer = flow.worker_of(pool, broker, log, {"GOALWORKER_BATCH__MAX_RECORDS": "1000"})
    consumer.fetch_max, consumer.during_fetch = flow.RECORDS_MAX, all_fetched_after(BATCHES, all_fetched)
    await _run_hooked(working, stand_still)
    assert judgements == 2
    assert set(log.lag.values()) == {0}
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])


async def test_a_batch_that_waits_takes_no_more_records_than_a_batch_may_have(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    broker: world.Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[int] = []
    all_fetched, judgements = asyncio.Event(), 0
    begin = in_flight.InFlightBatches.begin

    def note(self: in_flight.InFlightBatches, batch: Batch, *, backlog: bool) -> None:
        batches.append(batch.records)
        begin(self, batch, backlog=backlog)

    async def stand_still(statement: statements.Statement) -> Any:
        nonlocal judgements
        if "FOR UPDATE" in statement.sql:
            judgements += 1
            monkeypatch.setattr(worker, "DEFER_SECONDS", 60)  # the goals are known by now
            if judgements == 2:
                await all_fetched.wait()
        return await statement.run()

    monkeypatch.setattr(in_flight.InFlightBatches, "begin", note)
    log = flow.Log(HITS[:10])
    working, consumer = flow.worker_of(pool, broker, log, {"GOALWORKER_BATCH__MAX_RECORDS": "4"})
    consumer.fetch_max, consumer.during_fetch = flow.RECORDS_MAX, all_fetched_after(4, all_fetched)
    await _run_hooked(working, stand_still)
    assert batches == [3, 3, 4]
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS[:10]])


async def test_without_a_backlog_a_worker_does_not_fetch_for_long_during_a_judgement(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    broker: world.Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetches_while_judging: list[int] = []
    fetches = 0

    def count_fetches() -> None:
        nonlocal fetches
        fetches += 1

    async def stand_still(statement: statements.Statement) -> Any:
        if "FOR UPDATE" in statement.sql and not fetches_while_judging:
            await support.until(lambda: consumer.polls >= 3)
            fetches_while_judging.append(fetches)
        return await statement.run()

    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)  # DEFER_SECONDS is 0
    log = flow.Log(HITS)
    working, consumer = flow.worker_of(pool, broker, log, {"GOALWORKER_BATCH__MAX_RECORDS": "1000"})
    consumer.fetch_max, consumer.during_fetch = flow.RECORDS_MAX, count_fetches
    await _run_hooked(working, stand_still)
    assert fetches_while_judging == [2]  # the batch that is judged, and the one that waits
    assert set(log.lag.values()) == {0}
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])


async def test_a_batch_is_committed_while_the_next_one_is_published(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, broker: world.Broker
) -> None:
    second_is_published, sends, commits = asyncio.Event(), 0, 0

    async def overlap(statement: statements.Statement) -> Any:
        nonlocal sends, commits
        sends += statement.sql == "SEND"
        commits += statement.sql == "OFFSETS"
        if sends == 3:
            second_is_published.set()
        if statement.sql == "OFFSETS" and commits == 1:
            await second_is_published.wait()
        return await statement.run()

    log = flow.Log(HITS)
    working = _without_backlog(pool, broker, log)
    await _run_hooked(working, overlap)
    assert set(log.lag.values()) == {0}
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])


async def test_a_stopping_worker_keeps_polling_while_its_last_batch_waits(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    broker: world.Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away_until_polled(statement: statements.Statement) -> Any:
        if "FOR UPDATE" in statement.sql:
            polls.append(consumer.polls)
            if polls[-1] < polls[0] + 3:
                raise ConnectionError("away")
        return await statement.run()

    polls: list[int] = []
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)
    log = flow.Log(HITS)
    working, consumer = flow.worker_of(pool, broker, log, {"GOALWORKER_BATCH__MAX_RECORDS": str(len(HITS))})
    consumer.during_fetch = working.stop
    async with asyncio.timeout(30):
        with statements.hooked(away_until_polled):
            await working.run()
    assert polls[-1] >= polls[0] + 3
    assert set(log.lag.values()) == {0}
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])


async def test_judgements_committed_before_a_failed_attempt_are_published_too(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    broker: world.Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away_once(statement: statements.Statement) -> Any:
        if "FOR UPDATE" in statement.sql:
            judgements.append(statement.sql)
            if len(judgements) == 2:
                raise ConnectionError("away")
        return await statement.run()

    judgements: list[str] = []
    monkeypatch.setattr(phases, "JUDGE_CONTACTS_MAX", 1)
    log = flow.Log(HITS)
    with statements.hooked(away_once):
        await flow.run(pool, broker, log, GOALWORKER_BATCH__MAX_RECORDS=str(len(HITS)))
    assert len(judgements) == len(HITS) + 2
    assert await administrator.fetchval("SELECT count(*) FROM outbox") == 0
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])


async def test_new_facts_count_as_new_though_the_dead_letters_beside_them_are_sent_twice(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, broker: world.Broker
) -> None:
    async def refuse_once(statement: statements.Statement) -> Any:
        if statement.sql == "SEND":
            sends.append(statement.sql)
            if len(sends) == 1:
                raise broker_errors.NotAcknowledgedError
        return await statement.run()

    sends: list[str] = []
    topic = world.TOPICS.tag_added
    matched = metrics.events_total.labels(topic=topic, outcome="matched")
    before = matched._value.get()
    log = flow.Log([*HITS, b"{"])
    with statements.hooked(refuse_once):
        await flow.run(pool, broker, log, GOALWORKER_BATCH__MAX_RECORDS=str(len(HITS) + 1))
    assert matched._value.get() - before == len(HITS)
    assert [reason for reason, _ in broker.letters()] == ["invalid_json"]
    assert log.lag == {topic: 0}
    await checks.assert_lawful(administrator, broker, GOALS, LOGICS, [*STARTS, *HITS])
