"""Judgement of one enrollment: a pure function of its facts (contract section 3)."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Final
from uuid import UUID

from msgspec import Struct, structs

from goalworker.domain import facts, goals, occurrences
from goalworker.domain.criteria import Criteria

# Hits of one goal and contact that are judged, at most, where a goal counts them: the newest (contract rule 3.6).
COUNTED_HITS_MAX: Final = 10_000

HitKey = tuple[UUID, str, str]
"""(goal_id, source, id) of a hit of one contact."""


class Satisfaction(Struct, frozen=True, gc=False):
    """The hit of the completing goal at which the walk stopped, and the logic that stopped it."""

    hit: facts.Hit
    logic: str


class Count(Struct, frozen=True, gc=False):
    """What a goal with `times` or `total_amount` counted when it was achieved: a hit of each occurrence, in order."""

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
    undone: Collection[HitKey] = frozenset()


_NOTHING: Final = Judgement()


def judge(
    enrollment: facts.Enrollment,
    hits: Iterable[facts.Hit],
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
    own = [hit for hit in hits if hit.goal_id in known]
    if workflow.is_plain and not reversals and enrollment.started_by_id is None and _are_of_different_goals(own):
        return _walk([hit for hit in own if _is_within(hit.trigger.time, began, enrollment.ended_at)], workflow)
    counting: list[facts.Hit] = []
    occurrence_of: dict[HitKey, occurrences.Occurrence] = {}
    undone: list[HitKey] = []
    truncated: list[UUID] = []
    for goal_id, of_goal in _by_goal(own).items():
        goal, newest = known[goal_id], _newest(of_goal)
        if len(newest) < len(of_goal):
            truncated.append(goal_id)
        for occurrence in occurrences.occurrences(goal.goal_type, newest, reversals):
            if len(occurrence.hits) > 1 or occurrence.undone_until is not None:
                occurrence_of |= {hit_key(hit): occurrence for hit in occurrence.hits}
                undone += _undone(occurrence, goal)
            hit = _counting_hit(occurrence, goal, enrollment, began)
            if hit is not None:
                counting.append(hit)
    judgement = _walk(counting, workflow, truncated)
    return structs.replace(judgement, occurrence_of=occurrence_of, undone=undone)


def hit_key(hit: facts.Hit) -> HitKey:
    """Return the identity of a hit among those of one contact."""
    return (hit.goal_id, hit.trigger.source, hit.trigger.id)


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


def _are_of_different_goals(hits: Sequence[facts.Hit]) -> bool:
    return len(hits) < 2 or len({hit.goal_id for hit in hits}) == len(hits)


def _by_goal(hits: Iterable[facts.Hit]) -> Mapping[UUID, list[facts.Hit]]:
    by_goal: defaultdict[UUID, dict[tuple[str, str], facts.Hit]] = defaultdict(dict)
    for hit in hits:
        by_goal[hit.goal_id].setdefault((hit.trigger.source, hit.trigger.id), hit)
    return {goal_id: list(of_goal.values()) for goal_id, of_goal in by_goal.items()}


def _newest(hits: list[facts.Hit]) -> list[facts.Hit]:
    if len(hits) <= COUNTED_HITS_MAX:
        return hits
    return sorted(hits, key=attrgetter("trigger.order"))[-COUNTED_HITS_MAX:]


def _counting_hit(
    occurrence: occurrences.Occurrence, goal: goals.Goal, enrollment: facts.Enrollment, began: datetime
) -> facts.Hit | None:
    """Return the hit as which an occurrence counts for an enrollment, or None."""
    if _is_before(occurrence.hits[0].trigger.time, began) or _is_founding(occurrence, enrollment):
        return None
    for hit in occurrence.hits:
        criteria = goals.criteria_of(goal, hit.goal_version)
        if (
            not _is_undone(hit, occurrence, criteria)
            and _is_within(hit.trigger.time, began, enrollment.ended_at)
            and (criteria.deadline is None or hit.trigger.time <= _later(began, criteria.deadline))
            and _is_correlated(hit, criteria, enrollment)
        ):
            return hit
    return None


def _is_within(time: datetime, began: datetime, ended_at: datetime | None) -> bool:
    return (began <= time or not _is_before(time, began)) and (ended_at is None or time < ended_at)


def _is_before(time: datetime, began: datetime) -> bool:
    """Say whether a time is before an enrollment; without a fraction, it is compared by the second."""
    return time < (began if time.microsecond else began.replace(microsecond=0))


def _is_founding(occurrence: occurrences.Occurrence, enrollment: facts.Enrollment) -> bool:
    founder = (enrollment.started_by_source, enrollment.started_by_id)
    return founder[1] is not None and any((hit.trigger.source, hit.trigger.id) == founder for hit in occurrence.hits)


def _is_correlated(hit: facts.Hit, criteria: Criteria, enrollment: facts.Enrollment) -> bool:
    if criteria.correlate_by is None:
        return True
    field = getattr(occurrences.details_of(hit.trigger.data), criteria.correlate_by)
    return field is not None and field == enrollment.correlation_id


def _is_undone(hit: facts.Hit, occurrence: occurrences.Occurrence, criteria: Criteria) -> bool:
    until = occurrence.undone_until
    return until is not None and hit.trigger.time <= until and criteria.reversals != "keep"


def _undone(occurrence: occurrences.Occurrence, goal: goals.Goal) -> list[HitKey]:
    if occurrence.undone_until is None:
        return []
    return [
        hit_key(hit)
        for hit in occurrence.hits
        if _is_undone(hit, occurrence, goals.criteria_of(goal, hit.goal_version))
    ]


def _later(moment: datetime, seconds: int) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=moment.tzinfo)


# --- the walk: rule 3.4 ---


def _walk(
    counting: list[facts.Hit],
    workflow: goals.Workflow,
    truncated: Collection[UUID] = (),
) -> Judgement:
    achieved: dict[UUID, facts.Hit] = {}
    counts: dict[UUID, Count] = {}
    tallies: _Tallies = {}
    measured_at: datetime | None = None
    for event_hits in _by_event(counting):
        new = [hit for hit in event_hits if hit.goal_id not in achieved]
        if not workflow.is_plain:
            new = [
                hit
                for hit in new
                if _completes(hit, workflow, tallies, counts, is_complete=hit.goal_id not in truncated)
            ]
        achieved |= {hit.goal_id: hit for hit in new}
        reached = new or [hit for hit in event_hits if hit.goal_id in achieved]
        if not reached:
            continue
        moment = reached[0].trigger.time
        logic = goals.logic_at(workflow, moment)
        if logic == "any" or (logic == "all" and _all_achieved(workflow, moment, achieved)):
            known = workflow.goals_by_id
            completing = reached[0] if len(reached) == 1 else min(reached, key=lambda hit: known[hit.goal_id].rank)
            return Judgement(_in_order(achieved.values()), Satisfaction(completing, logic), moment, counts)
        if logic == "never" and new and measured_at is None:
            measured_at = moment
    return Judgement(_in_order(achieved.values()), None, measured_at, counts)


def _by_event(hits: list[facts.Hit]) -> Iterable[list[facts.Hit]]:
    """Return the hits event by event."""
    if len(hits) < 2:  # as most enrollments have
        return [hits] if hits else ()
    hits.sort(key=attrgetter("trigger.order"))
    return [list(event_hits) for _, event_hits in groupby(hits, key=attrgetter("trigger.order"))]


class _Tally:
    """The counting hits of a goal so far, in the order of the walk, with the sum of their amounts up to each."""

    def __init__(self) -> None:
        self.hits: list[facts.Hit] = []
        self.times: list[datetime] = []
        self.sums: list[Decimal] = []

    def add(self, hit: facts.Hit, amount: Decimal) -> None:
        self.hits.append(hit)
        self.times.append(hit.trigger.time)
        self.sums.append(occurrences.EXACT.add(self.total(0), amount))

    def start(self, within: int | None) -> int:
        """Return the position of the first hit in the last `within` seconds, that long ago excluded."""
        if within is None:
            return 0
        try:
            return bisect_right(self.times, self.times[-1] - timedelta(seconds=within))
        except OverflowError:
            return 0

    def total(self, start: int) -> Decimal:
        if not self.sums:
            return Decimal(0)
        return occurrences.EXACT.subtract(self.sums[-1], self.sums[start - 1]) if start else self.sums[-1]


_Tallies = dict[tuple[UUID, str | None], _Tally]
"""Tallies by goal: of all its hits, under None, and of those in each currency."""


def _completes(
    hit: facts.Hit,
    workflow: goals.Workflow,
    tallies: _Tallies,
    counts: dict[UUID, Count],
    *,
    is_complete: bool,
) -> bool:
    """Add a hit to the tallies of its goal, and say whether it achieves the goal, by the version in force."""
    goal = workflow.goals_by_id[hit.goal_id]
    details = occurrences.details_of(hit.trigger.data)
    currency = None if details.currency is None else details.currency.upper()
    for key in {(hit.goal_id, None), (hit.goal_id, currency)}:
        tallies.setdefault(key, _Tally()).add(hit, details.amount or Decimal(0))
    criteria = goals.criteria_of(goal, hit.goal_version)
    if criteria.times is None and criteria.total_amount is None:
        return True
    tally = tallies[hit.goal_id, criteria.currency if criteria.times is None else None]
    start = tally.start(criteria.within)
    total = None if criteria.total_amount is None else tally.total(start)
    if criteria.times is not None and len(tally.hits) - start < criteria.times:
        return False
    if total is not None and criteria.total_amount is not None and total < criteria.total_amount:
        return False
    hits = tuple(tally.hits[start:])
    counts[hit.goal_id] = Count(hits, facts.Counted(len(hits), total, is_complete))
    return True


def _all_achieved(workflow: goals.Workflow, moment: datetime, achieved: Mapping[UUID, facts.Hit]) -> bool:
    return all(goal.goal_id in achieved for goal in workflow.goals if goals.version_at(goal, moment) is not None)


def _in_order(achieved: Iterable[facts.Hit]) -> tuple[facts.Hit, ...]:
    hits = tuple(achieved)
    return hits if len(hits) < 2 else tuple(sorted(hits, key=lambda hit: (hit.trigger.time, hit.goal_id)))
