"""Verdicts: the changes to write and the messages to send when a judgement differs from the stored one (rule 3.5)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct, structs

from goalworker.domain import facts, goals, judging, messages


class Change(Struct, frozen=True, gc=False):
    """One achievement to store; kind is `achieved`, `revised` or `revoked`, as the metrics count it."""

    kind: str
    goal_type: str
    achievement: facts.Achievement


class Verdict(Struct, frozen=True, gc=False):
    """Changes of one enrollment; exit is (goal type, exit) where one must be sent, and satisfied_by its event."""

    enrollment: facts.Enrollment
    changes: tuple[Change, ...]
    satisfied_at: datetime | None
    converted_at: datetime | None
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
    *,
    tracking: bool,
) -> Verdict | None:
    """Judge an enrollment and return the difference from what is stored, None if they agree.

    The hits are those stored for its workflow and contact, then those of the batch; now is the time of messages that
    have no other.
    """
    judgement = judging.judge(enrollment, _evidence(enrollment, stored, hits), states, workflow, tracked=tracking)
    goal_types = {goal.goal_id: goal.goal_type for goal in workflow.goals}
    changes = _changes(enrollment, judgement, stored, goal_types)
    command = _exit(enrollment, judgement, goal_types)
    satisfied_by = None if judgement.satisfaction is None else judgement.satisfaction.hit.trigger
    satisfied_at = None if satisfied_by is None else satisfied_by.time
    if not changes and (satisfied_at, judgement.converted_at) == (enrollment.satisfied_at, enrollment.converted_at):
        return None
    return Verdict(
        enrollment,
        changes,
        satisfied_at,
        judgement.converted_at,
        command,
        satisfied_by,
        _messages(enrollment, changes, command, states, now),
    )


def _evidence(
    enrollment: facts.Enrollment, stored: Iterable[facts.Achievement], hits: Iterable[facts.Hit]
) -> Iterable[facts.Hit]:
    """Return each event once per goal, from its achievement if it has one, else from the first hit in this order."""
    evidence: dict[tuple[UUID, str, str], facts.Hit] = {}
    for achievement in stored:  # revoked ones too, so that a sweep of old hits never revokes an achievement
        hit = facts.Hit(
            enrollment.tenant_id,
            enrollment.workflow_id,
            enrollment.contact_id,
            achievement.goal_id,
            achievement.goal_version,
            achievement.trigger,
        )
        evidence[hit.goal_id, hit.trigger.source, hit.trigger.id] = hit
    for hit in hits:
        trigger = hit.trigger
        evidence.setdefault((hit.goal_id, trigger.source, trigger.id), hit)
    return evidence.values()


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
        new = facts.Achievement(hit.goal_id, hit.goal_version, enrollment.enrolled_at, hit.trigger, 1)
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
    states: Sequence[facts.WorkflowState],
    now: datetime,
) -> tuple[messages.Message, ...]:
    sent = [_message(enrollment, change, states, now) for change in changes]
    if command is not None:
        sent.append(messages.exit_goal(enrollment, *command))
    return tuple(sent)


def _message(
    enrollment: facts.Enrollment, change: Change, states: Sequence[facts.WorkflowState], now: datetime
) -> messages.Message:
    if change.kind != "revoked":
        return messages.achieved(enrollment, change.goal_type, change.achievement)
    reason = judging.reason_revoked(change.achievement.trigger, enrollment, states)
    return messages.revoked(enrollment, change.goal_type, change.achievement, reason, now)


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
