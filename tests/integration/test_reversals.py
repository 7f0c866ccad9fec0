"""Reversals, pauses and counted occurrences on a real database: what is stored, sent, kept and swept."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

import msgspec
import pytest
from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config, metrics
from goalworker.domain import criteria, events, goals, judging, reversal_effects
from goalworker.kafka import sender
from goalworker.pipeline import fact_reading, outbox, outcomes, phases
from goalworker.postgres import connections, tables
from goalworker.runtime import housekeeping
from goalworker.stores import enrollments, retention
from tests.integration import checks, crashes, hit_days, scenes, statements, world
from tests.integration.scenes import (
    ACTIVATED,
    DEACTIVATED,
    ONE,
    TWO,
    ended,
    failed,
    logic,
    paid,
    purchase,
    refunded,
    started,
    state,
    tagged,
)
from tests.kit import goal_history
from tests.kit.strategies import at

BOUGHT = purchase(1)
THREE_TIMES = purchase(1, times=3, within=60)
WEEK, YEAR = timedelta(days=7), timedelta(days=365)
NOON = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)


def after(seconds: int) -> datetime:
    return NOON + timedelta(seconds=seconds)


async def _rows(administrator: connections.Connection, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await administrator.fetch(sql)]


def _told(broker: world.Broker) -> list[str]:
    return [message["data"].get("reason") or message["type"] for message in checks.messages(broker)]


# --- reversals ---


async def test_a_reversal_revokes_and_the_exit_stands(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT])
    broker = world.Broker()
    messages = [started(0), paid("h", 6), failed("r", 8)]
    await world.Worker(pool, broker).take_all([message] for message in messages)
    assert _told(broker) == ["workflow.goal.achieved", "workflow.exit.goal", "reversed"]
    await checks.assert_lawful(administrator, broker, [BOUGHT], {}, messages)
    assert await _rows(administrator, "SELECT event_id, type, subject_id FROM reversals") == [
        ("r", "payment.failed", "p1")
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_hit_enrollment_and_reversal_give_the_same_in_any_order(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, order: Sequence[int]
) -> None:
    await world.install(administrator, [BOUGHT])
    messages = [started(0), paid("h", 6), failed("r", 8)]
    broker = world.Broker()
    await world.Worker(pool, broker).take_all([messages[number]] for number in order)
    await checks.assert_lawful(administrator, broker, [BOUGHT], {}, messages)
    assert await checks.achieved(administrator) == {}


async def test_a_payment_after_its_failure_counts_anew(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT])
    broker = world.Broker()
    messages = [started(0), paid("h1", 6), failed("r", 7), paid("h2", 8)]
    await world.Worker(pool, broker).take(*messages)
    await checks.assert_lawful(administrator, broker, [BOUGHT], {}, messages)
    assert [walked.id for walked in (await checks.achieved(administrator)).values()] == ["h2"]


async def test_partial_refunds_lower_revenue_until_they_add_up(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [started(0), paid("h", 6), refunded("r1", 7, "60")]
    await worker.take(*messages)
    await checks.assert_lawful(administrator, broker, [BOUGHT], {}, messages)
    assert await _rows(administrator, "SELECT payments_apart FROM achievements") == [(True,)]
    listed = await administrator.fetchval("SELECT payments FROM enrollments")
    assert [payment["reversed"] for payment in msgspec.json.decode(listed)] == ["60"]
    messages.append(refunded("r2", 8, "40"))
    await worker.take(messages[-1])
    await checks.assert_lawful(administrator, broker, [BOUGHT], {}, messages)
    assert await checks.achieved(administrator) == {}


async def test_a_reversal_concerns_every_workflow_of_its_contact(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    bought = [purchase(1), purchase(2, "w2")]
    await world.install(administrator, bought)
    broker = world.Broker()
    messages = [started(0), started(0, "s2", ("w2", "e2", "c1")), started(0, "s3", ("w2", "e3", "c3"))]
    messages += [paid("h", 6), paid("h3", 6, contact_id="c3"), refunded("r", 8)]
    await world.Worker(pool, broker).take_all([message] for message in messages)
    await checks.assert_lawful(administrator, broker, bought, {}, messages)
    assert [key[1] for key in await checks.achieved(administrator)] == ["e3"]


async def test_a_reversal_counts_without_tracking(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT])
    broker = world.Broker()
    messages = [paid("h", 6), failed("r", 8)]
    await world.Worker(pool, broker, tracked=False).take_all([message] for message in messages)
    await checks.assert_lawful(administrator, broker, [BOUGHT], {}, messages, tracked=False)
    assert _told(broker)[-1] == "reversed"


async def test_a_reversal_judges_after_a_sweep_of_the_hits(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [started(0), paid("h", 6)]
    await worker.take(*messages)
    for reversal in (refunded("r1", 7, "60"), refunded("r2", 8, "40"), failed("r3", 9)):
        await administrator.execute("DELETE FROM goal_hits")
        messages.append(reversal)
        await worker.take(reversal)
        await checks.assert_lawful(administrator, broker, [BOUGHT], {}, messages)


async def test_a_reversal_of_what_was_never_seen_leaves_its_row_and_nothing_else(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT])
    broker = world.Broker()
    before = await _row_counts(administrator)
    for _ in range(2):
        await world.Worker(pool, broker).take(failed("r", 8, contact_id="c9"))
    now = await _row_counts(administrator)
    assert {name: count - before[name] for name, count in now.items() if count != before[name]} == {"reversals": 1}
    assert broker.sent == []


async def _row_counts(administrator: connections.Connection) -> dict[str, int]:
    names = [table.name for table in tables.metadata.sorted_tables]
    return {name: await administrator.fetchval(f"SELECT count(*) FROM {name}") for name in names}


async def test_of_very_many_reversals_a_judgement_reads_those_of_its_hits(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT])
    await administrator.execute(
        "INSERT INTO reversals (tenant_id, contact_id, event_source, event_id, type, subject_id, event_time) "
        "SELECT $1, 'c1', '/bank', 'other-' || n, $2, 'other-' || n, $3 FROM generate_series(1, 1000) AS n",
        *(scenes.TENANT, events.PAYMENT_FAILED, at(5)),
    )
    read: list[int] = []

    async def hook(statement: statements.Statement) -> Any:
        found = await statement.run()
        if "FROM reversals" in statement.sql or "JOIN reversals" in statement.sql:
            read.append(sum(row[0] == "reversal" for row in found))
        return found

    worker = world.Worker(pool, world.Broker())
    with statements.hooked(hook):
        await worker.take(started(0), paid("h1", 6), paid("h2", 6, "p2"), failed("r1", 7), failed("r2", 7, "p2"))
        assert await checks.achieved(administrator) == {}
        await worker.take(paid("h3", 9, "p3"))
    assert [walked.id for walked in (await checks.achieved(administrator)).values()] == ["h3"]
    assert read == [fact_reading.REVERSALS_MAX + 1, 2] * 2


@pytest.mark.parametrize("reversals_max", [0, 100])
async def test_an_appointment_that_was_moved_before_it_was_cancelled_is_counted_so(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    monkeypatch: pytest.MonkeyPatch,
    reversals_max: int,
) -> None:
    monkeypatch.setattr(fact_reading, "REVERSALS_MAX", reversals_max)
    booking = structs.replace(BOUGHT, goal_type="appointment_booked")
    await world.install(administrator, [booking])
    before = _effects()
    moved = events.AppointmentBooked("c1", "a2", replaces_appointment_id="a1")
    hit = events.Event(scenes.TENANT, "/calendar", "b2", "appointment.booked", at(6), moved)
    gone = events.AppointmentCancelled("c1", "a1")
    cancelled = events.Event(scenes.TENANT, "/calendar", "x1", events.APPOINTMENT_CANCELLED, at(8), gone)
    await _take_and_count(world.Worker(pool, world.Broker()), started(0), hit, cancelled)
    assert _effects() == before | {("cancelled", "moved"): before["cancelled", "moved"] + 1}


@pytest.mark.parametrize("reversals_max", [0, 100])
async def test_reversals_are_counted_once_by_kind_and_effect(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    monkeypatch: pytest.MonkeyPatch,
    reversals_max: int,
) -> None:
    monkeypatch.setattr(fact_reading, "REVERSALS_MAX", reversals_max)
    await world.install(administrator, [BOUGHT])
    worker = world.Worker(pool, world.Broker())
    reversals = [refunded("r1", 7, "60"), refunded("r2", 8, "50"), refunded("r3", 8, "9", currency="USD")]
    reversals += [failed("r4", 9), failed("r5", 9, "p2"), failed("r6", 9, contact_id="c9")]
    before = _effects()
    await _take_and_count(worker, started(0), paid("h", 6))
    for _ in range(2):
        await _take_and_count(worker, *reversals)
    counted = {key: number - before[key] for key, number in _effects().items() if number != before[key]}
    assert counted == {
        ("refunded", "partial"): 1,
        ("refunded", "excess"): 1,
        ("refunded", "mismatch"): 1,
        ("failed", "reversed"): 1,
        ("failed", "unknown"): 2,
    }


async def _take_and_count(worker: world.Worker, *messages: events.Event) -> None:
    batch = world.batch_of(messages, worker.goal_index)
    recorded = await worker.phases.record(batch)
    effects: dict[Any, str] = {}
    async for part in worker.phases.judge(batch):
        effects |= part.effects
    outcomes.count(batch, recorded, effects, tracking=True)


def _effects() -> dict[tuple[str, str], float]:
    samples = [sample for metric in metrics.reversals_total.collect() for sample in metric.samples]
    found = {(sample.labels["kind"], sample.labels["effect"]): sample.value for sample in samples}
    return dict.fromkeys(itertools.product(reversal_effects.KINDS, reversal_effects.EFFECTS), 0.0) | found


# --- correlation ---


def _said(id_: str, when: int, correlation_id: str | None, by: str | None) -> events.Event:
    reference = None if by is None else events.EventReference("/crm", by)
    data = events.EnrollmentChanged("w1", "e1", "c1", None, correlation_id, reference)
    return events.Event(scenes.TENANT, "/engine", id_, events.ENROLLMENT_STARTED, at(when), data)


@pytest.mark.parametrize("is_one_batch", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_the_earliest_start_that_has_one_gives_correlation_and_founder(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, order: Sequence[int], *, is_one_batch: bool
) -> None:
    said = [
        _said("s1", 1, None, None),
        _said("s2", 2, "k2", None),
        _said("s3", 2, "k1", "b3"),
        _said("s4", 3, "k0", "a"),
    ]
    arriving = [said[number] for number in order]
    worker = world.Worker(pool, world.Broker())
    await worker.take_all([arriving] if is_one_batch else [[message] for message in arriving])
    assert await _rows(
        administrator,
        "SELECT enrolled_at, correlation_id, correlated_at, started_by_source, started_by_id, started_by_at"
        " FROM enrollments",
    ) == [(at(1), "k1", at(2), "/crm", "b3", at(2))]
    assert worker.recorded.new_enrollments or not is_one_batch


async def test_the_event_that_started_an_enrollment_does_not_achieve_its_goal(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    broker = world.Broker()
    messages = [_said("s1", 1, None, "h1"), tagged("h1", 6), tagged("h2", 8)]
    await world.Worker(pool, broker).take_all([message] for message in messages)
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages)
    assert [walked.id for walked in (await checks.achieved(administrator)).values()] == ["h2"]


# --- pauses ---

CONTACTS = tuple(f"c{number}" for number in range(5))
IN_A_PAUSE = (
    state(DEACTIVATED, 4),
    *(started(0, f"s-{contact}", ("w1", f"e-{contact}", contact)) for contact in CONTACTS),
    *(tagged(f"h-{contact}", 6, contact_id=contact) for contact in CONTACTS),
)


async def test_an_exit_waits_for_the_next_activation(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "STATE_SLICE_CONTACTS", 2)
    await world.install(administrator, [ONE])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    await worker.take(*IN_A_PAUSE)
    await checks.assert_lawful(administrator, broker, [ONE], {}, IN_A_PAUSE)
    assert set(_told(broker)) == {"workflow.goal.achieved"}
    assert await _exits_waiting(pool) == len(CONTACTS)
    assert await enrollments.waiting_exits(administrator) == [
        enrollments.WaitingExits(scenes.TENANT, "w1", len(CONTACTS), at(4))
    ]
    activation = state(ACTIVATED, 9, "a2")
    await worker.take(activation)
    await checks.assert_lawful(administrator, broker, [ONE], {}, [*IN_A_PAUSE, activation])
    assert _told(broker).count("workflow.exit.goal") == len(CONTACTS)
    assert await _exits_waiting(pool) == 0
    assert await enrollments.waiting_exits(administrator) == []


async def _exits_waiting(pool: sa_async.AsyncEngine) -> float | None:
    """Return the gauge, once the housekeeping has counted the exits."""
    settings, nothing = config.load({}, env_file=None, secrets_dir=None), mock.AsyncMock()
    await housekeeping.Housekeeping(settings, pool, sender.Sender(settings), nothing, nothing)._count_waiting_exits()
    return metrics.REGISTRY.get_sample_value("goalworker_exits_waiting")


async def test_a_crash_between_slices_of_waiting_exits_is_repaired_by_a_replay(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "STATE_SLICE_CONTACTS", 1)
    activation = state(ACTIVATED, 9, "a2")
    step, is_over = 0, False
    while not is_over:
        await world.clear(administrator)
        await world.install(administrator, [ONE])
        broker = world.Broker()
        await world.Worker(pool, broker).take(*IN_A_PAUSE)
        is_over = await crashes.survives(crashes.after(step), world.Worker(pool, broker).take(activation))
        successor = world.Worker(pool, broker)
        await successor.take(activation)
        monkeypatch.setattr(outbox, "LEFT_BEHIND_SECONDS", 0)
        await successor.sweep()
        await checks.assert_lawful(administrator, broker, [ONE], {}, [*IN_A_PAUSE, activation])
        step += 3


async def test_a_pause_that_ends_the_enrollment_sends_no_exit(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    broker = world.Broker()
    messages = [started(0), state(DEACTIVATED, 4), tagged("h", 6), ended(8), state(ACTIVATED, 9, "a2")]
    await world.Worker(pool, broker).take_all([message] for message in messages)
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages)
    assert _told(broker) == ["workflow.goal.achieved"]


async def test_a_late_pause_changes_nothing(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
    await world.install(administrator, [ONE])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [started(0), tagged("h", 6)]
    await worker.take(*messages)
    said = list(broker.sent)
    messages.append(state(DEACTIVATED, 4))
    await worker.take(messages[-1])
    assert broker.sent == said
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages)


# --- evidence ---


async def test_a_counting_goal_keeps_its_occurrences_and_says_how_many(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [THREE_TIMES])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [started(0), *(paid(f"h{number}", after(number), f"p{number}") for number in range(3))]
    await worker.take_all([message] for message in messages)
    await checks.assert_lawful(administrator, broker, [THREE_TIMES], {}, messages)
    data = checks.messages(broker)[0]["data"]
    assert list(data)[-4:] == ["trigger_event", "occurrences", "total_amount", "evidence_complete"]
    assert (data["occurrences"], data["total_amount"], data["evidence_complete"]) == (3, None, True)
    await administrator.execute("DELETE FROM goal_hits")
    messages.append(failed("r", after(9), "p1"))
    await worker.take(messages[-1])
    await checks.assert_lawful(administrator, broker, [THREE_TIMES], {}, messages)
    assert _told(broker)[-1] == "reversed"


async def test_a_plain_goal_says_nothing_of_occurrences(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [BOUGHT])
    broker = world.Broker()
    await world.Worker(pool, broker).take(started(0), paid("h", 6))
    assert list(checks.messages(broker)[0]["data"])[-1] == "trigger_event"


async def test_the_satisfying_event_outlives_the_sweep_of_its_hit(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    """A goal is deleted; the next hit of an achieved goal satisfies `all`, and nothing else holds that hit."""
    whole = goals.GoalVersion(1, criteria.Criteria(tag_id="tag-2"), True, at(-1), at(7))
    deleted = goals.Goal(scenes.TENANT, TWO.goal_id, "w1", "tag_added", at(-1), (whole,))
    given, logics = [ONE, deleted], logic("all")
    await world.install(administrator, given, logics)
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [started(0), tagged("h1", 6), tagged("h2", 8)]
    await worker.take_all([message] for message in messages)
    await checks.assert_lawful(administrator, broker, given, logics, messages)
    assert msgspec.json.decode(await administrator.fetchval("SELECT satisfied_by FROM enrollments"))[0]["id"] == "h2"
    await administrator.execute("DELETE FROM goal_hits")
    messages.append(failed("r", 9))
    await worker.take(messages[-1])
    await checks.assert_lawful(administrator, broker, given, logics, messages)


# --- sweeps ---


async def test_hits_that_count_are_kept_for_as_long_as_they_may_count(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    given = [purchase(1), purchase(2, times=2, within=60), purchase(3, times=2, deadline=30 * 86_400, within=60)]
    await world.install(administrator, given)
    worker = world.Worker(pool, world.Broker())
    await worker.take(paid("h", 6))
    assert await _rows(
        administrator,
        "SELECT round(extract(epoch FROM kept_until - recorded_at)) FROM goal_hits ORDER BY goal_id",
    ) == [(None,), (Decimal(7 * 86_400),), (Decimal(30 * 86_400),)]
    progress = retention.Progress()
    await hit_days.age(administrator, timedelta(days=8))
    assert await hit_days.sweep(pool, WEEK, progress) == 1
    await administrator.execute("UPDATE goal_hits SET kept_until = kept_until - interval '8 days'")
    assert await hit_days.sweep(pool, WEEK, progress) == 1
    assert await _rows(administrator, "SELECT goal_version, kept_until IS NULL FROM goal_hits") == [(1, False)]


async def test_a_sweep_leaves_hits_of_a_goal_that_was_changed_and_counts_for_longer(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    first = THREE_TIMES.versions[0]
    await world.install(administrator, [THREE_TIMES])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [paid("h1", after(0), "p1"), paid("h2", after(10), "p2")]
    await worker.take(*messages)
    second = goals.GoalVersion(2, criteria.Criteria(times=3, within=30 * 86_400), True, after(20))
    changed = structs.replace(THREE_TIMES, versions=(structs.replace(first, active_to=after(20)), second))
    for table in ("goal_versions", "goals"):
        await administrator.execute(f"DELETE FROM {table}")
    await world.install(administrator, [changed])
    await _age_hits(administrator, 9)
    assert await retention.sweep_hits(pool, WEEK) == 0
    messages += [started(0), paid("h3", after(9 * 86_400), "p3")]
    await worker.take(*messages[-2:])
    data = checks.messages(broker)[-2]["data"]
    assert (data["goal_version"], data["occurrences"], data["trigger_event"]["id"]) == (2, 3, "h3")
    await _age_hits(administrator, 31)
    assert await retention.sweep_hits(pool, WEEK) == 3


async def _age_hits(administrator: connections.Connection, days: int) -> None:
    age = timedelta(days=days)
    await administrator.execute(
        "UPDATE goal_hits SET recorded_at = recorded_at - $1::interval, kept_until = kept_until - $1::interval", age
    )


async def test_a_sweep_passes_hits_that_are_kept_in_slices(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_SLICE", 2)
    await goal_history.write(administrator, [ONE, purchase(2, times=3, within=60)], {})
    worker = world.Worker(pool, world.Broker())
    await worker.take(*(paid(f"h{number}", after(number)) for number in range(7)))
    await administrator.execute("UPDATE goal_hits SET recorded_at = recorded_at - interval '8 days'")
    await worker.take(*(tagged(f"t{number}", 6) for number in range(5)))
    await administrator.execute(
        "UPDATE goal_hits SET recorded_at = recorded_at - interval '8 days' WHERE kept_until IS NULL"
    )
    assert await retention.sweep_hits(pool, WEEK) == 5
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits") == 7


async def test_the_oldest_hits_beyond_those_that_count_are_deleted_by_a_judgement(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "COUNTED_HITS_MAX", 3)
    given = [THREE_TIMES, TWO]
    await world.install(administrator, given)
    worker = world.Worker(pool, world.Broker())
    await worker.take(started(0), *(paid(f"h{number}", after(number), f"p{number}") for number in range(5)))
    assert await _rows(administrator, "SELECT event_id FROM goal_hits ORDER BY 1") == [("h2",), ("h3",), ("h4",)]


async def test_reversals_outlive_a_year_only_with_an_enrollment_of_their_contact(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_SLICE", 2)
    worker = world.Worker(pool, world.Broker())
    await worker.take(started(0), *(failed(f"r{number}", 6, contact_id=f"c{number}") for number in range(5)))
    await administrator.execute(
        "UPDATE reversals SET recorded_at = recorded_at - $1::interval", YEAR - timedelta(hours=1)
    )
    assert await retention.sweep_reversals(pool) == 0
    await administrator.execute("UPDATE reversals SET recorded_at = recorded_at - interval '1 hour'")
    assert await retention.sweep_reversals(pool) == 4
    assert await _rows(administrator, "SELECT contact_id FROM reversals") == [("c1",)]
