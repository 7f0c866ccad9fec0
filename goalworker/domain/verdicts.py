"""Verdicts: the changes to write and the messages to send when a judgement differs from the stored one (rule 3.5)."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct, structs

from goalworker.domain import evidence, facts, goals, judging, messages


class Change(Struct, frozen=True, gc=False):
    """One achievement to store; kind is `achieved`, `revised` or `revoked`, as the metrics count it.

    It is None where only the evidence changes, of which nobody is told.
    """

    kind: str | None
    goal_type: str
    achievement: facts.Achievement


class Outcome(Struct, frozen=True, gc=False):
    """Result that is stored with an enrollment: the fields that judgements fill in, but for the exit."""

    satisfied_at: datetime | None = None
    converted_at: datetime | None = None
    exit_waits: bool = False
    satisfied_by: str | None = None
    payments: str | None = None
    exit_withheld: bool = False


class Verdict(Struct, frozen=True, gc=False):
    """Changes of one enrollment; exit is (goal type, exit) where one must be sent, and satisfied_by its event."""

    enrollment: facts.Enrollment
    changes: tuple[Change, ...]
    outcome: Outcome
    exit: tuple[str, facts.Exit] | None
    satisfied_by: facts.Trigger | None
    messages: tuple[messages.Message, ...]


def verdict_of(
    enrollment: facts.Enrollment,
    stored: Sequence[facts.Achievement],
    hits: Iterable[facts.Hit],
    states: Sequence[facts.WorkflowState],
    workflow: goals.Workflow,
    now: datetime,
    reversals: Sequence[facts.Reversal] = (),
    *,
    tracking: bool,
) -> Verdict | None:
    """Judge an enrollment and return the difference from what is stored, None if they agree.

    The hits are those stored for its workflow and contact, then those of the batch; the reversals are those of its
    contact; now is the time of messages that have no other.
    """
    known = evidence.hits_of(enrollment, stored, hits)
    judgement = judging.judge(enrollment, known, workflow, reversals, tracked=tracking)
    changes = _changes(enrollment, judgement, stored, workflow)
    outcome = _outcome(enrollment, judgement, known, states, workflow, reversals, tracking=tracking)
    if not changes and outcome == _stored_outcome(enrollment):
        return None
    command = None if outcome.exit_waits or outcome.exit_withheld else _exit(enrollment, judgement, workflow)
    return Verdict(
        enrollment,
        changes,
        outcome,
        command,
        None if judgement.satisfaction is None else judgement.satisfaction.hit.trigger,
        _messages(enrollment, changes, command, judgement, now),
    )


def _outcome(
    enrollment: facts.Enrollment,
    judgement: judging.Judgement,
    known: Sequence[facts.Hit],
    states: Sequence[facts.WorkflowState],
    workflow: goals.Workflow,
    reversals: Sequence[facts.Reversal],
    *,
    tracking: bool,
) -> Outcome:
    payments = None
    if reversals or judgement.counts:
        unreversed = judging.judge(enrollment, known, workflow, tracked=tracking) if reversals else judgement
        payments = evidence.payments(workflow, judgement, unreversed, reversals)
    if judgement.satisfaction is None:
        return Outcome(None, judgement.converted_at, payments=payments)
    hit = judgement.satisfaction.hit
    may_exit = enrollment.ended_at is None and enrollment.exited_at is None
    return Outcome(
        hit.trigger.time,
        judgement.converted_at,
        may_exit and judging.waits(states, hit.trigger.time),
        evidence.satisfying(judgement),
        payments,
        may_exit and workflow.withholds_exits and _is_withheld(judgement, judgement.satisfaction, workflow),
    )


def _is_withheld(judgement: judging.Judgement, satisfaction: judging.Satisfaction, workflow: goals.Workflow) -> bool:
    """Say whether a backfill withholds the exit: without hits that count through it, nothing was satisfied so far."""
    order, moment = satisfaction.hit.trigger.order, satisfaction.hit.trigger.time
    behind = [
        any(_counts_by_backfill(one, moment, workflow) for one in _hits_behind(judgement, hit))
        for hit in {satisfaction.hit, *judgement.achieved}
        if satisfaction.logic != "any" or hit.trigger.order == order
    ]
    return all(behind) if satisfaction.logic == "any" else any(behind)


def _hits_behind(judgement: judging.Judgement, hit: facts.Hit) -> tuple[facts.Hit, ...]:
    count = judgement.counts.get(hit.goal_id)
    return (hit,) if count is None else (hit, *count.hits)


def _counts_by_backfill(hit: facts.Hit, satisfied_at: datetime, workflow: goals.Workflow) -> bool:
    withheld = goals.withheld_of(workflow.goals_by_id[hit.goal_id], hit.goal_version)
    return withheld is not None and hit.trigger.time < withheld.written_at and satisfied_at < withheld.until


def _stored_outcome(enrollment: facts.Enrollment) -> Outcome:
    return Outcome(
        enrollment.satisfied_at,
        enrollment.converted_at,
        enrollment.exit_waits,
        enrollment.satisfied_by,
        enrollment.payments,
        enrollment.exit_withheld,
    )


def _changes(
    enrollment: facts.Enrollment,
    judgement: judging.Judgement,
    stored: Iterable[facts.Achievement],
    workflow: goals.Workflow,
) -> tuple[Change, ...]:
    """Return the differences between judged and stored achievements, in every field that a message carries."""
    known, changes = workflow.goals_by_id, []
    before = {achievement.goal_id: achievement for achievement in stored}
    for hit in judgement.achieved:
        old, new = before.pop(hit.goal_id, None), _achievement(enrollment, judgement, hit)
        if old is None:
            changes.append(Change("achieved", known[hit.goal_id].goal_type, new))
        elif structs.replace(new, revision=old.revision, others=old.others) != old:
            revised = structs.replace(new, revision=old.revision + 1)
            changes.append(Change("revised", known[hit.goal_id].goal_type, revised))
        elif new.others != old.others:
            changes.append(Change(None, known[hit.goal_id].goal_type, structs.replace(old, others=new.others)))
    for goal_id, old in sorted(before.items()):
        others = _others_of(enrollment, judgement, old)
        if not old.revoked:
            gone = structs.replace(old, revision=old.revision + 1, revoked=True, others=others)
            changes.append(Change("revoked", known[goal_id].goal_type, gone))
        elif others != old.others:
            changes.append(Change(None, known[goal_id].goal_type, structs.replace(old, others=others)))
    return tuple(changes)


def _achievement(enrollment: facts.Enrollment, judgement: judging.Judgement, hit: facts.Hit) -> facts.Achievement:
    count = judgement.counts.get(hit.goal_id)
    if count is None and not judgement.occurrence_of:  # as most have it
        return facts.Achievement(hit.goal_id, hit.goal_version, enrollment.enrolled_at, hit.trigger, 1)
    return facts.Achievement(
        hit.goal_id,
        hit.goal_version,
        enrollment.enrolled_at,
        hit.trigger,
        1,
        False,
        None if count is None else count.counted,
        evidence.others(judgement, (hit,) if count is None else count.hits, hit.trigger),
    )


def _others_of(enrollment: facts.Enrollment, judgement: judging.Judgement, old: facts.Achievement) -> evidence.Others:
    """Return the evidence that an achievement keeps when it is revoked."""
    if not judgement.occurrence_of:
        return old.others
    behind = [(old.goal_version, old.trigger), *old.others]
    hits = [evidence.hit_of(enrollment, old.goal_id, *one) for one in behind]
    return evidence.others(judgement, hits, old.trigger)


def _messages(
    enrollment: facts.Enrollment,
    changes: Iterable[Change],
    command: tuple[str, facts.Exit] | None,
    judgement: judging.Judgement,
    now: datetime,
) -> tuple[messages.Message, ...]:
    sent = [_message(enrollment, change, judgement, now) for change in changes if change.kind is not None]
    if command is not None:
        sent.append(messages.exit_goal(enrollment, *command))
    return tuple(sent)


def _message(
    enrollment: facts.Enrollment, change: Change, judgement: judging.Judgement, now: datetime
) -> messages.Message:
    if change.kind != "revoked":
        return messages.achieved(enrollment, change.goal_type, change.achievement)
    reason = _reason_revoked(change.achievement, enrollment, judgement)
    return messages.revoked(enrollment, change.goal_type, change.achievement, reason, now)


def _reason_revoked(achievement: facts.Achievement, enrollment: facts.Enrollment, judgement: judging.Judgement) -> str:
    """Return the reason why an achievement is revoked (contract section 4, goal-achieved)."""
    if enrollment.ended_at is not None and achievement.trigger.time >= enrollment.ended_at:
        return "after_end"
    triggers = [achievement.trigger]
    if achievement.counted is not None:
        triggers += [trigger for _, trigger in achievement.others]
    undone = any((achievement.goal_id.int, trigger.source, trigger.id) in judgement.undone for trigger in triggers)
    return "reversed" if undone else "superseded"


def _exit(
    enrollment: facts.Enrollment, judgement: judging.Judgement, workflow: goals.Workflow
) -> tuple[str, facts.Exit] | None:
    """Return goal type and exit of a satisfied enrollment without a recorded end and without an exit (rule 3.4)."""
    if judgement.satisfaction is None or enrollment.ended_at is not None or enrollment.exited_at is not None:
        return None
    completing = judgement.satisfaction.hit
    command = facts.Exit(
        completing.goal_id,
        judgement.satisfaction.logic,
        completing.trigger.time,
        tuple(hit.goal_id for hit in judgement.achieved),
        completing.trigger.traceparent,
        completing.trigger.tracestate,
    )
    return workflow.goals_by_id[completing.goal_id].goal_type, command
