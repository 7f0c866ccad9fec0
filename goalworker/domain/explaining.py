"""Explaining: why a contact's enrollments achieved a goal or did not, from the facts alone (contract section 7)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct, structs

from goalworker.domain import clauses, events, evidence, facts, gates, goals, ids, judging, summaries, tracing
from goalworker.domain.explanations import (
    NOT_SEARCHED,
    SEARCHED,
    Also,
    ContactFacts,
    ExitState,
    ExplainedEvent,
    Explanation,
    Explanations,
    GateResult,
    ReversalSeen,
    Run,
    ShownCoverage,
)
from goalworker.domain.sightings import Sighting, Sightings, data_of, hits_of, sighting_of_hit, sightings_of

# Events of a goal for which a change of their data is tried, at most: those that came nearest. Each is a judgement.
_CHANGES_TRIED_MAX: Final = 5


def answer(known: ContactFacts, goal_id: UUID | None = None) -> Explanations:
    """Return the explanations of a contact with their coverage, as they are shown."""
    coverage = known.coverage
    shown = ShownCoverage(
        coverage.history_from,
        coverage.hits_from,
        coverage.fresh_as_of,
        coverage.complete,
        NOT_SEARCHED if known.dead_letters is None else SEARCHED,
    )
    return Explanations(tuple(explain(known, goal_id)), shown)


def explain(known: ContactFacts, goal_id: UUID | None = None) -> list[Explanation]:
    """Return one explanation for each enrollment and each goal, or for each goal where the contact has no enrollment.

    Without a goal_id, goals that were deleted before an enrollment began are left out of it.
    """
    asked = [goal for goal in known.workflow.goals if goal_id in (None, goal.goal_id)]
    seen = {goal.goal_id: sightings_of(goal, known.events) for goal in asked}
    hits = hits_of(known.workflow_id, seen)
    explained = []
    for run in known.runs or (None,):
        wanted = [goal for goal in asked if goal_id is not None or run is None or _concerns(goal, run)]
        if run is None or (known.tracked and run.enrollment.enrolled_at is None):
            explained += [_explain_unenrolled(known, goal, seen[goal.goal_id], run) for goal in wanted]
        else:
            judged = _judge(known, run, wanted, seen, hits)
            explained += [_explain_goal(judged, goal) for goal in wanted]
    return explained


def _concerns(goal: goals.Goal, run: Run) -> bool:
    ended, began = goal.versions[-1].active_to, run.enrollment.enrolled_at
    if ended is None or began is None or ended > began:
        return True
    return any(one.goal_id == goal.goal_id for one in run.achievements if not one.revoked)


class _Seen(Struct, frozen=True):
    """A sighting and the reason for which it does not count for an enrollment, None if it does."""

    sighting: Sighting
    reason: str | None


def _progress(seen: _Seen) -> tuple[object, ...]:
    """Key by which the event that came furthest is the last one: among equals the nearest, then the latest."""
    gate = None if seen.reason is None else gates.GATE_OF[seen.reason]
    passed = len(gates.GATES) if gate is None else gates.GATES.index(gate)
    sighting = seen.sighting
    return (passed, sighting.would_match, sum(clause.result for clause in sighting.clauses), sighting.order)


# --- without an enrollment ---


def _explain_unenrolled(known: ContactFacts, goal: goals.Goal, sightings: Sightings, run: Run | None) -> Explanation:
    seen = [_Seen(one, _reason_by_itself(one) or gates.NOT_ENROLLED) for one in _by_order(sightings.values())]
    best = max(seen, key=lambda one: (one.reason == gates.NOT_ENROLLED, _progress(one)), default=None)
    is_seen = bool(seen) or (False if known.coverage.complete else None)
    results = {
        gates.ENROLLED: False,
        gates.EVENT_SEEN: is_seen,
        gates.VERSION_IN_FORCE: any(one.sighting.version is not None for one in seen) if seen else None,
        gates.CRITERIA: any(one.sighting.is_hit for one in seen) if seen else None,
    }
    sighting = None if best is None else best.sighting
    told = summaries.Told(known, goal, gates.NOT_ENROLLED, gates.NOT_ACHIEVED, sighting, run=run)
    return Explanation(
        None if run is None else run.enrollment.enrollment_id,
        goal.goal_id,
        _version_of(goal, sighting),
        gates.NOT_ACHIEVED,
        summaries.summary(told),
        gates.ENROLLED,
        gates.NOT_ENROLLED,
        tuple([GateResult(gate, results.get(gate)) for gate in gates.GATES]),
        tuple([_explained(one) for one in seen]),
        ExitState(None, None, None, None),
        _also(known, goal),
    )


def _reason_by_itself(seen: Sighting) -> str | None:
    """Return why an event does not hit the goal, None if it does."""
    if seen.version is None:
        return gates.GOAL_NOT_IN_FORCE
    return None if seen.is_hit else gates.CRITERIA_NOT_MET


# --- an enrollment ---


class _Judged(Struct, frozen=True):
    """An enrollment, judged as the worker judges it, and traced with the kept events that nobody has judged, too."""

    known: ContactFacts
    run: Run
    live: judging.Judgement
    case: tracing.Case
    trace: tracing.Trace
    sightings: Mapping[UUID, Sightings]


def _judge(
    known: ContactFacts,
    run: Run,
    asked: Iterable[goals.Goal],
    sightings: Mapping[UUID, Sightings],
    hits: Iterable[facts.Hit],
) -> _Judged:
    stored = evidence.hits_of(run.enrollment, run.achievements, known.hits)
    keys = {judging.hit_key(hit) for hit in stored}
    merged = {goal.goal_id: dict(sightings[goal.goal_id]) for goal in asked}
    for hit in stored:
        of_goal, key = merged.get(hit.goal_id), (hit.trigger.source, hit.trigger.id)
        if of_goal is not None and not (key in of_goal and of_goal[key].is_hit_of(hit.goal_version)):
            of_goal[key] = sighting_of_hit(known.workflow.goals_by_id[hit.goal_id], hit)
    asked_ids = {goal_id.int for goal_id in merged}  # a UUID is hashed by Python code
    unjudged = [hit for hit in hits if hit.goal_id.int in asked_ids and judging.hit_key(hit) not in keys]
    case = tracing.Case(run.enrollment, known.workflow, [*stored, *unjudged], known.reversals, known.tracked)
    trace = tracing.trace(case)
    live = tracing.judge(structs.replace(case, hits=stored)) if unjudged else trace.judgement
    return _Judged(known, run, live, case, trace, merged)


def _explain_goal(judged: _Judged, goal: goals.Goal) -> Explanation:
    ordered = _by_order(judged.sightings[goal.goal_id].values())
    seen = [_Seen(one, _reason(judged, goal, one)) for one in ordered]
    achieving = next((hit for hit in judged.live.achieved if hit.goal_id == goal.goal_id), None)
    if achieving is not None:
        seen = [_Seen(one.sighting, None) if _is_of(one, achieving) else one for one in seen]
        best = next(one for one in seen if _is_of(one, achieving))
        reason = _exit_of(judged).reason
        return _explanation(judged, goal, seen, best, gates.ACHIEVED, reason)
    if any(one.reason is None for one in seen):  # the worker has no such hit, so it is not judged or came too late
        seen = [_Seen(one.sighting, one.reason or gates.NO_EVENT) for one in seen]
        best = next(one for one in seen if one.reason == gates.NO_EVENT)
        return _explanation(judged, goal, seen, best, gates.UNKNOWN, gates.NO_EVENT)
    if not seen:
        answer = gates.NOT_ACHIEVED if is_covered(judged.known, judged.run) else gates.UNKNOWN
        return _explanation(judged, goal, seen, None, answer, gates.NO_EVENT)
    best = max(seen, key=_progress)
    return _explanation(judged, goal, seen, best, gates.NOT_ACHIEVED, best.reason or gates.NO_EVENT)


def _reason(judged: _Judged, goal: goals.Goal, seen: Sighting) -> str | None:
    if (reason := _reason_by_itself(seen)) is not None:
        return reason
    return judged.trace.reasons[goal.goal_id.int, seen.event.source, seen.event.id]


def _is_of(seen: _Seen, hit: facts.Hit) -> bool:
    return seen.sighting.order == hit.trigger.order


def is_covered(known: ContactFacts, run: Run) -> bool:
    """Say whether events are kept since an enrollment began, and until now or its end."""
    began, ended = run.enrollment.enrolled_at, run.enrollment.ended_at
    since, until = known.coverage.history_from, known.coverage.history_until
    is_kept_until_now = until is None or (ended is not None and ended <= until)
    return since is not None and began is not None and since <= began and is_kept_until_now


def _explanation(
    judged: _Judged, goal: goals.Goal, seen: Sequence[_Seen], best: _Seen | None, answer: str, reason: str
) -> Explanation:
    known, run = judged.known, judged.run
    exit_ = _exit_of(judged)
    sighting = None if best is None else best.sighting
    told = summaries.Told(known, goal, reason, answer, sighting, run=run, case=judged.case, trace=judged.trace)
    changes = _changes(judged, goal, seen) if answer == gates.NOT_ACHIEVED else {}
    is_achieved = answer == gates.ACHIEVED
    return Explanation(
        run.enrollment.enrollment_id,
        goal.goal_id,
        _version_of(goal, sighting),
        answer,
        summaries.summary(told),
        None if is_achieved else gates.GATE_OF[reason],
        reason,
        _passed(exit_) if is_achieved else _stopped(gates.GATE_OF[reason], is_known=answer != gates.UNKNOWN),
        tuple([_explained(one, changes.get(one.sighting.order, ()) if changes else ()) for one in seen]),
        exit_.state,
        _also(known, goal),
    )


def _stopped(stop: str | None, *, is_known: bool) -> tuple[GateResult, ...]:
    """Return the gates of a goal that is not achieved: passed up to one, and not evaluated after it."""
    at = gates.GATES.index(stop or gates.ENROLLED)
    results = [True if number < at else None for number in range(len(gates.GATES))]
    results[at] = False if is_known else None
    return tuple(map(GateResult, gates.GATES, results))


def _passed(exit_: "_Exit") -> tuple[GateResult, ...]:
    results = {gates.WORKFLOW_ACTIVE: exit_.is_active, gates.EXIT_PUBLISHED: exit_.is_published}
    return tuple([GateResult(gate, results.get(gate, True)) for gate in gates.GATES])


def _explained(seen: _Seen, changes: tuple[clauses.DataChange, ...] = ()) -> ExplainedEvent:
    event, version = seen.sighting.event, seen.sighting.version
    return ExplainedEvent(
        event.source,
        event.id,
        event.type,
        event.time,
        None if version is None else version.number,
        None if seen.reason is None else gates.GATE_OF[seen.reason],
        seen.sighting.clauses,
        changes,
    )


def _by_order(seen: Iterable[Sighting]) -> list[Sighting]:
    return sorted(seen, key=lambda one: one.order)


def _version_of(goal: goals.Goal, seen: Sighting | None) -> int | None:
    """Return the version that decided, or the newest one."""
    version = goal.versions[-1] if seen is None or seen.version is None else seen.version
    return version.number


# --- what would have achieved ---


def _changes(
    judged: _Judged, goal: goals.Goal, seen: Iterable[_Seen]
) -> dict[tuple[object, str, str], tuple[clauses.DataChange, ...]]:
    """Return, for the events that came nearest, the changes of their data with which the goal would be achieved."""
    missed = [one for one in seen if one.reason == gates.CRITERIA_NOT_MET]
    nearest = sorted(missed, key=_progress)[-_CHANGES_TRIED_MAX:]
    found = {}
    for one in nearest:
        changes = clauses.changes_to_match(one.sighting.clauses)
        if _would_achieve(judged, goal, one.sighting, changes):
            found[one.sighting.order] = changes
    return found


def _would_achieve(judged: _Judged, goal: goals.Goal, seen: Sighting, changes: tuple[clauses.DataChange, ...]) -> bool:
    """Say whether other data of an event would have achieved the goal; other goals look at these data, too."""
    event = structs.replace(seen.event, data=clauses.with_changes(data_of(seen.event), changes))
    changed = {of.goal_id: sightings_of(of, [event]) for of in judged.known.workflow.goals}
    new = {hit.goal_id: hit for hit in hits_of(judged.known.workflow_id, changed)}
    if not tracing.counts_alone(judged.case, goal, new[goal.goal_id]):
        return False
    others = [hit for hit in judged.case.hits if hit.trigger.order != seen.order]
    judgement = tracing.judge(structs.replace(judged.case, hits=[*others, *new.values()]))
    return any(one.goal_id == goal.goal_id for one in judgement.achieved)


# --- the exit, and what else is known ---


class _Exit(Struct, frozen=True):
    """The exit of an enrollment, and what its gates say; an enrollment that is not satisfied has no exit due."""

    state: ExitState
    is_active: bool | None = None
    is_published: bool | None = None
    reason: str = gates.ACHIEVED


def _exit_of(judged: _Judged) -> _Exit:
    run, satisfaction = judged.run, judged.live.satisfaction
    enrollment = run.enrollment
    exit_id = ids.exit_id(enrollment.tenant_id, enrollment.enrollment_id)
    if run.sent_at is not None:
        state = ExitState(run.sent_at, run.published_at, exit_id, None)
        return _Exit(state, is_active=True, is_published=run.is_published)
    if satisfaction is None or enrollment.ended_at is not None:
        return _Exit(ExitState(None, None, None, None))
    if run.is_withheld:
        return _Exit(ExitState(None, None, exit_id, "backfill"), True, False, gates.WAITS_FOR_BACKFILL)
    if judging.waits(judged.known.states, satisfaction.hit.trigger.time):
        return _Exit(ExitState(None, None, exit_id, "activation"), False, None, gates.WAITS_FOR_ACTIVATION)
    return _Exit(ExitState(None, None, exit_id, None), is_active=True, is_published=False)


def _also(known: ContactFacts, goal: goals.Goal) -> Also:
    undoing = events.GOAL_TYPE_TABLE[goal.goal_type].reversals
    reversed_ = sorted((one for one in known.reversals if one.type in undoing), key=lambda one: one.order)
    return Also(
        known.dead_letters,
        tuple([ReversalSeen(one.source, one.id, one.type, one.time, one.subject_id) for one in reversed_]),
    )
