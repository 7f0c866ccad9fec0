"""Plans over generated worlds: what is planned is what judging gives where the goals are so."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from goalworker.domain import events, facts, goals, plan_tally, planning
from goalworker.domain.criteria import Criteria
from goalworker.goal_index import index, matching
from tests.kit import naive_judge, world_messages, worlds
from tests.kit.examples import IS_QUICK, examples
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
    sample: Collection[str] | None = None,
) -> plan_tally.Tallied:
    """Plan a workflow, or a sample of its enrollments, over everything that happened in a world."""
    planned = planning.planned(key, _workflow(drawn, key), proposal, worlds.at(since))
    of_plan = index.Index()
    of_plan.replace(planned.workflow.goals, {key: planned.workflow.logics}, revision=1)
    states = worker.states_of(*key)
    tally = plan_tally.Tally(planned, partial(matching.hits, goal_index=of_plan), states, tracking=tracked)
    for contact in _contacts(drawn, worker, key, sample):
        tally.add(contact)
    return tally.result()


def _contacts(
    drawn: worlds.World, worker: model.Model, key: Key, sample: Collection[str] | None
) -> Iterable[plan_tally.Contact]:
    enrollments = [
        one
        for one in worker.enrollments.values()
        if _workflow_key(one) == key and (sample is None or one.enrollment_id in sample)
    ]
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


def _achieved(worker: model.Model, key: Key, sample: Collection[str] | None = None) -> Achieved:
    own = {
        (one.tenant_id, one.enrollment_id)
        for one in worker.enrollments.values()
        if _workflow_key(one) == key and (sample is None or one.enrollment_id in sample)
    }
    return {name: one for name, one in worker.achieved().items() if name[:2] in own}


def _workflow_key(enrollment: facts.Enrollment) -> Key:
    return (enrollment.tenant_id, enrollment.workflow_id)


def _exits(worker: model.Model, key: Key, sample: Collection[str] | None = None) -> int:
    return sum(
        one.satisfied_at is not None and one.ended_at is None and not one.exit_waits
        for one in worker.enrollments.values()
        if _workflow_key(one) == key and (sample is None or one.enrollment_id in sample)
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
@given(seed=SEEDS)
def test_a_plan_gives_what_judging_gives_where_the_goals_are_so(seed: int) -> None:
    asked = Asked(seed)
    drawn, key, sample = asked.drawn, asked.key, asked.sample
    before, after = _lived(drawn), _lived(asked.world)
    result = _planned(drawn, before, key, asked.proposal, asked.since, sample=sample)
    live, expected = _achieved(before, key, sample), _achieved(after, key, sample)
    moved = [(live[name].trigger.time, expected[name].trigger.time) for name in live.keys() & expected.keys()]
    assert result.compared == plan_tally.Compared(
        len(moved),
        len(expected.keys() - live.keys()),
        len(live.keys() - expected.keys()),
        sum(then > now for then, now in moved),
        sum(then < now for then, now in moved),
    )
    assert result.would_exit == _exits(after, key, sample)
    new = [one for name, one in expected.items() if name[2] == asked.new_goal_id]
    (of_new,) = [of_goal for of_goal in result.per_goal if of_goal.index == 0]
    assert (of_new.would_achieve, of_new.more) == (len(new), len(new))
    assert of_new.first_at == min((one.trigger.time for one in new), default=None)


class Asked:
    """A proposal for a world, perhaps for a sample, and the world in which its goals were made so at its moment."""

    new_goal_id = UUID(int=99)

    def __init__(self, seed: int) -> None:
        source = worlds.seeded(seed)
        self.drawn = drawn = world_messages.world(source)
        self.key = key = (drawn.goals[0].tenant_id, drawn.goals[0].workflow_id)
        self.since = source.number(-2, worlds.TICKS)
        self.sample = source.several(list(worlds.ENROLLMENTS), 1, 3) if source.chance(30) else None
        moment = worlds.at(self.since)
        own = [goal for goal in drawn.goals if (goal.tenant_id, goal.workflow_id) == key]
        new_type = source.one([goal.goal_type for goal in own])
        criteria = _narrowed(source, new_type, worlds.criteria(source, new_type))
        logic = source.some(40, goals.LOGICS)
        deleted = own[-1] if len(own) > 1 and source.chance(50) else None
        changed = own[0]
        changed_to = source.some(80, (worlds.criteria(source, changed.goal_type),))
        is_active = source.some(30, (False, True))
        change = planning.GoalChange(changed.goal_id, changed_to, is_active)
        planned = (planning.NewGoal(new_type, criteria), change)
        gone = frozenset() if deleted is None else frozenset({deleted.goal_id})
        self.proposal = planning.Proposal(planned, gone, logic)
        last = changed.versions[-1]
        version = goals.GoalVersion(
            last.number + 1,
            last.criteria if changed_to is None else changed_to,
            last.is_active if is_active is None else is_active,
            moment,
        )
        life = (*_cut(changed, moment), version)
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


def _narrowed(source: worlds.Source, goal_type: str, own: Criteria) -> Criteria:
    """Ask for more than the goals of worlds do."""
    if goal_type == "appointment_booked":
        return structs.replace(own, service_id=own.service_id or source.some(50, ("s1", "s2")))
    if goal_type != "purchase_made" or own.total_amount is not None:
        return own
    product_id, min_amount = source.some(35, ("p1", "p2")), source.some(35, (Decimal(60), Decimal(100)))
    return structs.replace(own, product_id=own.product_id or product_id, min_amount=own.min_amount or min_amount)


def _cut(goal: goals.Goal, moment: datetime) -> tuple[goals.GoalVersion, ...]:
    kept = [version for version in goal.versions if version.active_from < moment]
    if not kept or (kept[-1].active_to is not None and kept[-1].active_to <= moment):
        return tuple(kept)
    return (*kept[:-1], structs.replace(kept[-1], active_to=moment))


# --- generated proposals say something about everything that can be proposed ---


def _without(name: str, neutral: object = None) -> Callable[[planning.Proposal], planning.Proposal]:
    """Return a function that drops a setting from the criteria of a proposal."""

    def drop(proposal: planning.Proposal) -> planning.Proposal:
        dropped = [
            goal if goal.criteria is None else structs.replace(goal, criteria=_replaced(goal.criteria, name, neutral))
            for goal in proposal.goals
        ]
        return structs.replace(proposal, goals=tuple(dropped))

    return drop


def _replaced(given: Criteria, name: str, value: object) -> Criteria:
    return structs.replace(given, **{name: value}) if getattr(given, name) is not None else given


def _change_without(name: str) -> Callable[[planning.Proposal], planning.Proposal]:
    def drop(proposal: planning.Proposal) -> planning.Proposal:
        new, change = proposal.goals
        return structs.replace(proposal, goals=(new, structs.replace(change, **{name: None})))

    return drop


PARTS: Mapping[str, Callable[[planning.Proposal], planning.Proposal]] = {
    **{name: _without(name) for name in ("times", "total_amount", "within", "deadline", "correlate_by", "reversals")},
    **{name: _without(name) for name in ("product_id", "min_amount", "currency", "calendar_id", "service_id")},
    "new goal": lambda proposal: structs.replace(proposal, goals=proposal.goals[1:]),
    "changed criteria": _change_without("criteria"),
    "changed is_active": _change_without("is_active"),
    "delete": lambda proposal: structs.replace(proposal, deleted=frozenset()),
    "logic": lambda proposal: structs.replace(proposal, logic=None),
}
PROPOSALS = 150 if IS_QUICK else 500
LEAST = 1 if IS_QUICK else PROPOSALS // 50


def _differences(seed: int) -> set[str]:
    """Return the parts of a drawn proposal without which its plan would find something else."""
    asked = Asked(seed)
    worker = _lived(asked.drawn)

    def found(proposal: planning.Proposal, since: int, sample: Collection[str] | None) -> tuple[object, ...]:
        result = _planned(asked.drawn, worker, asked.key, proposal, since, sample=sample)
        return result.compared, result.would_exit, result.revenue

    proposal, since, sample = asked.proposal, asked.since, asked.sample
    others = {name: (drop(proposal), since, sample) for name, drop in PARTS.items()}
    others |= {"from": (proposal, -5, sample), "sample": (proposal, since, None)}
    given = (proposal, since, sample)
    whole = found(*given)
    return {name for name, other in others.items() if other != given and found(*other) != whole}


@pytest.mark.unmeasured
def test_each_part_of_a_proposal_changes_two_plans_in_a_hundred() -> None:
    weights = Counter(dict.fromkeys((*PARTS, "from", "sample"), 0))
    for seed in range(PROPOSALS):
        weights.update(_differences(seed))
    light = {name: weight for name, weight in weights.items() if weight < LEAST}
    assert not light, f"of {PROPOSALS} plans, fewer than {LEAST} are others without these: {light}"
