"""Tracing of a judgement: the reason for which each hit of a goal does not achieve it (contract section 7).

The judge itself is asked, with less and less to hold against a hit: the condition with which it first says no is the
reason. So there is one implementation of the rules, and a worker pays nothing for explanations.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct, structs

from goalworker.domain import facts, gates, goals, judging, occurrences

_NEVER: Final = (goals.LogicVersion("never", facts.BEGINNING),)


class Case(Struct, frozen=True):
    """An enrollment with all that bears on it."""

    enrollment: facts.Enrollment
    workflow: goals.Workflow
    hits: Sequence[facts.Hit]
    reversals: Sequence[facts.Reversal]
    tracked: bool = True


class Trace(Struct, frozen=True):
    """The judgement of a case, and of each hit of a goal the reason for which it does not count, None if it does."""

    judgement: judging.Judgement
    reasons: Mapping[judging.HitKey, str | None]
    counting: Mapping[UUID, tuple[facts.Hit, ...]]
    """By goal, the hits that pass the occurrences: one of each, in the order of the walk."""


def judge(case: Case) -> judging.Judgement:
    """Judge a case as the worker does."""
    return judging.judge(case.enrollment, case.hits, case.workflow, case.reversals, tracked=case.tracked)


def trace(case: Case) -> Trace:
    """Judge a case and return the reason of every hit."""
    judgement = judge(case)
    reasons: dict[judging.HitKey, str | None] = {}
    counting: dict[UUID, tuple[facts.Hit, ...]] = {}
    known = case.workflow.goals_by_id
    for of_goal in judging.hits_by_goal(hit for hit in case.hits if hit.goal_id in known):
        goal = known[of_goal[0].goal_id]
        of_occurrences = _of_occurrences(case, goal, of_goal)
        reasons |= of_occurrences
        counting[goal.goal_id] = tuple(hit for hit in of_goal if of_occurrences[judging.hit_key(hit)] is None)
        reasons |= _of_walk(case, goal, of_goal, counting[goal.goal_id], judgement)
    return Trace(judgement, reasons, counting)


def counts_alone(case: Case, goal: goals.Goal, hit: facts.Hit) -> bool:
    """Say whether a hit lies in the window of an enrollment, whatever else hits the goal (contract rule 3.2)."""
    return _first(case.enrollment, [hit], _Alone(goal).all, (), case) is not None


# --- window and occurrences: rules 3.2 and 3.3 ---


class _Alone:
    """A goal as the only one of its workflow, achieved by its first hit that counts, with some of its conditions."""

    def __init__(self, goal: goals.Goal) -> None:
        self.all = _without(goal, "times", "total_amount")
        self.uncorrelated = _without(goal, "times", "total_amount", "correlate_by")
        self.bare = _without(goal, "times", "total_amount", "correlate_by", "deadline")


def _without(goal: goals.Goal, *settings: str) -> goals.Workflow:
    nothing = dict.fromkeys(settings)
    versions = tuple(
        structs.replace(version, criteria=structs.replace(version.criteria, **nothing)) for version in goal.versions
    )
    return goals.Workflow((structs.replace(goal, versions=versions),))


def _first(
    enrollment: facts.Enrollment,
    hits: Collection[facts.Hit],
    workflow: goals.Workflow,
    reversals: Sequence[facts.Reversal],
    case: Case,
) -> facts.Hit | None:
    """Return the first of these hits that counts."""
    return next(iter(judging.judge(enrollment, hits, workflow, reversals, tracked=case.tracked).achieved), None)


def _of_occurrences(case: Case, goal: goals.Goal, hits: list[facts.Hit]) -> dict[judging.HitKey, str | None]:
    """Return why each hit does not count by its window and its occurrence."""
    reasons: dict[judging.HitKey, str | None] = {}
    alone = _Alone(goal)
    excess = judging.excess_of(goal, hits)
    reasons |= {judging.hit_key(hit): gates.BELOW_THRESHOLD for hit in excess}
    undoing = occurrences.by_subject(case.reversals)
    for occurrence in occurrences.occurrences(goal.goal_type, hits[len(excess) :], case.reversals):
        counted = _first(case.enrollment, occurrence.hits, alone.all, _reversals_of(occurrence, undoing), case)
        for hit in occurrence.hits:
            if hit is counted:
                reason = None
            elif outside := _outside(case, alone, hit):
                reason = outside
            elif counted is not None and counted.trigger.order < hit.trigger.order:
                reason = gates.REPEATS_OLDER_OCCURRENCE
            else:
                reason = _of_occurrence(case, alone, occurrence)
            reasons[judging.hit_key(hit)] = reason
    return reasons


def _reversals_of(occurrence: occurrences.Occurrence, undoing: occurrences.BySubject) -> list[facts.Reversal]:
    """Return the reversals that may concern an occurrence: a contact may have very many others."""
    names = {name for hit in occurrence.hits for name in occurrences.names_of(hit.trigger.data)} if undoing else ()
    return [reversal for name in names for reversal in undoing.get(name, ())]


def _outside(case: Case, alone: _Alone, hit: facts.Hit) -> str | None:
    """Return why a hit lies outside the window, None if it lies within."""
    whose = case.enrollment
    if _first(whose, [hit], alone.all, (), case) is not None:
        return None
    open_ = structs.replace(whose, ended_at=None, started_by_source=None, started_by_id=None)
    unfounded = structs.replace(open_, ended_at=whose.ended_at)
    for reason, enrollment, workflow in (
        (gates.BEFORE_ENROLLMENT, open_, alone.bare),
        (gates.AFTER_END, unfounded, alone.bare),
        (gates.AFTER_DEADLINE, unfounded, alone.uncorrelated),
        (gates.FOUNDING_EVENT, whose, alone.uncorrelated),
    ):
        if _first(enrollment, [hit], workflow, (), case) is None:
            return reason
    return gates.NOT_CORRELATED


def _of_occurrence(case: Case, alone: _Alone, occurrence: occurrences.Occurrence) -> str:
    """Return why an occurrence does not count although one of its hits lies within the window."""
    whose = case.enrollment
    if _first(whose, occurrence.hits, alone.all, (), case) is not None:
        return gates.REVERSED
    unfounded = structs.replace(whose, started_by_source=None, started_by_id=None)
    if _first(unfounded, occurrence.hits, alone.all, (), case) is not None:
        return gates.FOUNDING_EVENT
    return gates.REPEATS_OLDER_OCCURRENCE


# --- thresholds and the walk: rule 3.4 ---


def _of_walk(
    case: Case,
    goal: goals.Goal,
    hits: list[facts.Hit],
    counting: tuple[facts.Hit, ...],
    judgement: judging.Judgement,
) -> dict[judging.HitKey, str | None]:
    """Return why hits that count do not achieve the goal: they are too few, or come after the end of the walk."""
    unstopped = goals.Workflow((goal,), _NEVER)
    reaching = _first(case.enrollment, hits, unstopped, case.reversals, case)
    is_achieved = any(hit.goal_id == goal.goal_id for hit in judgement.achieved)
    count = judgement.counts.get(goal.goal_id) if is_achieved else None
    behind = set() if count is None else {hit.trigger.order for hit in count.hits}
    end = None if judgement.satisfaction is None else judgement.satisfaction.hit.trigger.order
    reasons: dict[judging.HitKey, str | None] = {}
    for hit in counting:
        order = hit.trigger.order
        if order in behind:
            reason = None
        elif reaching is None or order < reaching.trigger.order:
            reason = gates.BELOW_THRESHOLD
        else:
            reason = gates.STOPPED_BEFORE if end is not None and order > end else None
        reasons[judging.hit_key(hit)] = reason
    return reasons
