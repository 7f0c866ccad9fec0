"""Tracing of a judgement: the reason for which each hit of a goal does not achieve it (contract section 7).

The judge itself is asked, with less and less to hold against the hits: the condition with which it first says no is the
reason. So there is one implementation of the rules, and a worker pays nothing for explanations.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
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
    return bool(_counting(case, case.enrollment, _by_itself(goal), [hit]))


def outside(case: Case, goal: goals.Goal, hit: facts.Hit) -> str | None:
    """Return why a hit lies outside the window of an enrollment, None if it lies within (contract rule 3.2)."""
    return _outside(case, goal, [hit]).get(judging.hit_key(hit))


# --- window and occurrences: rules 3.2 and 3.3 ---

# A type of goal whose every event is an occurrence of its own, so that each hit is asked of by itself.
_SEPARATE: Final = "tag_added"


def _by_itself(goal: goals.Goal, *without: str) -> goals.Goal:
    """Return a goal of separate events, without some of its settings."""
    nothing = dict.fromkeys(without)
    versions = tuple(
        structs.replace(version, criteria=structs.replace(version.criteria, **nothing)) for version in goal.versions
    )
    return structs.replace(goal, goal_type=_SEPARATE, versions=versions)


def _counting(
    case: Case,
    enrollment: facts.Enrollment,
    goal: goals.Goal,
    hits: list[facts.Hit],
    reversals: Sequence[facts.Reversal] = (),
) -> list[facts.Hit]:
    """Return the hits that count for an enrollment: all are asked of at once, since a contact may have very many."""
    return judging.counting(enrollment, hits, goal, reversals, tracked=case.tracked)


def _keys(hits: Iterable[facts.Hit]) -> set[judging.HitKey]:
    return set(map(judging.hit_key, hits))


def _of_occurrences(case: Case, goal: goals.Goal, hits: list[facts.Hit]) -> dict[judging.HitKey, str | None]:
    """Return why each hit does not count by its window and its occurrence."""
    excess = judging.excess_of(goal, hits)
    rest = hits[len(excess) :]
    counted = _keys(_counting(case, case.enrollment, goal, rest, case.reversals))
    reasons: dict[judging.HitKey, str | None] = {judging.hit_key(hit): gates.BELOW_THRESHOLD for hit in excess}
    reasons |= dict.fromkeys(counted)
    reasons |= _outside(case, goal, [hit for hit in rest if judging.hit_key(hit) not in counted])
    if len(reasons) < len(hits):
        return {**_of_repeats(case, goal, rest, counted), **reasons}
    return reasons


def _outside(case: Case, goal: goals.Goal, hits: list[facts.Hit]) -> dict[judging.HitKey, str]:
    """Return why hits lie outside the window; those that lie within are left out."""
    whose = case.enrollment
    within = _keys(_counting(case, whose, _by_itself(goal), hits))
    left = [hit for hit in hits if judging.hit_key(hit) not in within]
    if not left:
        return {}
    open_ = structs.replace(whose, ended_at=None, started_by_source=None, started_by_id=None)
    unfounded = structs.replace(open_, ended_at=whose.ended_at)
    bare, uncorrelated = _by_itself(goal, "correlate_by", "deadline"), _by_itself(goal, "correlate_by")
    reasons: dict[judging.HitKey, str] = {}
    for reason, enrollment, of_goal in (
        (gates.BEFORE_ENROLLMENT, open_, bare),
        (gates.AFTER_END, unfounded, bare),
        (gates.AFTER_DEADLINE, unfounded, uncorrelated),
        (gates.FOUNDING_EVENT, whose, uncorrelated),
    ):
        passing = _counting(case, enrollment, of_goal, left)
        reasons |= dict.fromkeys(_keys(left) - _keys(passing), reason)
        left = passing
    return reasons | dict.fromkeys(_keys(left), gates.NOT_CORRELATED)


def _of_repeats(
    case: Case, goal: goals.Goal, hits: list[facts.Hit], counted: Set[judging.HitKey]
) -> dict[judging.HitKey, str]:
    """Return why hits within the window do not count: by their occurrence, or the hit as which that counts."""
    unfounded = structs.replace(case.enrollment, started_by_source=None, started_by_id=None)
    unreversed = _keys(_counting(case, case.enrollment, goal, hits))
    unfounded_too = _keys(_counting(case, unfounded, goal, hits))
    reasons: dict[judging.HitKey, str] = {}
    for occurrence in occurrences.occurrences(goal.goal_type, hits, case.reversals):
        keys = [judging.hit_key(hit) for hit in occurrence.hits]
        counting = next((number for number, key in enumerate(keys) if key in counted), len(keys))
        reason = gates.REPEATS_OLDER_OCCURRENCE
        if not unreversed.isdisjoint(keys):
            reason = gates.REVERSED
        elif not unfounded_too.isdisjoint(keys):
            reason = gates.FOUNDING_EVENT
        reasons |= dict.fromkeys(keys[:counting], reason)
        reasons |= dict.fromkeys(keys[counting + 1 :], gates.REPEATS_OLDER_OCCURRENCE)
    return reasons


# --- thresholds and the walk: rule 3.4 ---


def _of_walk(
    case: Case,
    goal: goals.Goal,
    hits: list[facts.Hit],
    counting: tuple[facts.Hit, ...],
    judgement: judging.Judgement,
) -> dict[judging.HitKey, str | None]:
    """Return why hits that count do not achieve the goal: they are too few, or come after the end of the walk."""
    unstopped = judge(structs.replace(case, hits=hits, workflow=goals.Workflow((goal,), _NEVER)))
    reaching = next(iter(unstopped.achieved), None)
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
