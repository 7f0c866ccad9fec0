"""Contract section 3 a second time, from its sentences alone: slow and obvious, sharing no logic with goalworker.

Nothing here is merged, indexed, sorted into batches or stopped early. Each answer is a sentence of the contract
written as a set of events, and every set is made by looking at everything that ever happened.
"""

import unicodedata
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from goalworker.domain import events, goals, ids
from goalworker.domain.criteria import Criteria
from goalworker.domain.facts import BEGINNING


class Walked(NamedTuple):
    """An event's place in the walk (rule 3)."""

    time: datetime
    source: str
    id: str


class Satisfied(NamedTuple):
    """The event at which the walk stopped, the completing goal, and the logic that stopped it."""

    at: Walked
    goal_id: UUID
    logic: str


class Answer(NamedTuple):
    """The achievements of one enrollment."""

    achieved: dict[UUID, Walked]
    satisfied: Satisfied | None


class Facts(NamedTuple):
    """One enrollment's window, its contact's events, its workflow's states as (since, active), and its workflow."""

    enrolled_at: datetime | None
    ended_at: datetime | None
    happened: Collection[events.Event]
    states: Collection[tuple[datetime, bool]]
    workflow: goals.Workflow


# --- rule 1: hits ---


def in_force(goal: goals.Goal, moment: datetime) -> goals.GoalVersion | None:
    """Return the version in force: from active_from (inclusive) to active_to (exclusive), if it is_active."""
    found = [
        version
        for version in goal.versions
        if version.is_active
        and version.active_from <= moment
        and (version.active_to is None or moment < version.active_to)
    ]
    assert len(found) <= 1, "two versions of one goal in force at once"
    return found[0] if found else None


def fold(name: str) -> str:
    """NFKC, strip, casefold, NFKC."""
    name = unicodedata.normalize("NFKC", name)
    name = name.strip()
    name = name.casefold()
    return unicodedata.normalize("NFKC", name)


def wanted(criterion: str | tuple[str, ...]) -> set[str]:
    """One text or a list (any of them)."""
    return {criterion} if isinstance(criterion, str) else set(criterion)


def meets(criteria: Criteria, data: events.GoalData) -> bool:
    """All given fields must match."""
    if isinstance(data, events.TagAdded):
        if criteria.tag_id and data.tag_id:
            return data.tag_id in wanted(criteria.tag_id)
        return bool(criteria.tag_name and data.tag_name and fold(criteria.tag_name) == fold(data.tag_name))
    verdicts = []
    if criteria.product_id:
        bought = set(data.product_ids or ()) if isinstance(data, events.PaymentCompleted) else set()
        verdicts.append(bool(wanted(criteria.product_id) & bought))
    if criteria.min_amount is not None:
        verdicts.append(isinstance(data, events.PaymentCompleted) and data.amount >= criteria.min_amount)
    if criteria.currency:
        verdicts.append(isinstance(data, events.PaymentCompleted) and data.currency.upper() == criteria.currency)
    for name in ("calendar_id", "service_id", "form_id", "pipeline_id", "stage_id"):
        criterion = getattr(criteria, name)
        if criterion:
            verdicts.append(getattr(data, name, None) in wanted(criterion))
    return all(verdicts)


def hits(event: events.Event, goal: goals.Goal) -> bool:
    """Event E is a hit of goal G: tenant and type agree, and the version in force at E.time matches."""
    version = in_force(goal, event.time)
    return (
        version is not None
        and not isinstance(event.data, events.EnrollmentChanged | events.WorkflowChanged)
        and goal.tenant_id == event.tenant_id
        and event.type == events.GOAL_TYPE_TABLE[goal.goal_type].event_type
        and meets(version.criteria, event.data)
    )


# --- rules 2 and 3: the window and the walk ---


def active(states: Collection[tuple[datetime, bool]], moment: datetime) -> bool:
    """The last word up to the moment, inclusive; at equal times deactivated wins; no word: active."""
    latest = max((since for since, _ in states if since <= moment), default=None)
    return all(is_active for since, is_active in states if since == latest)


def answer(facts: Facts) -> Answer:
    """Return the event that achieved each goal, and the achievement that satisfied the workflow."""
    if facts.enrolled_at is None:
        return Answer({}, None)
    counting = [
        event
        for event in facts.happened
        if facts.enrolled_at <= event.time
        and (facts.ended_at is None or event.time < facts.ended_at)
        and active(facts.states, event.time)
    ]
    first: dict[UUID, Walked] = {}
    for goal in facts.workflow.goals:
        hitting = [walked(event) for event in counting if hits(event, goal)]
        if hitting:
            first[goal.goal_id] = min(hitting)
    stops = [at for at in first.values() if _satisfied_at(at, first, facts.workflow)]
    if not stops:
        return Answer(first, None)
    stop = min(stops)
    completing = min(
        (goal.created_at, goal.goal_id) for goal in facts.workflow.goals if first.get(goal.goal_id) == stop
    )
    achieved = {goal_id: at for goal_id, at in first.items() if at <= stop}
    return Answer(achieved, Satisfied(stop, completing[1], logic(facts.workflow, stop.time)))


def _satisfied_at(at: Walked, first: Mapping[UUID, Walked], workflow: goals.Workflow) -> bool:
    match logic(workflow, at.time):
        case "any":
            return True
        case "all":
            wanted = [goal.goal_id for goal in workflow.goals if in_force(goal, at.time) is not None]
            return all(goal_id in first and first[goal_id] <= at for goal_id in wanted)
        case _:
            return False


def logic(workflow: goals.Workflow, moment: datetime) -> str:
    """The logic in force at a moment; before anyone sets it, `any`."""
    so_far = {version.active_from: version.logic for version in workflow.logics if version.active_from <= moment}
    return so_far[max(so_far)] if so_far else "any"


def walked(event: events.Event) -> Walked:
    """Return an event's place in the walk."""
    return Walked(event.time, event.source, event.id)


# --- a whole world at once ---

AchievementKey = tuple[str, str, UUID]
EnrollmentKey = tuple[str, str]
Logics = Mapping[tuple[str, str], tuple[goals.LogicVersion, ...]]


def answers(
    all_goals: Collection[goals.Goal],
    logics: Logics,
    messages: Collection[events.Event],
    *,
    tracked: bool = True,
) -> tuple[dict[AchievementKey, Walked], dict[EnrollmentKey, Satisfied]]:
    """Judge every enrollment that the messages speak of, once, with all of them known."""
    achieved: dict[AchievementKey, Walked] = {}
    satisfied: dict[EnrollmentKey, Satisfied] = {}
    for enrolled in _tracked(messages) if tracked else _untracked(all_goals, messages):
        tenant_id, enrollment_id, workflow_id, contact_id = enrolled
        happened = [event for event in messages if event.tenant_id == tenant_id and _contact(event) == contact_id]
        states = [
            (event.time, event.type == events.WORKFLOW_ACTIVATED)
            for event in messages
            if isinstance(event.data, events.WorkflowChanged)
            and (event.tenant_id, event.data.workflow_id) == (tenant_id, workflow_id)
        ]
        own = tuple(goal for goal in all_goals if (goal.tenant_id, goal.workflow_id) == (tenant_id, workflow_id))
        workflow = goals.Workflow(own, logics.get((tenant_id, workflow_id), ()))
        since = _earliest(events.ENROLLMENT_STARTED, enrolled, messages) if tracked else BEGINNING
        until = _earliest(events.ENROLLMENT_ENDED, enrolled, messages) if tracked else None
        result = answer(Facts(since, until, happened, states, workflow))
        achieved |= {(tenant_id, enrollment_id, goal_id): at for goal_id, at in result.achieved.items()}
        if result.satisfied is not None:
            satisfied[tenant_id, enrollment_id] = result.satisfied
    return achieved, satisfied


class _Enrolled(NamedTuple):
    tenant_id: str
    enrollment_id: str
    workflow_id: str
    contact_id: str


def _tracked(messages: Collection[events.Event]) -> set[_Enrolled]:
    return {
        _Enrolled(event.tenant_id, event.data.enrollment_id, event.data.workflow_id, event.data.contact_id)
        for event in messages
        if isinstance(event.data, events.EnrollmentChanged)
    }


def _untracked(all_goals: Collection[goals.Goal], messages: Collection[events.Event]) -> set[_Enrolled]:
    return {
        _Enrolled(goal.tenant_id, ids.contact_enrollment_id(goal.workflow_id, contact_id), goal.workflow_id, contact_id)
        for goal in all_goals
        for event in messages
        if event.tenant_id == goal.tenant_id and (contact_id := _contact(event)) is not None
    }


def _earliest(type_: str, enrolled: _Enrolled, messages: Collection[events.Event]) -> datetime | None:
    times = [
        event.time
        for event in messages
        if event.type == type_
        and isinstance(event.data, events.EnrollmentChanged)
        and (event.tenant_id, event.data.enrollment_id) == (enrolled.tenant_id, enrolled.enrollment_id)
    ]
    return min(times, default=None)


def _contact(event: events.Event) -> str | None:
    if isinstance(event.data, events.EnrollmentChanged | events.WorkflowChanged):
        return None
    return event.data.contact_id
