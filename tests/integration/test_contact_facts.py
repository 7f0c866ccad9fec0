"""The facts of a contact, read as the API may read them, explain what the worker stored (contract section 7)."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events, explaining, gates
from goalworker.domain.explanations import ContactFacts, Explanation
from goalworker.postgres import connections
from goalworker.stores import contact_facts, stats
from tests.integration import kept_events, world
from tests.integration.scenes import (
    DEACTIVATED,
    ONE,
    TENANT,
    TWO,
    ended,
    failed,
    paid,
    purchase,
    refunded,
    started,
    state,
    tagged,
)
from tests.kit import naive_judge, world_messages, worlds
from tests.kit.examples import examples
from tests.kit.strategies import at

WEEK = timedelta(days=7)


async def _read(
    pool: sa_async.AsyncEngine, contact_id: str = "c1", workflow_id: str = "w1", tenant_id: str = TENANT, **of: Any
) -> ContactFacts:
    options = {"lateness": WEEK, "tracking": True, **of}
    async with connections.tenant_transaction(pool, tenant_id, "explain") as connection:
        return await contact_facts.read(connection, tenant_id, workflow_id, contact_id, **options)


async def _explain(pool: sa_async.AsyncEngine, **of: Any) -> Explanation:
    (explained,) = explaining.explain(await _read(pool, **of))
    return explained


def _kept(messages: Iterable[events.Event]) -> list[events.Event]:
    """Return the events of contacts, but for those that the decoder skips."""
    return [
        event
        for event in messages
        if isinstance(event.data, events.GoalData | events.ReversalData)
        and not (isinstance(event.data, events.StageChanged) and event.data.previous_stage_id == event.data.stage_id)
    ]


@pytest.mark.parametrize("seed", range(examples(20)))
async def test_the_answer_is_achieved_exactly_where_an_achievement_is_stored(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, seed: int
) -> None:
    drawn = world_messages.world(worlds.seeded(seed))
    await world.install(administrator, drawn.goals, drawn.logics)
    await world.Worker(pool, world.Broker()).take(*drawn.messages)
    await kept_events.keep(pool, *_kept(drawn.messages))
    if seed % 2:
        await administrator.execute("DELETE FROM goal_hits")
    stored = await administrator.fetch(
        "SELECT tenant_id, enrollment_id, goal_id FROM achievements WHERE revoked_at IS NULL"
    )
    achieved = set()
    for tenant_id, workflow_id, contact_id in {
        (one.tenant_id, one.workflow_id, one.contact_id)
        for one in naive_judge.everything(drawn.goals, drawn.logics, drawn.messages)
    }:
        known = await _read(pool, contact_id, workflow_id, tenant_id)
        for goal in known.workflow.goals:
            achieved |= {
                (tenant_id, one.enrollment_id, one.goal_id)
                for one in explaining.explain(known, goal.goal_id)
                if one.answer == gates.ACHIEVED
            }
    assert achieved == {tuple(row) for row in stored}


async def test_an_exit_is_published_once_its_message_left_the_outbox(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(0), tagged("h", 1))
    explained = await _explain(pool)
    assert (explained.answer, explained.gates[-1].result) == (gates.ACHIEVED, True)
    assert explained.exit.sent_at is not None
    message = "SELECT 'workflow_exit', $1, $2"
    value = f'{{"id": "{explained.exit.exit_id}", "tenantid": "north"}}'.encode()
    await administrator.execute(f"INSERT INTO outbox (topic, key, value) {message}", b"north:c1", value)
    explained = await _explain(pool)
    assert (explained.answer, explained.gates[-1].result) == (gates.ACHIEVED, False)


async def test_an_exit_is_published_at_the_first_time_that_insight_has_read(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(0), tagged("h", 1))
    exit_id = (await _explain(pool)).exit.exit_id
    assert (await _explain(pool)).exit.published_at is None
    await administrator.execute("SELECT goalworker_make_history_days('2026-05-01', '2026-05-02')")
    first, again = kept_events.moment("2026-05-01T23:59:59.5Z"), kept_events.moment("2026-05-02T00:00:01Z")
    of_others = kept_events.moment("2026-05-01T00:00:00Z")
    for tenant_id, moment in ((TENANT, again), (TENANT, first), ("south", of_others)):
        await administrator.execute(
            "INSERT INTO history_exits VALUES ($1, $2, $3, ($3::timestamptz)::date)", tenant_id, exit_id, moment
        )
    # The worker has not deleted the message yet, but Kafka has it.
    value = f'{{"id": "{exit_id}", "tenantid": "north"}}'.encode()
    await administrator.execute(
        "INSERT INTO outbox (topic, key, value) VALUES ('workflow_exit', $1, $2)", b"north:c1", value
    )
    explained = await _explain(pool)
    assert (explained.exit.published_at, explained.gates[-1].result) == (first, True)


async def test_exits_of_other_tenants_are_not_told(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    value = f'{{"id": "{UUID(int=1)}", "tenantid": "north"}}'.encode()
    await administrator.execute("INSERT INTO outbox (topic, key, value) SELECT 'workflow_exit', $1, $2", b"k", value)
    for tenant_id, found in (("north", 1), ("south", 0)):
        async with connections.tenant_transaction(pool, tenant_id, "test") as connection:
            driver = await connections.driver_of(connection)
            assert len(await driver.fetch("SELECT goalworker_unpublished_exits($1)", b"k")) == found


async def test_an_exit_that_waits_is_explained_as_waiting(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(0), state(DEACTIVATED, 0), tagged("h", 1))
    explained = await _explain(pool)
    assert (explained.answer, explained.reason) == (gates.ACHIEVED, gates.WAITS_FOR_ACTIVATION)
    assert explained.exit.waits_for == "activation"


async def test_a_backfilled_exit_is_explained_as_withheld(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(0), tagged("h", 1))
    await administrator.execute("DELETE FROM exits; UPDATE enrollments SET exit_withheld = true, exited_at = NULL")
    explained = await _explain(pool)
    assert (explained.reason, explained.exit.waits_for) == (gates.WAITS_FOR_BACKFILL, "backfill")


async def test_events_that_missed_are_read_from_history_and_reversals_from_facts(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [purchase(1, min_amount=200)])
    happened = (started(0), paid("p", 1), refunded("r", 2))
    await world.Worker(pool, world.Broker()).take(*happened)
    await kept_events.keep(pool, *happened[1:])
    explained = await _explain(pool)
    assert (explained.reason, [event.id for event in explained.events]) == (gates.CRITERIA_NOT_MET, ["p"])
    assert explained.summary.endswith("the goal asks for at least 200.")
    assert [one.id for one in explained.also.reversed] == ["r"]


async def test_of_very_many_reversals_those_of_the_contacts_events_are_read(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_facts, "REVERSALS_MAX", 3)
    await world.install(administrator, [purchase(1)])
    others = [failed(f"r-{number}", 7, f"other-{number}") for number in range(4)]
    await world.Worker(pool, world.Broker()).take(started(0), paid("h", 5), failed("r-h", 6), failed("r-k", 6, "p2"))
    assert {one.id for one in (await _read(pool)).reversals} == {"r-h", "r-k"}
    await world.Worker(pool, world.Broker()).take(*others)
    await kept_events.keep(pool, paid("k", 5, "p2"))
    assert {one.id for one in (await _read(pool)).reversals} == {"r-h", "r-k"}
    await administrator.execute("DELETE FROM goal_hits")
    assert (await _explain(pool)).reason == gates.REVERSED


async def test_coverage_says_whether_history_reaches_back_to_the_enrollment(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(5))
    known = await _read(pool)
    assert (known.coverage.history_from, known.coverage.complete) == (None, False)
    assert (await _explain(pool)).answer == gates.UNKNOWN
    await kept_events.cover(pool, at(6))
    await administrator.execute("UPDATE history_coverage SET retention_seconds = 3153600000")
    assert not (await _read(pool)).coverage.complete
    await administrator.execute("UPDATE history_positions SET history_from = $1", at(0))
    known = await _read(pool)
    assert (known.coverage.complete, known.coverage.is_cut) == (True, False)
    assert known.coverage.hits_from == known.asked_at - WEEK
    assert (await _explain(pool)).answer == gates.NOT_ACHIEVED
    await administrator.execute("UPDATE history_positions SET history_until = clock_timestamp() - interval '2 min'")
    known = await _read(pool)
    assert (known.coverage.complete, known.coverage.history_until is None) == (False, False)
    assert (await _explain(pool)).answer == gates.UNKNOWN
    await administrator.execute("UPDATE history_coverage SET retention_seconds = 86400")
    assert (await _read(pool)).coverage.is_cut


async def test_coverage_of_a_contact_without_enrollment_begins_when_everyone_was_kept(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await kept_events.keep(pool, tagged("h", 3, "tag-9"))
    await kept_events.cover(pool, at(0))
    assert (await _read(pool)).coverage.complete
    await administrator.execute("UPDATE history_coverage SET all_since = $1", at(1))
    assert not (await _read(pool)).coverage.complete


async def test_of_very_many_events_the_newest_are_explained_and_coverage_says_so(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(0))
    await kept_events.keep(pool, *(tagged(f"h{tick}", tick, "tag-9") for tick in range(6)))
    await kept_events.cover(pool, at(-5))
    monkeypatch.setattr(contact_facts, "EVENTS_MAX", 4)
    known = await _read(pool)
    assert [event.id for event in known.events] == ["h2", "h3", "h4", "h5"]
    assert (known.coverage.history_from, known.coverage.complete, known.coverage.is_cut) == (at(2), False, True)


async def test_a_contact_that_was_never_enrolled_is_explained_from_its_hits(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE, TWO])
    await world.Worker(pool, world.Broker()).take(tagged("h", 1))
    explained = explaining.explain(await _read(pool))
    assert [(one.enrollment_id, one.reason) for one in explained] == [(None, gates.NOT_ENROLLED)] * 2
    await kept_events.keep(pool, tagged("other", 1, "tag-9", "c2"))
    assert len(explaining.explain(await _read(pool, "c2"))) == 2


async def test_without_tracking_every_contact_is_enrolled(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker(), tracked=False).take(tagged("h", 1))
    assert (await _explain(pool, tracking=False)).answer == gates.ACHIEVED
    await kept_events.keep(pool, tagged("other", 1, "tag-9", "c2"))
    (explained,) = explaining.explain(await _read(pool, "c2", tracking=False))
    assert (explained.enrollment_id, explained.reason) == ("contact:w1:c2", gates.CRITERIA_NOT_MET)


async def test_one_enrollment_of_several_is_explained_alone(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    again = started(5, "s2", ("w1", "e2", "c1"))
    await world.Worker(pool, world.Broker()).take(started(0), ended(4), again, tagged("h", 6))
    assert len((await _read(pool)).runs) == 2
    assert (await _explain(pool, enrollment_id="e2")).answer == gates.ACHIEVED
    assert (await _explain(pool, enrollment_id="e1")).reason == gates.AFTER_END


@pytest.mark.parametrize(
    ("of", "unknown"),
    [
        ({"contact_id": "c9"}, "Unknown contact"),
        ({"goal_id": TWO.goal_id}, "Unknown goal"),
        ({"enrollment_id": "e9"}, "Unknown enrollment"),
    ],
)
async def test_the_error_says_what_is_unknown(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, of: dict[str, Any], unknown: str
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(0))
    with pytest.raises(contact_facts.NothingKnownError, match=unknown):
        await _read(pool, **of)


async def test_a_workflow_of_another_tenant_is_unknown(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(started(0))
    with pytest.raises(stats.UnknownWorkflowError):
        await _read(pool, tenant_id="south")
