"""Judgement of one enrollment: a pure function of its facts (contract section 3)."""

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Final
from uuid import UUID

from msgspec import Struct

from goalworker.domain import facts, goals, occurrences
from goalworker.domain.criteria import KEEP, Criteria

# Hits of one goal and contact that are judged, at most, where a goal counts them: the newest (contract rule 3.6).
COUNTED_HITS_MAX: Final = 10_000

# The order of the walk, facts.Trigger.order, read without a step of Python for each hit.
ORDER: Final = attrgetter("trigger.time", "trigger.source", "trigger.id")

HitKey = tuple[int, str, str]
"""(goal_id as a number, since a UUID is hashed by Python code, source, id) of a hit of one contact."""


class Satisfaction(Struct, frozen=True, gc=False):
    """The hit of the completing goal at which the walk stopped, and the logic that stopped it."""

    hit: facts.Hit
    logic: str


class Count(Struct, frozen=True, gc=False):
    """Count of a goal with `times` or `total_amount` when it was achieved: a hit of each occurrence, in order."""

    hits: tuple[facts.Hit, ...]
    counted: facts.Counted


class Judgement(Struct, frozen=True, gc=False):
    """The achievements of an enrollment, in the order (achieved_at, goal_id), and the hit that satisfied its workflow.

    converted_at is the moment of satisfaction or, with the logic `never`, of the first achievement (contract section 5,
    stats). occurrence_of has the hits of occurrences of several hits or with a reversal; undone those that were undone.
    """

    achieved: tuple[facts.Hit, ...] = ()
    satisfaction: Satisfaction | None = None
    converted_at: datetime | None = None
    counts: Mapping[UUID, Count] = {}
    occurrence_of: Mapping[HitKey, occurrences.Occurrence] = {}
    undone: frozenset[HitKey] = frozenset()


_NOTHING: Final = Judgement()


def judge(
    enrollment: facts.Enrollment,
    hits: Collection[facts.Hit],
    workflow: goals.Workflow,
    reversals: Sequence[facts.Reversal] = (),
    *,
    tracked: bool = True,
) -> Judgement:
    """Walk the hits of an enrollment (contract rules 3.2 to 3.4); untracked, it began at the beginning (rule 3.8).

    The hits are those of the enrollment's workflow and contact, and the reversals those of its contact.
    """
    began = enrollment.enrolled_at if tracked else facts.BEGINNING
    if began is None:
        return _NOTHING
    known = workflow.goals_by_id
    if workflow.is_plain and not reversals and enrollment.started_by_id is None and _are_of_different_goals(hits):
        own = [hit for hit in hits if hit.goal_id in known]
        return _walk(_in_window(own, began, enrollment.ended_at), workflow)
    context = _Context(enrollment, began, reversals)
    counting: list[facts.Hit] = []
    counts: dict[UUID, Count] = {}
    for of_goal in hits_by_goal(hits):
        goal = known.get(of_goal[0].goal_id)
        if goal is None:
            continue
        excess = excess_of(goal, of_goal)
        counted = of_goal[len(excess) :] if excess else of_goal
        reaching, count = _reaching(goal, _counting(goal, counted, context), is_complete=not excess)
        counting += reaching
        if count is not None:
            counts[goal.goal_id] = count
    judgement = _walk(counting, workflow)
    if not counts and not context.occurrence_of:
        return judgement
    return Judgement(
        judgement.achieved,
        judgement.satisfaction,
        judgement.converted_at,
        {hit.goal_id: counts[hit.goal_id] for hit in judgement.achieved if hit.goal_id in counts},
        context.occurrence_of,
        frozenset(context.undone),
    )


def counting(
    enrollment: facts.Enrollment,
    hits: list[facts.Hit],
    goal: goals.Goal,
    reversals: Sequence[facts.Reversal] = (),
    *,
    tracked: bool = True,
) -> list[facts.Hit]:
    """Return the hits of one goal that count for an enrollment, one of each occurrence, whatever the goal counts.

    Hits come and are returned in the order of the walk; they are those that judge() walks through (rules 3.2 and 3.3).
    """
    began = enrollment.enrolled_at if tracked else facts.BEGINNING
    return [] if began is None else _counting(goal, hits, _Context(enrollment, began, reversals))


def hit_key(hit: facts.Hit) -> HitKey:
    """Return the identity of a hit among those of one contact."""
    trigger = hit.trigger
    return (hit.goal_id.int, trigger.source, trigger.id)


def active_at(states: Sequence[facts.WorkflowState], moment: datetime) -> bool:
    """Say whether a workflow is active at a moment; it is until its first message (contract section 2, rule 3.4)."""
    for state in reversed(states):
        if state.since <= moment:
            return state.active
    return True


def waits(states: Sequence[facts.WorkflowState], satisfied_at: datetime) -> bool:
    """Say whether an exit waits: its workflow was inactive then, and no later activation is known (rule 3.4)."""
    if not states or active_at(states, satisfied_at):
        return False
    return not any(state.active for state in states if state.since > satisfied_at)


# --- the hits that count: rules 3.2 and 3.3 ---


def _are_of_different_goals(hits: Collection[facts.Hit]) -> bool:
    return len(hits) < 2 or len({hit.goal_id.int for hit in hits}) == len(hits)  # a UUID is hashed by Python code


class _Context:
    """Facts that decide on hits besides their goals; it notes the occurrences that matter after the walk."""

    def __init__(self, enrollment: facts.Enrollment, began: datetime, reversals: Sequence[facts.Reversal]) -> None:
        self.enrollment = enrollment
        self.began = began
        self.reversals = reversals
        self.occurrence_of: dict[HitKey, occurrences.Occurrence] = {}
        self.undone: list[HitKey] = []


def hits_by_goal(hits: Iterable[facts.Hit]) -> list[list[facts.Hit]]:
    """Return the hits of each goal, each event once, in the order of the walk."""
    by_goal: dict[int, dict[tuple[str, str], facts.Hit]] = {}
    for hit in hits:
        trigger = hit.trigger
        by_goal.setdefault(hit.goal_id.int, {}).setdefault((trigger.source, trigger.id), hit)
    return [sorted(of_goal.values(), key=ORDER) for of_goal in by_goal.values()]


def excess_of(goal: goals.Goal, hits: list[facts.Hit]) -> list[facts.Hit]:
    """Return the oldest of a goal's hits, which are not counted because there are too many (contract rule 3.6)."""
    is_excessive = len(hits) > COUNTED_HITS_MAX and goals.kept_seconds(goal) is not None
    return hits[:-COUNTED_HITS_MAX] if is_excessive else []


def _counting(goal: goals.Goal, hits: list[facts.Hit], context: _Context) -> list[facts.Hit]:
    """Return the hits of one goal that count, in the order of the walk."""
    if not context.reversals and occurrences.are_separate(goal.goal_type, hits):  # as most are
        alone = _counting_alone(hits, goal, context)
        is_founded = context.enrollment.started_by_id is not None
        return [hit for hit in alone if not _is_founder(hit, context.enrollment)] if is_founded else alone
    counting = []
    for occurrence in occurrences.occurrences(goal.goal_type, hits, context.reversals):
        if len(occurrence.hits) > 1 or occurrence.undone_until is not None:
            context.occurrence_of |= {hit_key(hit): occurrence for hit in occurrence.hits}
            context.undone += [hit_key(hit) for hit in occurrence.hits if _is_undone(hit, occurrence, goal)]
        hit = _counting_hit(occurrence, goal, context)
        if hit is not None:
            counting.append(hit)
    if len(counting) > 1 and context.occurrence_of:  # an occurrence may count as a hit that is not its first
        counting.sort(key=ORDER)
    return counting


def _counting_hit(occurrence: occurrences.Occurrence, goal: goals.Goal, context: _Context) -> facts.Hit | None:
    """Return the hit as which an occurrence counts for an enrollment, or None."""
    hits, founder = occurrence.hits, context.enrollment.started_by_id
    if founder is not None and any(_is_founder(hit, context.enrollment) for hit in hits):
        return None
    if len(hits) > 1 and is_early(hits[0].trigger.time, context.began):
        return None
    undone_until = occurrence.undone_until
    for hit in hits:
        if (undone_until is None or not _is_undone(hit, occurrence, goal)) and _counting_alone([hit], goal, context):
            return hit
    return None


def _counting_alone(hits: list[facts.Hit], goal: goals.Goal, context: _Context) -> list[facts.Hit]:
    """Return those of a goal's hits that count by themselves (contract rule 3.2)."""
    found: list[facts.Hit] = []
    for number, of_version in groupby(hits, attrgetter("goal_version")):
        found += _meeting(of_version, goals.criteria_of(goal, number), context)
    return found


def _meeting(hits: Iterable[facts.Hit], criteria: Criteria, context: _Context) -> list[facts.Hit]:
    """Return the hits that count by themselves under these criteria."""
    found = _in_window(hits, context.began, context.enrollment.ended_at)
    if criteria.deadline is not None:
        last = _later(context.began, criteria.deadline)
        found = [hit for hit in found if hit.trigger.time <= last]
    if criteria.correlate_by is not None:
        found = [hit for hit in found if _is_correlated(hit, criteria.correlate_by, context.enrollment)]
    return found


def _in_window(hits: Iterable[facts.Hit], began: datetime, ended_at: datetime | None) -> list[facts.Hit]:
    """Return the hits between begin, inclusive, and end, exclusive."""
    return [
        hit
        for hit in hits
        if (began <= (time := hit.trigger.time) or not is_early(time, began)) and (ended_at is None or time < ended_at)
    ]


def is_early(time: datetime, began: datetime) -> bool:
    """Say whether a time is before the enrollment; without a fraction, it is compared by the second."""
    return time < began and (time.microsecond != 0 or time < began.replace(microsecond=0))


def _is_founder(hit: facts.Hit, enrollment: facts.Enrollment) -> bool:
    founder = enrollment.started_by_id
    return founder is not None and hit.trigger.id == founder and hit.trigger.source == enrollment.started_by_source


def _is_correlated(hit: facts.Hit, field: str, enrollment: facts.Enrollment) -> bool:
    value = getattr(occurrences.details_of(hit.trigger.data), field)
    return value is not None and value == enrollment.correlation_id


def _is_undone(hit: facts.Hit, occurrence: occurrences.Occurrence, goal: goals.Goal) -> bool:
    until = occurrence.undone_until
    if until is None or hit.trigger.time > until:
        return False
    return goals.criteria_of(goal, hit.goal_version).reversals != KEEP


def _later(moment: datetime, seconds: int) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=moment.tzinfo)


# --- thresholds: rule 3.4 ---


def _reaching(
    goal: goals.Goal, counting: list[facts.Hit], *, is_complete: bool
) -> tuple[list[facts.Hit], Count | None]:
    """Return the counting hits of a goal from the one that achieves it on, and what was counted by then."""
    sum_: _Sum | None = None
    for position, hit in enumerate(counting):
        criteria = goals.criteria_of(goal, hit.goal_version)
        if criteria.times is not None:
            end = position + 1
            start = _start_of_span(counting, end, criteria.within) if end >= criteria.times else end
            if end - start < criteria.times:
                continue
            counted, total = counting[start:end], None
        elif criteria.total_amount is not None:
            if sum_ is None or (sum_.criteria is not criteria and sum_.criteria != criteria):
                sum_ = _Sum(criteria, counting[:position])
            sum_.add(hit)
            if sum_.total < criteria.total_amount:
                continue
            counted, total = list(sum_.hits), sum_.total
        else:
            return counting[position:], None
        return counting[position:], Count(tuple(counted), facts.Counted(len(counted), total, is_complete))
    return [], None


def _start_of_span(hits: list[facts.Hit], end: int, within: int | None) -> int:
    """Return the position of the first hit that is less than `within` seconds older than the last one before `end`."""
    if within is None:
        return 0
    last, span = hits[end - 1].trigger.time, timedelta(seconds=within)
    return bisect_right(hits, False, hi=end, key=lambda hit: last - hit.trigger.time < span)


_ZERO: Final = Decimal(0)
_add: Final = occurrences.EXACT.add


class _Sum:
    """The payments in the currency of criteria among the last hits of a walk, as old as these allow, and their sum."""

    def __init__(self, criteria: Criteria, before: Iterable[facts.Hit]) -> None:
        self.criteria = criteria
        self.span = None if criteria.within is None else timedelta(seconds=criteria.within)
        self.hits: deque[facts.Hit] = deque()
        self.total = Decimal(0)
        for hit in before:
            self.add(hit)

    def add(self, hit: facts.Hit) -> None:
        """Add the next hit of the walk, and drop those that are too old by now."""
        time, span = hit.trigger.time, self.span
        while span is not None and self.hits and time - self.hits[0].trigger.time >= span:
            dropped = occurrences.details_of(self.hits.popleft().trigger.data)
            self.total = occurrences.EXACT.subtract(self.total, dropped.amount or _ZERO)
        details = occurrences.details_of(hit.trigger.data)
        if details.currency is not None and details.currency.upper() == self.criteria.currency:
            self.hits.append(hit)
            self.total = _add(self.total, details.amount or _ZERO)


# --- the walk: rule 3.4 ---


def _walk(hits: list[facts.Hit], workflow: goals.Workflow) -> Judgement:
    """Walk the counting hits, of each goal those from the one that achieves it on."""
    achieved: dict[UUID, facts.Hit] = {}
    measured_at: datetime | None = None
    for event_hits in _by_event(hits):
        new = [hit for hit in event_hits if hit.goal_id not in achieved]
        achieved |= {hit.goal_id: hit for hit in new}
        moment = event_hits[0].trigger.time
        logic = goals.logic_at(workflow, moment)
        if logic == "any" or (logic == "all" and _all_achieved(workflow, moment, achieved)):
            reached, known = new or event_hits, workflow.goals_by_id
            completing = reached[0] if len(reached) == 1 else min(reached, key=lambda hit: known[hit.goal_id].rank)
            return Judgement(_in_order(achieved.values()), Satisfaction(completing, logic), moment)
        if logic == "never" and new and measured_at is None:
            measured_at = moment
    return Judgement(_in_order(achieved.values()), converted_at=measured_at)


def _by_event(hits: list[facts.Hit]) -> Iterable[list[facts.Hit]]:
    """Return the hits event by event."""
    if len(hits) < 2:  # as most enrollments have
        return [hits] if hits else ()
    hits.sort(key=ORDER)
    return (list(event_hits) for _, event_hits in groupby(hits, key=ORDER))


def _all_achieved(workflow: goals.Workflow, moment: datetime, achieved: Mapping[UUID, facts.Hit]) -> bool:
    return all(goal.goal_id in achieved for goal in workflow.goals if goals.version_at(goal, moment) is not None)


def _in_order(achieved: Iterable[facts.Hit]) -> tuple[facts.Hit, ...]:
    hits = tuple(achieved)
    return hits if len(hits) < 2 else tuple(sorted(hits, key=lambda hit: (hit.trigger.time, hit.goal_id)))
