"""Events in any order, batched in any way and repeated: the stored rows are those of a naive judge, published once."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import criteria, events, goals, ids
from goalworker.pipeline import phases
from goalworker.postgres import connections
from tests.integration import checks, scenes, world
from tests.integration.scenes import ACTIVATED, DEACTIVATED, ONE, TENANT, TWO, ended, started, state, tagged
from tests.kit import naive_judge, strategies
from tests.kit.strategies import at


@pytest.fixture
def slices_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "STATE_SLICE_CONTACTS", 1)
    monkeypatch.setattr(phases, "JUDGE_CONTACTS_MAX", 1)


# --- any world ---


@world.examples(60)
@given(data=st.data(), drawn=strategies.worlds(), tracked=st.booleans())
async def test_any_order_repetition_and_batching_gives_the_same_results(
    pool: sa_async.AsyncEngine,
    administrator: connections.Connection,
    data: st.DataObject,
    drawn: strategies.World,
    tracked: bool,
) -> None:
    drawn = drawn if tracked else drawn.untracked()
    await world.clear(administrator)
    await world.install(administrator, drawn.goals, drawn.logics)
    broker = world.Broker()
    worker = world.Worker(pool, broker, tracked=tracked)
    await worker.take_all(data.draw(strategies.deliveries(drawn.messages)))
    await checks.assert_lawful(administrator, broker, drawn.goals, drawn.logics, drawn.messages, tracked=tracked)


@world.examples(25)
@given(data=st.data(), drawn=strategies.worlds())
@pytest.mark.usefixtures("slices_of_one")
async def test_slices_of_one_contact_give_the_same_results(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, data: st.DataObject, drawn: strategies.World
) -> None:
    await world.clear(administrator)
    await world.install(administrator, drawn.goals, drawn.logics)
    broker = world.Broker()
    await world.Worker(pool, broker).take_all(data.draw(strategies.deliveries(drawn.messages)))
    await checks.assert_lawful(administrator, broker, drawn.goals, drawn.logics, drawn.messages)


@world.examples(30)
@given(data=st.data(), drawn=strategies.worlds())
async def test_sweeps_between_any_two_messages_take_nothing_back(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, data: st.DataObject, drawn: strategies.World
) -> None:
    """Enrollment messages that come again have their contacts judged, with the evidence that sweeps leave."""
    await world.clear(administrator)
    await world.install(administrator, drawn.goals, drawn.logics)
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    enrolled: list[events.Event] = []
    for batch in data.draw(strategies.deliveries(drawn.messages)):
        await worker.take(*batch)
        enrolled += [event for event in batch if isinstance(event.data, events.EnrollmentChanged)]
        before, said = await checks.judged(administrator), list(broker.sent)
        await administrator.execute("DELETE FROM goal_hits")
        await worker.take(*enrolled)
        assert (await checks.judged(administrator), broker.sent) == (before, said)
    await worker.take(*drawn.messages)
    await checks.assert_lawful(administrator, broker, drawn.goals, drawn.logics, drawn.messages)


@pytest.mark.smoke
@world.examples(40)
@given(drawn=strategies.worlds())
async def test_one_batch_with_everything_exits_exactly_the_satisfied_open_enrollments(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, drawn: strategies.World
) -> None:
    await world.clear(administrator)
    await world.install(administrator, drawn.goals, drawn.logics)
    broker = world.Broker()
    await world.Worker(pool, broker).take(*drawn.messages)
    answered = naive_judge.everything(drawn.goals, drawn.logics, drawn.messages)
    commanded = {
        key[:2]: answer for key, answer in answered.items() if answer.satisfied is not None and not answer.exit_waits
    }
    over = {
        (event.tenant_id, event.data.enrollment_id)
        for event in drawn.messages
        if event.type == events.ENROLLMENT_ENDED and isinstance(event.data, events.EnrollmentChanged)
    }
    expected = {}
    for key in commanded.keys() - over:
        satisfied = commanded[key].satisfied
        assert satisfied is not None
        own = sorted((found.at.time, goal_id) for goal_id, found in commanded[key].achieved.items())
        expected[str(ids.exit_id(*key))] = (
            satisfied.logic,
            str(satisfied.goal_id),
            [str(ids.achievement_id(*key, goal_id)) for _, goal_id in own],
        )
    exits = [message["data"] for message in checks.messages(broker) if message["type"] == "workflow.exit.goal"]
    said = {exit_["exit_id"]: (exit_["logic"], exit_["goal_id"], exit_["achievement_ids"]) for exit_ in exits}
    assert said == expected


# --- one world in which every message matters ---

THREE = scenes.goal(3, "tag-3")
RICH = (
    *(started(3, "s1"), started(1, "s2"), ended(9, "x1"), ended(7, "x2")),
    *(tagged("h1", 0), tagged("h2", 2), tagged("h3", 3), tagged("h4", 5, "tag-2"), tagged("h5", 6, "tag-2")),
    tagged("h6", 8, "tag-3"),
    *(state(DEACTIVATED, 4, "a1"), state(ACTIVATED, 6, "a2"), state(ACTIVATED, 5, "a3"), state(DEACTIVATED, 5, "a4")),
)


@world.examples(25)
@given(arriving=st.permutations(RICH), tracked=st.booleans())
async def test_the_earliest_start_and_end_decide_in_any_order(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, arriving: list[events.Event], tracked: bool
) -> None:
    await world.clear(administrator)
    await world.install(administrator, [ONE, TWO, THREE], scenes.logic("never"))
    broker = world.Broker()
    await world.Worker(pool, broker, tracked=tracked).take_all([message] for message in arriving)
    await checks.assert_lawful(administrator, broker, [ONE, TWO, THREE], scenes.logic("never"), RICH, tracked=tracked)
    first = {evidence.id for evidence in (await checks.achieved(administrator)).values()}
    assert first == ({"h2", "h4"} if tracked else {"h1", "h4", "h6"})


async def test_a_recorded_event_is_not_changed_by_a_later_one_with_the_same_identity(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE, TWO])
    broker = world.Broker()
    messages = [started(0), tagged("h", 5)]
    worker = world.Worker(pool, broker)
    await worker.take(*messages)
    await worker.take(tagged("h", 3))
    await worker.take(messages[1], tagged("h", 4))
    await checks.assert_lawful(administrator, broker, [ONE, TWO], {}, messages)
    assert await administrator.fetchval("SELECT event_time FROM goal_hits") == at(5)


# --- workflow states ---

CONTACTS = tuple(f"c{number}" for number in range(7))


@pytest.mark.parametrize("is_swept", [False, True])
async def test_a_state_changes_no_achievement_and_an_activation_sends_what_waits(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, monkeypatch: pytest.MonkeyPatch, is_swept: bool
) -> None:
    monkeypatch.setattr(phases, "STATE_SLICE_CONTACTS", 2)
    await world.install(administrator, [ONE])
    broker = world.Broker()
    worker = world.Worker(pool, broker)
    messages = [started(0, f"s-{contact}", ("w1", f"e-{contact}", contact)) for contact in CONTACTS]
    messages += [state(DEACTIVATED, 4, "a1"), *(tagged(f"h-{contact}", 5, contact_id=contact) for contact in CONTACTS)]
    await worker.take(*messages)
    if is_swept:
        await administrator.execute("DELETE FROM goal_hits")
    # The first two are of one moment, so that the deactivation wins.
    lates = (state(DEACTIVATED, 6, "a2"), state(ACTIVATED, 6, "a3"), state(DEACTIVATED, 2, "a4"))
    for late in lates:
        await worker.take(late)
        messages.append(late)
        await checks.assert_lawful(administrator, broker, [ONE], {}, messages)
    assert {message["type"] for message in checks.messages(broker)} == {"workflow.goal.achieved"}
    messages.append(state(ACTIVATED, 7, "a5"))
    await worker.take(messages[-1])
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages)
    assert len(await checks.achieved(administrator)) == len(CONTACTS)
    assert len([m for m in checks.messages(broker) if m["type"] == "workflow.exit.goal"]) == len(CONTACTS)


# --- enrollment tracking off (contract rule 3.8) ---


async def test_without_tracking_each_contact_is_enrolled_once_under_an_encoded_id(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    version = goals.GoalVersion(1, criteria.Criteria(tag_id="tag-1"), True, at(-1))
    goal = goals.Goal(TENANT, UUID(int=1), "w/1:ä", "tag_added", at(-1), (version,))
    await world.install(administrator, [goal])
    broker = world.Broker()
    run = ("w/1:ä", "e1", "c:1%")
    messages = [tagged("h", 5, contact_id="c:1%"), started(7, "s1", run), ended(3, "x1", run)]
    await world.Worker(pool, broker, tracked=False).take_all([message] for message in messages)
    await checks.assert_lawful(administrator, broker, [goal], {}, messages, tracked=False)
    enrolled = await administrator.fetch("SELECT enrollment_id, enrolled_at, ended_at FROM enrollments")
    assert [tuple(row) for row in enrolled] == [("contact:w%2F1%3A%C3%A4:c%3A1%25", None, None)]
    achieved = checks.messages(broker)[0]
    assert achieved["data"]["enrolled_at"] is None
    assert achieved["subject"] == "contact:w%2F1%3A%C3%A4:c%3A1%25"


async def test_an_exit_waits_without_tracking(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.install(administrator, [ONE])
    broker = world.Broker()
    worker = world.Worker(pool, broker, tracked=False)
    messages = [state(DEACTIVATED, 4), tagged("h1", 5)]
    await worker.take_all([message] for message in messages)
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages, tracked=False)
    messages.append(state(ACTIVATED, 6, "a2"))
    await worker.take(messages[-1])
    await checks.assert_lawful(administrator, broker, [ONE], {}, messages, tracked=False)
    assert [message["type"] for message in checks.messages(broker)] == ["workflow.goal.achieved", "workflow.exit.goal"]
