"""A topic with too many dead letters is paused for all workers and across restarts until an operator resumes it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
import structlog
from aiokafka import ConsumerRecord, TopicPartition
from sqlalchemy.ext import asyncio as sa_async

from goalworker import metrics
from goalworker.decoding import decoder, fast
from goalworker.decoding.record import FetchedRecord
from goalworker.domain import events
from goalworker.pipeline import admission, breaker, paused_topics, waiting, worker
from goalworker.postgres import connections, tables
from tests.integration import checks, crashes, flow, statements, world
from tests.integration.scenes import ONE, ended, started, tagged

TOPIC, OTHER = world.TOPICS.tag_added, world.TOPICS.workflow_lifecycle
SAMPLE = paused_topics.PauseTrigger("invalid_json", 3, 42)
DEAD, GOOD = True, False
NORTH, SOUTH = "north", "south"
ENV = {"GOALWORKER_DEAD_LETTERS__WINDOW": "4", "GOALWORKER_DEAD_LETTERS__MAX_RATIO": "0.5"}


@pytest.fixture(autouse=True)
async def topics_go_on(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(worker, "DEFER_SECONDS", 0)
    yield
    for topic in (TOPIC, OTHER):
        metrics.topic_paused.labels(topic=topic).set(0)


def _pauses(pool: sa_async.AsyncEngine) -> paused_topics.PausedTopics:
    return paused_topics.PausedTopics(pool, 0.5, 4, lambda *_: "acme")


async def _admit(pauses: paused_topics.PausedTopics, is_dead: Sequence[bool]) -> int | None:
    """Admit records of one tenant."""
    records = [world.record_of(tagged(f"h{number}", 5), number) for number in range(len(is_dead))]
    accepted = await pauses.accept(TOPIC, len(is_dead)) if pauses.is_accepting(TOPIC) else 0
    dead = {place: "acme" for place, dead in enumerate(is_dead[accepted:]) if dead}
    position = pauses.admit(TOPIC, records[accepted:], dead)
    return None if position is None else accepted + position


async def _resume(pool: sa_async.AsyncEngine, accept_records: int = 0) -> bool:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        return await paused_topics.resume_topic(connection, TOPIC, accept_records)


def _broken(count: int, tenant_id: str = NORTH) -> list[bytes]:
    """Return values whose data are malformed, so that their tenant can be told."""
    fields = {**json.loads(world.record_of(tagged("x", 5), 0).value), "tenantid": tenant_id, "data": {}}
    return [json.dumps({**fields, "id": f"broken{number}"}).encode() for number in range(count)]


def _produce(log: flow.Log, *messages: events.Event | bytes) -> None:
    for message in messages:
        log.produce(message)


def _tagged(number: int, tenant_id: str) -> events.Event:
    return msgspec.structs.replace(tagged(f"h{number}", 5), tenant_id=tenant_id)


def _is_shown_as_paused() -> bool:
    return bool(metrics.topic_paused.labels(topic=TOPIC)._value.get())


# --- for every worker and across restarts ---


async def test_a_pause_is_known_to_every_worker_and_after_a_restart(pool: sa_async.AsyncEngine) -> None:
    one, another = _pauses(pool), _pauses(pool)
    assert await _admit(one, [DEAD, GOOD, DEAD, DEAD]) == 3
    await one.pause(TOPIC, SAMPLE)
    assert one.topics == {TOPIC}
    await another.read()
    restarted = _pauses(pool)
    await restarted.read()
    assert another.topics == restarted.topics == {TOPIC}
    assert _is_shown_as_paused()


async def test_a_pause_is_stored_with_its_reason_and_position(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await _pauses(pool).pause(TOPIC, paused_topics.PauseTrigger("invalid_data", 0, 1))
    await _pauses(pool).pause(TOPIC, SAMPLE)
    rows = await administrator.fetch('SELECT topic, is_paused, reason, partition, "offset" FROM paused_topics')
    assert [tuple(row) for row in rows] == [(TOPIC, True, "invalid_json", 3, 42)]


async def test_a_resumed_topic_begins_with_an_empty_window(pool: sa_async.AsyncEngine) -> None:
    pauses = _pauses(pool)
    assert not await _resume(pool)
    await _admit(pauses, [DEAD, DEAD, DEAD, DEAD])
    await pauses.pause(TOPIC, SAMPLE)
    assert await _resume(pool)
    await pauses.read()
    assert (pauses.topics, _is_shown_as_paused()) == (set(), False)
    assert await _admit(pauses, [DEAD, DEAD, GOOD]) is None
    assert await _admit(pauses, [DEAD]) == 0
    assert not await _resume(pool)


async def test_reading_while_a_topic_is_being_paused_does_not_forget_the_pause(pool: sa_async.AsyncEngine) -> None:
    pauses = _pauses(pool)

    async def pause_meanwhile(statement: statements.Statement) -> object:
        answer = await statement.run()
        if "SELECT topic" in statement.sql:
            await pauses.pause(TOPIC, SAMPLE)
        return answer

    with statements.hooked(pause_meanwhile):
        await pauses.read()
    assert pauses.topics == {TOPIC}


# --- accepting the next N ---


async def test_accepted_records_pass_and_the_next_ones_count(pool: sa_async.AsyncEngine) -> None:
    pauses = _pauses(pool)
    await pauses.pause(TOPIC, SAMPLE)
    await _resume(pool, accept_records=6)
    await pauses.read()
    assert await _admit(pauses, [DEAD] * 5) is None
    assert await _admit(pauses, [DEAD] * 5) == 1 + 3


async def test_workers_share_the_records_that_are_accepted(pool: sa_async.AsyncEngine) -> None:
    workers = [_pauses(pool) for _ in range(5)]
    await workers[0].pause(TOPIC, SAMPLE)
    await _resume(pool, accept_records=30)
    for pauses in workers:
        await pauses.read()
    positions = await asyncio.gather(*(_admit(pauses, [DEAD] * 10) for pauses in workers))
    assert sorted(positions, key=str) == [3, 3, None, None, None]


async def test_a_new_pause_cancels_the_remaining_acceptance(pool: sa_async.AsyncEngine) -> None:
    pauses = _pauses(pool)
    await pauses.pause(TOPIC, SAMPLE)
    await _resume(pool, accept_records=100)
    await pauses.read()
    await pauses.pause(TOPIC, SAMPLE)
    await _resume(pool)
    await pauses.read()
    assert await _admit(pauses, [DEAD] * 4) == 3


# --- in the flow ---


async def test_records_after_a_pause_are_not_committed_and_other_topics_go_on(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    log, broker = flow.Log([b"{"] * 9), world.Broker()
    runs = [("w1", f"e{number}", f"c{number}") for number in range(9)]
    for number, run in enumerate(runs):
        log.produce(started(0, f"s{number}", run))
    await flow.run(pool, broker, log, **ENV)
    assert log.lag == {TOPIC: 9 - 3, OTHER: 0}
    assert len(broker.letters()) == 3
    assert await administrator.fetchval("SELECT count(*) FROM enrollments") == 9
    row = await administrator.fetchrow('SELECT reason, "offset" FROM paused_topics')
    assert tuple(row) == ("invalid_json", 3)
    await flow.run(pool, broker, log, **ENV)
    assert log.lag == {TOPIC: 9 - 3, OTHER: 0}


def _without_time(event: events.Event) -> bytes:
    fields = json.loads(world.record_of(event, 0).value)
    return json.dumps({name: value for name, value in fields.items() if name != "time"}).encode()


class CountingDecoder(decoder.Decoder):
    """Decoder that records the offsets of what it decodes."""

    decoded: list[int]

    def fast(self, topic: str) -> fast.FastDecode:
        take = super().fast(topic)

        def counting(records: Sequence[FetchedRecord], *rest: Any) -> fast.Decoded:
            self.decoded.extend(record.offset for record in records)
            return take(records, *rest)

        return counting


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    offsets: list[int] = []
    monkeypatch.setattr(CountingDecoder, "decoded", offsets, raising=False)
    return offsets


async def test_the_rest_of_a_fetch_whose_topic_pauses_is_not_decoded_again(
    pool: sa_async.AsyncEngine, decoded: list[int]
) -> None:
    log = flow.Log([*(_without_time(tagged(f"h{number}", 5)) for number in range(2)), *[b"{"] * 9])
    log.produce(started(0))
    counter = metrics.events_without_time_total.labels(topic=TOPIC)
    before = counter._value.get()
    env = ENV | {"GOALWORKER_BATCH__MAX_RECORDS": "20"}
    working, _ = flow.worker_of(pool, world.Broker(), log, env, CountingDecoder)
    await working.run()
    # The good records are of another tenant than those without one, so all four in the window must be dead letters.
    assert log.lag == {TOPIC: 11 - 5, OTHER: 0}
    assert len(decoded) == 12
    assert counter._value.get() - before == 2


async def test_records_of_a_topic_paused_during_the_fetch_are_decoded_after_the_resume(
    pool: sa_async.AsyncEngine, decoded: list[int]
) -> None:
    log = flow.Log([_without_time(tagged(f"h{number}", 5)) for number in range(2)])
    log.produce(started(0))
    counter = metrics.events_without_time_total.labels(topic=TOPIC)
    before = counter._value.get()
    working, consumer = flow.worker_of(pool, world.Broker(), log, ENV, CountingDecoder)
    consumer.during_fetch = lambda: setattr(working.paused_topics, "topics", {TOPIC})
    await working.run()
    assert log.lag == {TOPIC: 2, OTHER: 0}
    assert len(decoded) == 1
    await flow.run(pool, world.Broker(), log, **ENV)
    assert log.lag == {TOPIC: 0, OTHER: 0}
    assert counter._value.get() - before == 2


@pytest.mark.parametrize("statement", ["INSERT INTO paused_topics", "SET accept_records = greatest"])
async def test_a_breaker_that_waits_for_the_database_keeps_polling(
    pool: sa_async.AsyncEngine, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    async def away_until_polled(made: statements.Statement) -> object:
        if statement in made.sql and consumer.polls < 3:
            raise ConnectionError("away")
        return await made.run()

    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)
    await _pauses(pool).pause(TOPIC, SAMPLE)
    await _resume(pool, accept_records=2)
    log = flow.Log([b"{"] * 9)
    working, consumer = flow.worker_of(pool, world.Broker(), log, ENV)
    await working.paused_topics.read()
    with statements.hooked(away_until_polled):
        async with asyncio.timeout(30):
            await working.run()
    assert consumer.polls >= 3
    assert log.lag == {TOPIC: 9 - 2 - 3}


async def test_a_partition_reassigned_while_its_topic_pauses_is_left_to_its_new_owner(
    pool: sa_async.AsyncEngine,
) -> None:
    async def reassign(made: statements.Statement) -> object:
        if "INSERT INTO paused_topics" in made.sql:
            await consumer.on_partitions_revoked([])
        return await made.run()

    log, broker = flow.Log([b"{"] * 9), world.Broker()
    working, consumer = flow.worker_of(pool, broker, log, ENV | {"GOALWORKER_BATCH__MAX_RECORDS": "20"})
    with statements.hooked(reassign):
        await working.run()
    assert working.paused_topics.topics == {TOPIC}
    assert broker.letters() == []


@pytest.mark.parametrize("batches", [1, 3])
async def test_a_valid_record_that_fills_the_window_can_pause_its_topic(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, batches: int
) -> None:
    await world.install(administrator, [ONE])
    log = flow.Log([*_broken(3), *(tagged(f"h{number}", 5) for number in range(4))])
    broker = world.Broker()
    await flow.run(pool, broker, log, **ENV, GOALWORKER_BATCH__MAX_RECORDS=str(12 // batches))
    assert log.lag == {TOPIC: 4}
    assert await administrator.fetchval('SELECT "offset" FROM paused_topics') == 2
    await _resume(pool)
    await flow.run(pool, broker, log, **ENV)
    assert log.lag == {TOPIC: 0}
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits") == 4


async def test_a_worker_that_crashes_while_it_pauses_a_topic_loses_nothing(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    step, is_over = 0, False
    while not is_over:
        await world.clear(administrator)
        await world.install(administrator, [ONE])
        log, broker = flow.Log([started(0), tagged("h1", 5), *[b"{"] * 6, tagged("h2", 3)]), world.Broker()
        is_over = await crashes.survives(crashes.after(step), flow.run(pool, broker, log, **ENV))
        await flow.run(pool, broker, log, **ENV)
        assert await _resume(pool, accept_records=100)
        await flow.run(pool, broker, log, **ENV)
        assert log.lag == {TOPIC: 0, OTHER: 0}
        assert await checks.achieved(administrator)
        step += 1
    assert step > 10, "fewer round trips than there are"


# --- tenant by tenant ---


async def test_a_tenant_that_sends_only_broken_records_does_not_stop_the_others(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    log, broker = flow.Log(), world.Broker()
    for number in range(9):
        _produce(log, *_broken(3, SOUTH), _tagged(number, NORTH))
    await flow.run(pool, broker, log, **ENV)
    assert log.lag == {TOPIC: 0}
    assert len(broker.letters()) == 27
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits") == 9
    assert not await administrator.fetchval("SELECT count(*) FROM paused_topics")


@pytest.mark.parametrize("kept_bytes", [0, breaker.KEPT_BYTES_MAX])
async def test_two_tenants_that_send_only_broken_records_pause_the_topic(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    monkeypatch: pytest.MonkeyPatch,
    kept_bytes: int,
) -> None:
    log, broker = flow.Log(_tagged(number, NORTH) for number in range(3)), world.Broker()
    _produce(log, *_broken(3, SOUTH), *_broken(3, "east"))
    working, consumer = flow.worker_of(pool, broker, log, ENV)
    monkeypatch.setattr(breaker, "KEPT_BYTES_MAX", kept_bytes)
    consumer.fetched_bytes = 1_000
    await working.run()
    # The window holds three of south and the first of east: without south's, all are dead letters.
    assert log.lag == {TOPIC: 3}
    row = await administrator.fetchrow('SELECT topic, reason, "offset" FROM paused_topics')
    assert tuple(row) == (TOPIC, "invalid_data", 6)


async def test_a_skipped_event_does_not_shield_its_own_tenant(pool: sa_async.AsyncEngine) -> None:
    fields = json.loads(world.record_of(tagged("x", 5), 0).value)
    test = json.dumps({**fields, "data": {**fields["data"], "test": True}}).encode()
    log = flow.Log([*_broken(3), test])
    await flow.run(pool, world.Broker(), log, **ENV)
    assert log.lag == {TOPIC: 1}


async def test_records_whose_tenant_cannot_be_told_count_as_one_tenant(pool: sa_async.AsyncEngine) -> None:
    log = flow.Log([b"{", _tagged(1, NORTH), b"\xff", b"{}", b"[", b"{", b"\xff"])
    await flow.run(pool, world.Broker(), log, **ENV)
    # Only when the other tenant's record has left the window.
    assert log.lag == {TOPIC: 7 - 5}


async def test_a_redriven_record_is_of_the_tenant_that_its_topic_tells(pool: sa_async.AsyncEngine) -> None:
    redrive = TopicPartition(world.TOPICS.redrive, 0)
    origin = ("x-original-topic", TOPIC.encode())
    log = flow.Log()
    for offset, value in enumerate([*_broken(3, SOUTH), world.record_of(_tagged(1, NORTH), 0).value, *_broken(2)]):
        log.records[redrive].append(
            ConsumerRecord(redrive.topic, 0, offset, 0, 0, None, value, None, 0, len(value), [origin])
        )
    await flow.run(pool, world.Broker(), log, **ENV)
    assert log.lag == {redrive.topic: 6 - 5}


async def test_contradictions_of_one_tenant_do_not_stop_another(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    log = flow.Log([started(0)])
    for number, conflict in enumerate(_conflicts(9)):
        log.produce(conflict)
        if number % 2:
            log.produce(msgspec.structs.replace(started(2, f"s{number}"), tenant_id=SOUTH))
    broker = world.Broker()
    await flow.run(pool, broker, log, **ENV)
    assert log.lag == {OTHER: 0}
    assert [reason for reason, _ in broker.letters()] == ["conflicting_enrollment"] * 9


async def test_a_tenant_of_mostly_dead_letters_is_named_once_an_hour(
    pool: sa_async.AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "LOOK_SECONDS", 0.0)
    line, *more = await _lines_that_name_a_tenant(pool)
    assert more == []
    named = {name: line[name] for name in ("topic", "tenant_id", "dead_letters", "records", "log_level")}
    assert named == {"topic": TOPIC, "tenant_id": SOUTH, "dead_letters": 10, "records": 15, "log_level": "warning"}
    assert "goalworker dlq list --tenant" in line["remedy"]
    monkeypatch.setattr(admission, "NAMED_SECONDS", 0.0)  # as if the hour was over
    assert len(await _lines_that_name_a_tenant(pool)) > 1


async def _lines_that_name_a_tenant(pool: sa_async.AsyncEngine) -> list[Any]:
    """Return the lines of a worker that reads records of which one tenant's are mostly malformed."""
    log = flow.Log()
    for number in range(40):
        second = SOUTH if number < 5 else NORTH
        _produce(log, *_broken(1, SOUTH), _tagged(number, NORTH), b"{", _tagged(number, second))
    with structlog.testing.capture_logs() as lines:
        await flow.run(pool, world.Broker(), log, GOALWORKER_DEAD_LETTERS__WINDOW="1000")
    return [line for line in lines if line["event"] == "tenant_mostly_dead_letters"]


# --- what only the database refuses ---


def _conflicts(count: int, first: int = 0) -> list[events.Event]:
    return [started(1, f"x{number}", ("w1", "e1", f"c{number}")) for number in range(first + 2, first + 2 + count)]


async def test_a_topic_of_contradictions_is_paused_and_later_records_are_not_committed(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    log, broker = (
        flow.Log([started(0), *_conflicts(9), *(tagged(f"h{number}", 5) for number in range(4))]),
        world.Broker(),
    )
    await flow.run(pool, broker, log, **ENV)
    # The second batch of three fills the window, which has too many dead letters by then.
    assert log.lag == {TOPIC: 0, OTHER: 10 - 6}
    assert [reason for reason, _ in broker.letters()] == ["conflicting_enrollment"] * 5
    row = await administrator.fetchrow('SELECT topic, is_paused, reason, "offset" FROM paused_topics')
    assert tuple(row) == (OTHER, True, "conflicting_enrollment", 5)
    assert await checks.achieved(administrator)
    await flow.run(pool, broker, log, **ENV)
    assert log.lag == {TOPIC: 0, OTHER: 10 - 6}


async def test_a_topic_of_records_that_cannot_be_stored_is_paused(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await administrator.execute("ALTER TABLE goal_hits ADD CHECK (event_id NOT LIKE 'poison%')")
    log, broker = flow.Log([tagged(f"poison{number}", 5) for number in range(9)]), world.Broker()
    await flow.run(pool, broker, log, **ENV)
    # The next record fills the window with one dead letter too many.
    assert log.lag == {TOPIC: 9 - 3}
    assert await administrator.fetchval("SELECT reason FROM paused_topics WHERE is_paused") == "unstorable"


async def test_accepted_contradictions_do_not_count(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    log, broker = flow.Log([started(0), *_conflicts(9)]), world.Broker()
    await flow.run(pool, broker, log, **ENV)
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        assert await paused_topics.resume_topic(connection, OTHER, 4)
    for number in range(9):
        log.produce(started(2, f"s{number}", ("w1", f"e2{number}", "c9")))
    await flow.run(pool, broker, log, **ENV)
    assert log.lag == {OTHER: 0}
    assert not await administrator.fetchval("SELECT is_paused FROM paused_topics")


async def test_a_worker_that_crashes_while_it_finds_contradictions_loses_nothing(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    step, is_over = 0, False
    while not is_over:
        await world.clear(administrator)
        await world.install(administrator, [ONE])
        log, broker = flow.Log([started(0), *_conflicts(5), ended(9), tagged("h", 3)]), world.Broker()
        is_over = await crashes.survives(crashes.after(step), flow.run(pool, broker, log, **ENV))
        await flow.run(pool, broker, log, **ENV)
        async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
            await paused_topics.resume_topic(connection, OTHER, 100)
        await flow.run(pool, broker, log, **ENV)
        assert log.lag == {TOPIC: 0, OTHER: 0}
        assert {value for _, value in broker.letters()} == {world.record_of(each, 0).value for each in _conflicts(5)}
        assert await checks.achieved(administrator)
        step += 1
    assert step > 10, "fewer round trips than there are"
