"""Verdicts: the changes to write and the messages to send when a judgement differs from the stored one (rule 3.5)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct, structs

from goalworker.domain import evidence, facts, goals, judging, messages


class Change(Struct, frozen=True, gc=False):
    """One achievement to store; kind is `achieved`, `revised` or `revoked`, as the metrics count it."""

    kind: str
    goal_type: str
    achievement: facts.Achievement


class Outcome(Struct, frozen=True, gc=False):
    """What is stored with an enrollment: the fields of facts.Enrollment that judgements fill in, but for the exit."""

    satisfied_at: datetime | None = None
    converted_at: datetime | None = None
    exit_waits: bool = False
    satisfied_by: str | None = None
    payments: str | None = None


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
    goal_types = {goal_id: goal.goal_type for goal_id, goal in workflow.goals_by_id.items()}
    changes = _changes(enrollment, judgement, stored, goal_types)
    outcome = _outcome(enrollment, judgement, known, states, workflow, reversals, tracking=tracking)
    if not changes and outcome == _stored_outcome(enrollment):
        return None
    command = None if outcome.exit_waits else _exit(enrollment, judgement, goal_types)
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
    if reversals or judgement.counted:
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
        None if hit in judgement.achieved else evidence.satisfying(hit),
        payments,
    )


def _stored_outcome(enrollment: facts.Enrollment) -> Outcome:
    return Outcome(
        enrollment.satisfied_at,
        enrollment.converted_at,
        enrollment.exit_waits,
        enrollment.satisfied_by,
        enrollment.payments,
    )


def _changes(
    enrollment: facts.Enrollment,
    judgement: judging.Judgement,
    stored: Iterable[facts.Achievement],
    goal_types: Mapping[UUID, str],
) -> tuple[Change, ...]:
    """Return the differences between judged and stored achievements, in every field that a message carries."""
    before = {achievement.goal_id: achievement for achievement in stored}
    changes = []
    for hit in judgement.achieved:
        old = before.pop(hit.goal_id, None)
        counted = judgement.counted.get(hit.goal_id)
        new = facts.Achievement(hit.goal_id, hit.goal_version, enrollment.enrolled_at, hit.trigger, 1, False, counted)
        if old is not None and structs.replace(new, revision=old.revision) == old:
            continue
        if old is not None:
            new = structs.replace(new, revision=old.revision + 1)
        changes.append(Change("achieved" if old is None else "revised", goal_types[hit.goal_id], new))
    for goal_id, old in sorted(before.items()):
        if not old.revoked:
            gone = structs.replace(old, revision=old.revision + 1, revoked=True)
            changes.append(Change("revoked", goal_types[goal_id], gone))
    return tuple(changes)


def _messages(
    enrollment: facts.Enrollment,
    changes: Iterable[Change],
    command: tuple[str, facts.Exit] | None,
    judgement: judging.Judgement,
    now: datetime,
) -> tuple[messages.Message, ...]:
    sent = [_message(enrollment, change, judgement, now) for change in changes]
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
        triggers = [trigger for _, trigger in achievement.counted.hits]
    undone = any((achievement.goal_id, trigger.source, trigger.id) in judgement.undone for trigger in triggers)
    return "reversed" if undone else "superseded"


def _exit(
    enrollment: facts.Enrollment, judgement: judging.Judgement, goal_types: Mapping[UUID, str]
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
    return goal_types[completing.goal_id], command
