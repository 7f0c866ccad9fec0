"""Plans over generated worlds: what is planned is what judging gives where the goals are so."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from goalworker.domain import events, facts, goals, plan_tally, planning
from goalworker.goal_index import index, matching
from tests.kit import naive_judge, world_messages, worlds
from tests.kit.examples import examples
from tests.unit import model

SEEDS = st.integers(0, 2**32)
EVERYTHING = planning.Proposal()
Key = tuple[str, str]
Achieved = dict[naive_judge.AchievementKey, facts.Achievement]


def _world(seed: int, *, tracked: bool = True) -> worlds.World:
    drawn = world_messages.world(worlds.seeded(seed))
    return drawn if tracked else drawn.untracked()


def _lived(drawn: worlds.World, *, tracked: bool = True) -> model.Model:
    worker = model.Model(drawn.goals, drawn.logics, tracked=tracked)
    worker.record(*drawn.messages)
    return worker


def _workflow(drawn: worlds.World, key: Key) -> goals.Workflow:
    own = tuple(goal for goal in drawn.goals if (goal.tenant_id, goal.workflow_id) == key)
    return goals.Workflow(own, drawn.logics.get(key, ()))


def _planned(
    drawn: worlds.World,
    worker: model.Model,
    key: Key,
    proposal: planning.Proposal = EVERYTHING,
    since: int = 0,
    *,
    tracked: bool = True,
) -> plan_tally.Tallied:
    """Plan a workflow over everything that happened in a world."""
    planned = planning.planned(key, _workflow(drawn, key), proposal, worlds.at(since))
    of_plan = index.Index()
    of_plan.replace(planned.workflow.goals, {key: planned.workflow.logics}, revision=1)
    states = worker.states_of(*key)
    tally = plan_tally.Tally(planned, partial(matching.hits, goal_index=of_plan), states, tracking=tracked)
    for contact in _contacts(drawn, worker, key):
        tally.add(contact)
    return tally.result()


def _contacts(drawn: worlds.World, worker: model.Model, key: Key) -> Iterable[plan_tally.Contact]:
    enrollments = [one for one in worker.enrollments.values() if (one.tenant_id, one.workflow_id) == key]
    for contact_id in sorted({one.contact_id for one in enrollments}):
        own = [one for one in enrollments if one.contact_id == contact_id]
        yield plan_tally.Contact(
            own,
            [event for event in drawn.messages if (event.tenant_id, _contact(event)) == (key[0], contact_id)],
            reversals=worker.reversals_of(key[0], contact_id),
            stored={
                one.enrollment_id: list(worker.stored[key[0], one.enrollment_id].values())
                for one in own
                if worker.stored[key[0], one.enrollment_id]
            },
        )


def _contact(event: events.Event) -> str | None:
    return None if isinstance(event.data, events.LifecycleData) else event.data.contact_id


def _achieved(worker: model.Model, key: Key) -> Achieved:
    own = {(one.tenant_id, one.enrollment_id) for one in worker.enrollments.values() if _workflow_key(one) == key}
    return {name: one for name, one in worker.achieved().items() if name[:2] in own}


def _workflow_key(enrollment: facts.Enrollment) -> Key:
    return (enrollment.tenant_id, enrollment.workflow_id)


def _exits(worker: model.Model, key: Key) -> int:
    return sum(
        one.satisfied_at is not None and one.ended_at is None and not one.exit_waits
        for one in worker.enrollments.values()
        if _workflow_key(one) == key
    )


KEYS = [(tenant_id, workflow_id) for tenant_id in worlds.TENANTS for workflow_id in worlds.WORKFLOWS]


@settings(max_examples=examples(200))
@given(seed=SEEDS, tracked=st.booleans())
def test_planning_the_present_goals_gives_the_live_achievements(seed: int, tracked: bool) -> None:
    drawn = _world(seed, tracked=tracked)
    worker = _lived(drawn, tracked=tracked)
    for key in KEYS:
        result = _planned(drawn, worker, key, tracked=tracked)
        achieved = _achieved(worker, key)
        assert result.compared == plan_tally.Compared(len(achieved), 0, 0, 0, 0)
        assert sum(of_goal.would_achieve for of_goal in result.per_goal) == len(achieved)
        assert result.would_exit == _exits(worker, key)


@settings(max_examples=examples(100))
@given(seed=SEEDS, tracked=st.booleans())
def test_planning_the_present_goals_gives_the_live_revenue(seed: int, tracked: bool) -> None:
    drawn = _world(seed, tracked=tracked)
    worker = _lived(drawn, tracked=tracked)
    judged = naive_judge.everything(drawn.goals, drawn.logics, drawn.messages, tracked=tracked)
    expected = naive_judge.workflow_revenue(judged)
    for key in KEYS:
        planned = _planned(drawn, worker, key, tracked=tracked).revenue
        amounts = {currency: tuple(map(Decimal, of_currency.values())) for currency, of_currency in planned.items()}
        assert amounts == expected.get(key, {})


@settings(max_examples=examples(200))
@given(seed=SEEDS, since=st.integers(-2, worlds.TICKS))
def test_a_plan_gives_what_judging_gives_where_the_goals_are_so(seed: int, since: int) -> None:
    source = worlds.seeded(seed)
    drawn = world_messages.world(source)
    key = (drawn.goals[0].tenant_id, drawn.goals[0].workflow_id)
    asked = Asked(source, drawn, key, since)
    before, after = _lived(drawn), _lived(asked.world)
    result = _planned(drawn, before, key, asked.proposal, since)
    live, expected = _achieved(before, key), _achieved(after, key)
    moved = [(live[name].trigger.time, expected[name].trigger.time) for name in live.keys() & expected.keys()]
    assert result.compared == plan_tally.Compared(
        len(moved),
        len(expected.keys() - live.keys()),
        len(live.keys() - expected.keys()),
        sum(then > now for then, now in moved),
        sum(then < now for then, now in moved),
    )
    assert result.would_exit == _exits(after, key)
    new = [one for name, one in expected.items() if name[2] == asked.new_goal_id]
    (of_new,) = [of_goal for of_goal in result.per_goal if of_goal.index == 0]
    assert (of_new.would_achieve, of_new.more) == (len(new), len(new))
    assert of_new.first_at == min((one.trigger.time for one in new), default=None)


class Asked:
    """A proposal, and the world in which its goals were made so at its moment."""

    new_goal_id = UUID(int=99)

    def __init__(self, source: worlds.Source, drawn: worlds.World, key: Key, since: int) -> None:
        moment = worlds.at(since)
        own = [goal for goal in drawn.goals if (goal.tenant_id, goal.workflow_id) == key]
        new_type = source.one([goal.goal_type for goal in own])
        criteria = worlds.criteria(source, new_type)
        logic = source.some(40, goals.LOGICS)
        deleted = own[-1] if len(own) > 1 and source.chance(50) else None
        changed = own[0]
        changed_to = worlds.criteria(source, changed.goal_type)
        planned = (planning.NewGoal(new_type, criteria), planning.GoalChange(changed.goal_id, changed_to))
        gone = frozenset() if deleted is None else frozenset({deleted.goal_id})
        self.proposal = planning.Proposal(planned, gone, logic)
        last = changed.versions[-1]
        life = (*_cut(changed, moment), goals.GoalVersion(last.number + 1, changed_to, last.is_active, moment))
        made = {goal.goal_id: goal for goal in drawn.goals}
        made[changed.goal_id] = structs.replace(changed, versions=life)
        if deleted is not None:
            made[deleted.goal_id] = structs.replace(deleted, versions=_cut(deleted, moment))
        version = goals.GoalVersion(1, criteria, True, moment)
        new = goals.Goal(key[0], self.new_goal_id, key[1], new_type, moment, (version,))
        alive = tuple(goal for goal in made.values() if goal.versions)
        logics = {**drawn.logics}
        if logic is not None:
            earlier = tuple(version for version in logics.get(key, ()) if version.active_from < moment)
            logics[key] = (*earlier, goals.LogicVersion(logic, moment))
        self.world = replace(drawn, goals=(*alive, new), logics=logics)


def _cut(goal: goals.Goal, moment: datetime) -> tuple[goals.GoalVersion, ...]:
    kept = [version for version in goal.versions if version.active_from < moment]
    if not kept or (kept[-1].active_to is not None and kept[-1].active_to <= moment):
        return tuple(kept)
    return (*kept[:-1], structs.replace(kept[-1], active_to=moment))
