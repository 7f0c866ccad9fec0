"""Judgement of one enrollment: a pure function of its facts (contract section 3)."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Final

from msgspec import Struct

from goalworker.domain import facts, goals


class Satisfaction(Struct, frozen=True, gc=False):
    """The achievement at which the walk stopped, and the logic that stopped it."""

    hit: facts.Hit
    logic: str


class Judgement(Struct, frozen=True, gc=False):
    """The achievements of an enrollment, in the order (achieved_at, goal_id), and the one that satisfied its workflow.

    converted_at is the moment of that one or, with the logic `never`, of the first one (contract section 5, stats).
    """

    achieved: tuple[facts.Hit, ...] = ()
    satisfaction: Satisfaction | None = None
    converted_at: datetime | None = None


_NOTHING: Final = Judgement()


def judge(
    enrollment: facts.Enrollment,
    hits: Iterable[facts.Hit],
    states: Sequence[facts.WorkflowState],
    workflow: goals.Workflow,
    *,
    tracked: bool = True,
) -> Judgement:
    """Walk the hits of an enrollment (contract rules 3.2 and 3.3); untracked, it began at the beginning (rule 3.8).

    The hits are those of the enrollment's workflow and contact, with each event at most once per goal. States come in
    the order of time.
    """
    began = enrollment.enrolled_at if tracked else facts.BEGINNING
    if began is None:
        return _NOTHING
    goals_by_id = {goal.goal_id: goal for goal in workflow.goals}
    counting = [hit for hit in hits if _counts(hit, began, enrollment.ended_at, states) and hit.goal_id in goals_by_id]
    achieved: dict[object, facts.Hit] = {}
    measured_at: datetime | None = None
    for event_hits in _walk(counting):
        new = [hit for hit in event_hits if hit.goal_id not in achieved]
        if not new:
            continue
        achieved |= {hit.goal_id: hit for hit in new}
        moment = new[0].trigger.time
        logic = goals.logic_at(workflow, moment)
        if logic == "any" or (logic == "all" and _all_achieved(workflow, moment, achieved)):
            completing = new[0] if len(new) == 1 else min(new, key=lambda hit: goals_by_id[hit.goal_id].rank)
            return Judgement(_in_order(achieved.values()), Satisfaction(completing, logic), moment)
        if logic == "never" and measured_at is None:
            measured_at = moment
    return Judgement(_in_order(achieved.values()), converted_at=measured_at)


def active_at(states: Sequence[facts.WorkflowState], moment: datetime) -> bool:
    """Say whether a workflow is active at a moment; it is until its first message (contract section 2, rule 3.2)."""
    for state in reversed(states):
        if state.since <= moment:
            return state.active
    return True


def reason_revoked(trigger: facts.Trigger, enrollment: facts.Enrollment, states: Sequence[facts.WorkflowState]) -> str:
    """Return the reason why an achievement with this trigger is revoked (contract section 4, goal-achieved)."""
    if enrollment.ended_at is not None and trigger.time >= enrollment.ended_at:
        return "after_end"
    return "superseded" if active_at(states, trigger.time) else "workflow_inactive"


def _counts(hit: facts.Hit, began: datetime, ended_at: datetime | None, states: Sequence[facts.WorkflowState]) -> bool:
    time = hit.trigger.time
    return began <= time and (ended_at is None or time < ended_at) and (not states or active_at(states, time))


def _walk(hits: list[facts.Hit]) -> Iterable[list[facts.Hit]]:
    """Return the hits event by event."""
    if len(hits) < 2:  # as most enrollments have
        return [hits] if hits else ()
    hits.sort(key=attrgetter("trigger.order"))
    return [list(event_hits) for _, event_hits in groupby(hits, key=attrgetter("trigger.order"))]


def _all_achieved(workflow: goals.Workflow, moment: datetime, achieved: dict[object, facts.Hit]) -> bool:
    return all(goal.goal_id in achieved for goal in workflow.goals if goals.version_at(goal, moment) is not None)


def _in_order(achieved: Iterable[facts.Hit]) -> tuple[facts.Hit, ...]:
    hits = tuple(achieved)
    return hits if len(hits) < 2 else tuple(sorted(hits, key=lambda hit: (hit.trigger.time, hit.goal_id)))
