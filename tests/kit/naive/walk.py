"""Rule 4: the walk, satisfaction and the exit."""

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from goalworker.domain import events, goals
from goalworker.domain.criteria import Criteria
from tests.kit.naive.facts import Facts, Walked, walked
from tests.kit.naive.hits import in_force, settings_at
from tests.kit.naive.occurrences import case_of
from tests.kit.naive.reversals import counting
from tests.kit.naive.rules import rule


class Achieved(NamedTuple):
    """A goal that an enrollment achieved, as goal-achieved tells it."""

    at: Walked
    goal_version: int
    occurrences: int | None = None
    """How many counted, for goals with `times` or `total_amount`."""
    total_amount: Decimal | None = None
    evidence_complete: bool = True


class Satisfied(NamedTuple):
    """The event at which the walk stopped, the completing goal, and the logic that stopped it."""

    at: Walked
    goal_id: UUID
    logic: str


# --- rule 4: the walk ---


class Counted(NamedTuple):
    """A goal, and its hits that count."""

    goal: goals.Goal
    hitting: set[events.Event]


class Walk(NamedTuple):
    """Result of a walk: the achievements, the events that each rests on, and the satisfaction."""

    achieved: dict[UUID, Achieved]
    behind: dict[UUID, set[events.Event]]
    satisfied: Satisfied | None


def walk(facts: Facts) -> Walk:
    """Rule 4: The hits that count are walked event by event, in the order (E.time, source, id)."""
    cases = [case_of(facts, goal) for goal in facts.workflow.goals]
    counted = [Counted(case.goal, paused_or_not(facts, counting(case))) for case in cases]
    done = Walk({}, {}, None)
    for event in sorted({event for one in counted for event in one.hitting}, key=walked):
        done = step(facts.workflow, event, [one for one in counted if event in one.hitting], done)
        if stops(done.satisfied):
            break
    return done


def step(workflow: goals.Workflow, event: events.Event, hit: Collection[Counted], before: Walk) -> Walk:
    """Rule 4: The first hit of a goal achieves it. Two goals hit by the very same event are both achieved."""
    newly = [one for one in hit if one.goal.goal_id not in before.achieved and reaches(*one, event)]
    achieved = before.achieved | {one.goal.goal_id: achievement(*one, event) for one in newly}
    triggers = before.behind | {one.goal.goal_id: behind(*one, event) for one in newly}
    goals_hit = [one.goal for one in hit if one.goal.goal_id in achieved]
    satisfied = before.satisfied
    if satisfied is None and is_satisfied(workflow, event, goals_hit, newly, set(achieved)):
        satisfied = Satisfied(walked(event), completing(goals_hit, newly).goal_id, logic(workflow, event.time))
    return Walk(achieved, triggers, satisfied)


@rule(lambda facts, hitting: {event for event in hitting if is_active(facts.states, event.time)})
def paused_or_not(facts: Facts, hitting: set[events.Event]) -> set[events.Event]:
    """Rule 4: Whether the workflow is active does not matter for what was achieved."""
    return hitting


@rule(lambda satisfied: False)
def stops(satisfied: Satisfied | None) -> bool:
    """Rule 4: The walk stops where the workflow is satisfied at E."""
    return satisfied is not None


def reaches(goal: goals.Goal, hitting: set[events.Event], event: events.Event) -> bool:
    """Rule 4: The first hit of a goal achieves it; with `times` or `total_amount` the one that reaches that."""
    return reaches_times(goal, hitting, event) and reaches_total(goal, hitting, event)


@rule(lambda goal, hitting, event: True)
def reaches_times(goal: goals.Goal, hitting: set[events.Event], event: events.Event) -> bool:
    """Rule 4: With `times` N the hit that completes the N-th occurrence."""
    times = counting_settings(goal, event).times
    return times is None or len(occurrences(goal, hitting, event)) >= times


@rule(lambda goal, hitting, event: True)
def reaches_total(goal: goals.Goal, hitting: set[events.Event], event: events.Event) -> bool:
    """Rule 4: With `total_amount` the one at which the sum in that currency is reached."""
    wanted = counting_settings(goal, event).total_amount
    return wanted is None or total(in_that_currency(goal, occurrences(goal, hitting, event), event)) >= wanted


@rule(lambda goal, event: goal.versions[-1].criteria)
def counting_settings(goal: goals.Goal, event: events.Event) -> Criteria:
    """Rule 4: These settings are those of the version in force at E.time."""
    return settings_at(goal, event)


def occurrences(goal: goals.Goal, hitting: set[events.Event], event: events.Event) -> set[events.Event]:
    """Rule 4: Both over the occurrences in (E.time - within, E.time], and never over what comes later in the walk."""
    return {
        hit
        for hit in hitting
        if hit.time <= event.time
        and not comes_later(hit, event)
        and is_within(goal, hit, event)
        and counts_along(goal, hit, event)
    }


@rule(lambda hit, event: False)
def comes_later(hit: events.Event, event: events.Event) -> bool:
    """Rule 4: ... and never over what comes later in the walk."""
    return walked(hit) > walked(event)


@rule(lambda goal, hit, event: True)
def is_within(goal: goals.Goal, hit: events.Event, event: events.Event) -> bool:
    """Rule 4: Over the occurrences in (E.time - within, E.time] where `within` is given."""
    seconds = counting_settings(goal, event).within
    return seconds is None or is_since(event.time - timedelta(seconds=seconds), hit)


@rule(lambda start, hit: hit.time >= start)
def is_since(start: datetime, hit: events.Event) -> bool:
    """Rule 4: ... the moment E.time - within itself is left out."""
    return hit.time > start


@rule(lambda goal, hit, event: in_force(goal, hit.time) == in_force(goal, event.time))
def counts_along(goal: goals.Goal, hit: events.Event, event: events.Event) -> bool:
    """Rule 4: Hits under the goal's earlier versions count along."""
    return True


@rule(lambda goal, occurred, event: occurred)
def in_that_currency(goal: goals.Goal, occurred: set[events.Event], event: events.Event) -> set[events.Event]:
    """Rule 4: ... the sum in that currency."""
    currency = counting_settings(goal, event).currency
    return {hit for hit in occurred if payment(hit).currency.upper() == currency}


def total(occurred: set[events.Event]) -> Decimal:
    """Return the sum of the amounts of payments."""
    return sum((payment(hit).amount for hit in occurred), start=Decimal(0))


def payment(event: events.Event) -> events.PaymentCompleted:
    """Return the data of a payment."""
    assert isinstance(event.data, events.PaymentCompleted)
    return event.data


def behind(goal: goals.Goal, hitting: set[events.Event], event: events.Event) -> set[events.Event]:
    """Return the triggers of an achievement: with `times` and `total_amount` all occurrences."""
    settings = counting_settings(goal, event)
    if settings.total_amount is not None:
        return in_that_currency(goal, occurrences(goal, hitting, event), event)
    return {event} if settings.times is None else occurrences(goal, hitting, event)


def achievement(goal: goals.Goal, hitting: set[events.Event], event: events.Event) -> Achieved:
    """Tell an achievement: achieved_at = E.time, and how many occurrences counted, or how much, where that is asked."""
    version = in_force(goal, event.time)
    assert version is not None
    settings, occurred = counting_settings(goal, event), behind(goal, hitting, event)
    is_counting = settings.times is not None or settings.total_amount is not None
    return Achieved(
        walked(event),
        version.number,
        len(occurred) if is_counting else None,
        None if settings.total_amount is None else total(occurred),
    )


# --- rule 4: satisfaction ---


def is_satisfied(
    workflow: goals.Workflow,
    event: events.Event,
    goals_hit: Collection[goals.Goal],
    newly: Collection[Counted],
    achieved: set[UUID],
) -> bool:
    """Ask at an event that hits `goals_hit`, all achieved then or before."""
    if not goals_hit or not is_asked(newly):
        return False
    match logic(workflow, event.time):
        case "any":
            return True
        case "all":
            return {goal.goal_id for goal in in_force_then(workflow, event)} <= achieved
        case _:
            return False


@rule(bool)
def is_asked(newly: Collection[Counted]) -> bool:
    """Rule 4: Asked at every event that hits a goal which is achieved then or before."""
    return True


@rule(lambda workflow, event: workflow.goals)
def in_force_then(workflow: goals.Workflow, event: events.Event) -> Collection[goals.Goal]:
    """Rule 4: `all`: when every goal of the workflow in force at E.time is achieved."""
    return [goal for goal in workflow.goals if in_force(goal, event.time) is not None]


@rule(lambda workflow, moment: workflow.logics[-1].logic if workflow.logics else "any")
def logic(workflow: goals.Workflow, moment: datetime) -> str:
    """Rule 4: Logic is the one in force at E.time."""
    so_far = {version.active_from: version.logic for version in workflow.logics if version.active_from <= moment}
    return so_far[max(so_far)] if so_far else before_anyone_sets_it()


@rule(lambda: "never")
def before_anyone_sets_it() -> str:
    """Rule 4: Before anyone sets it, logic is `any`."""
    return "any"


def completing(goals_hit: Collection[goals.Goal], newly: Collection[Counted]) -> goals.Goal:
    """Rule 4: The completing goal is, of the achieved ones that E hits, first one newly achieved, then the lowest."""
    return min(goals_hit, key=lambda goal: (newly_first(goal, newly), rank(goal)))


@rule(lambda goal, newly: False)
def newly_first(goal: goals.Goal, newly: Collection[Counted]) -> bool:
    """Rule 4: ... first one newly achieved (False sorts first)."""
    return goal.goal_id not in {one.goal.goal_id for one in newly}


@rule(lambda goal: (goal.goal_id, goal.created_at))
def rank(goal: goals.Goal) -> tuple[datetime, UUID]:
    """Rule 4: ... then the one with the lowest (created_at, goal_id)."""
    return (goal.created_at, goal.goal_id)


# --- rule 4: the exit ---


@rule(lambda facts, satisfied: False)
def exit_waits(facts: Facts, satisfied: Satisfied | None) -> bool:
    """Rule 4: While the workflow is inactive at the satisfying event's time, the exit waits for an activation."""
    if satisfied is None or is_active(facts.states, satisfied.at.time):
        return False
    return not any(
        active and since > satisfied.at.time and not is_overruled(facts.states, since) for since, active in facts.states
    )


@rule(lambda states, since: False)
def is_overruled(states: Collection[tuple[datetime, bool]], since: datetime) -> bool:
    """Rule 4: An activation that a deactivation of the same moment overrules does not count."""
    return (since, False) in states


def is_active(states: Collection[tuple[datetime, bool]], moment: datetime) -> bool:
    """Rule 4: A workflow state holds from its time on, inclusive; with no lifecycle message a workflow is active."""
    latest = max((since for since, _ in states if holds(since, moment)), default=None)
    return deactivated_wins({active for since, active in states if since == latest})


@rule(lambda since, moment: since < moment)
def holds(since: datetime, moment: datetime) -> bool:
    """Section 2: A workflow state holds from its time on, inclusive."""
    return since <= moment


@rule(lambda said: any(said) or not said)
def deactivated_wins(said: set[bool]) -> bool:
    """Rule 4: At equal times `deactivated` wins."""
    return all(said)
