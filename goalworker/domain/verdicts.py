"""What is stored and what is judged: what is to be written and said so that the two agree (contract rule 3.5)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct, structs

from goalworker.domain import facts, goals, judging, messages


class Change(Struct, frozen=True, gc=False):
    """One achievement as it is to be stored; kind is what counts it: achieved, revised or revoked."""

    kind: str
    goal_type: str
    achievement: facts.Achievement


class Verdict(Struct, frozen=True, gc=False):
    """What is new about one enrollment; exit is (goal type, exit) where one is to be sent, satisfied_by its event."""

    enrollment: facts.Enrollment
    changes: tuple[Change, ...]
    satisfied_at: datetime | None
    converted_at: datetime | None
    exit: tuple[str, facts.Exit] | None
    satisfied_by: facts.Trigger | None
    messages: tuple[messages.Message, ...]


def verdict_of(
    run: facts.Enrollment,
    stored: Sequence[facts.Achievement],
    hits: Iterable[facts.Hit],
    states: Sequence[facts.WorkflowState],
    workflow: goals.Workflow,
    now: datetime,
    *,
    tracking: bool,
) -> Verdict | None:
    """Judge an enrollment and return how that differs from what is stored, None where it doesn't.

    The hits are those stored for its workflow and contact, then the batch's own; now is the moment of writing.
    """
    judgement = judging.judge(run, _evidence(run, stored, hits), states, workflow, tracked=tracking)
    goal_types = {goal.goal_id: goal.goal_type for goal in workflow.goals}
    changes = _changes(run, judgement, stored, goal_types)
    command = _exit(run, judgement, goal_types)
    satisfied_by = None if judgement.satisfaction is None else judgement.satisfaction.hit.trigger
    satisfied_at = None if satisfied_by is None else satisfied_by.time
    if not changes and (satisfied_at, judgement.converted_at) == (run.satisfied_at, run.converted_at):
        return None
    return Verdict(
        run,
        changes,
        satisfied_at,
        judgement.converted_at,
        command,
        satisfied_by,
        _messages(run, changes, command, states, now),
    )


def _evidence(
    run: facts.Enrollment, stored: Iterable[facts.Achievement], hits: Iterable[facts.Hit]
) -> Iterable[facts.Hit]:
    """Return each event once a goal: as an achievement has it, else as first recorded, else as the batch has it."""
    evidence: dict[tuple[UUID, str, str], facts.Hit] = {}
    for achievement in stored:  # revoked ones too, so that sweeping old hits never takes back an achievement
        hit = facts.Hit(
            run.tenant_id,
            run.workflow_id,
            run.contact_id,
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
    run: facts.Enrollment,
    judgement: judging.Judgement,
    stored: Iterable[facts.Achievement],
    goal_types: Mapping[UUID, str],
) -> tuple[Change, ...]:
    """Return the difference between what is judged and what is stored, in everything that a message carries."""
    before = {achievement.goal_id: achievement for achievement in stored}
    changes = []
    for hit in judgement.achieved:
        old = before.pop(hit.goal_id, None)
        new = facts.Achievement(hit.goal_id, hit.goal_version, run.enrolled_at, hit.trigger, 1)
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
    run: facts.Enrollment,
    changes: Iterable[Change],
    command: tuple[str, facts.Exit] | None,
    states: Sequence[facts.WorkflowState],
    now: datetime,
) -> tuple[messages.Message, ...]:
    said = [_message(run, change, states, now) for change in changes]
    if command is not None:
        said.append(messages.exit_goal(run, *command))
    return tuple(said)


def _message(
    run: facts.Enrollment, change: Change, states: Sequence[facts.WorkflowState], now: datetime
) -> messages.Message:
    if change.kind != "revoked":
        return messages.achieved(run, change.goal_type, change.achievement)
    reason = judging.reason_revoked(change.achievement.trigger, run, states)
    return messages.revoked(run, change.goal_type, change.achievement, reason, now)


def _exit(
    run: facts.Enrollment, judgement: judging.Judgement, goal_types: Mapping[UUID, str]
) -> tuple[str, facts.Exit] | None:
    """Return goal type and exit where the enrollment is satisfied, no end is recorded, and none was sent (rule 3.4)."""
    if judgement.satisfaction is None or run.ended_at is not None or run.exited_at is not None:
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
