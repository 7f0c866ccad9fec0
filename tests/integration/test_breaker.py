"""A topic with too many dead letters is paused for all workers and across restarts until an operator resumes it."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker import metrics
from goalworker.decoding import decoder, fast
from goalworker.decoding.record import FetchedRecord
from goalworker.domain import events
from goalworker.pipeline import breaker, paused_topics, waiting, worker
from goalworker.postgres import connections, tables
from tests.integration import checks, crashes, flow, statements, world
from tests.integration.scenes import ONE, ended, started, tagged

TOPIC, OTHER = world.TOPICS.tag_added, world.TOPICS.workflow_lifecycle
SAMPLE = paused_topics.PauseTrigger("invalid_json", 3, 42)
DEAD, GOOD = True, False
ENV = {"GOALWORKER_DEAD_LETTERS__WINDOW": "4", "GOALWORKER_DEAD_LETTERS__MAX_RATIO": "0.5"}


@pytest.fixture(autouse=True)
async def topics_go_on(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(worker, "DEFER_SECONDS", 0)
    yield
    for topic in (TOPIC, OTHER):
        metrics.topic_paused.labels(topic=topic).set(0)


def _pauses(pool: sa_async.AsyncEngine) -> paused_topics.PausedTopics:
    return paused_topics.PausedTopics(pool, 0.5, 4)


async def _admit(pauses: paused_topics.PausedTopics, is_dead: Sequence[bool]) -> int | None:
    accepted = await pauses.accept(TOPIC, len(is_dead)) if pauses.is_accepting(TOPIC) else 0
    position = pauses.admit(TOPIC, is_dead[accepted:])
    return None if position is None else accepted + position


async def _resume(pool: sa_async.AsyncEngine, accept_records: int = 0) -> bool:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        return await paused_topics.resume_topic(connection, TOPIC, accept_records)


def _is_shown_as_paused() -> bool:
    return bool(metrics.topic_paused.labels(topic=TOPIC)._value.get())


# --- the limit ---


def _first_beyond(is_dead: Sequence[bool], max_ratio: float, window: int) -> int | None:
    for position in range(window - 1, len(is_dead)):
        if sum(is_dead[position + 1 - window : position + 1]) > max_ratio * window:
            return position
    return None


@given(
    is_dead=st.lists(st.booleans(), max_size=30),
    cuts=st.sets(st.integers(1, 30), max_size=4),
    max_ratio=st.sampled_from((0.0, 0.25, 0.5, 0.9, 1.0)),
    window=st.integers(1, 8),
)
def test_the_breaker_trips_at_the_first_record_that_exceeds_the_ratio(
    is_dead: list[bool], cuts: set[int], max_ratio: float, window: int
) -> None:
    limit = breaker.Breaker(max_ratio, window)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(is_dead)), len(is_dead)]
    found = None
    for start, end in itertools.pairwise(bounds):
        position = limit.admit(is_dead[start:end])
        if position is not None:
            found = start + position
            break
    assert found == _first_beyond(is_dead, max_ratio, window)


@given(
    is_dead=st.lists(st.booleans(), min_size=1, max_size=30),
    number=st.integers(1, 30),
    max_ratio=st.sampled_from((0.0, 0.25, 0.5, 0.9, 1.0)),
    window=st.integers(1, 8),
)
def test_a_record_dead_lettered_later_counts_as_the_newest_one(
    is_dead: list[bool], number: int, max_ratio: float, window: int
) -> None:
    limit = breaker.Breaker(max_ratio, window)
    admitted = is_dead[: limit.admit(is_dead)]
    if len(admitted) < len(is_dead):
        return  # paused before
    seen = admitted[-window:]
    dead = min(sum(seen) + number, len(seen))
    assert limit.condemn(number) is (len(seen) == window and dead > max_ratio * window)


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
    assert log.lag == {TOPIC: 11 - 4, OTHER: 0}
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
    log, broker = flow.Log([b"{", b"{", b"{", *(tagged(f"h{number}", 5) for number in range(4))]), world.Broker()
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
