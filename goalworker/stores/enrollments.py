"""Enrollments as people ask for them and hand them in (contract section 5)."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import events, facts, messages
from goalworker.postgres import connections, tables


class ConflictingEnrollmentError(errors.GoalworkerError):
    """Enrollment ids are known, or given twice, with another workflow or contact; nothing was recorded."""

    def __init__(self, enrollment_ids: Collection[str]) -> None:
        super().__init__(f"{len(enrollment_ids)} enrollment ids are known with another workflow or contact")
        self.enrollment_ids = frozenset(enrollment_ids)


class StoredEnrollment(Struct, frozen=True):
    """What is known of one enrollment, in the contract's fields and their order; revoked achievements are left out."""

    status: str
    workflow_id: str
    contact_id: str
    enrolled_at: datetime | None
    ended_at: datetime | None
    achievements: list[messages.Achieved]
    exit: messages.ExitGoal | None


async def find(pool: sa_async.AsyncEngine, tenant_id: str, enrollment_id: str) -> StoredEnrollment | None:
    """Return what is known of an enrollment, None where that is nothing."""
    async with connections.tenant_transaction(pool, tenant_id, "enrollments_read") as connection:
        query = _WHOLE.where(_RUNS.tenant_id == tenant_id, _RUNS.enrollment_id == enrollment_id)
        rows = (await connection.execute(query)).all()
    return _known(tenant_id, enrollment_id, rows) if rows else None


async def add(pool: sa_async.AsyncEngine, tenant_id: str, workflow_id: str, runs: Sequence[facts.Enrollment]) -> None:
    """Write the lifecycle messages that runs of one workflow stand for into the outbox; ConflictingEnrollmentError."""
    contacts = {run.enrollment_id: run.contact_id for run in reversed(runs)}
    conflicts = {run.enrollment_id for run in runs if contacts[run.enrollment_id] != run.contact_id}
    async with connections.tenant_transaction(pool, tenant_id, "enrollments_write") as connection:
        known = await connection.execute(_WHOSE, {"tenant_id": tenant_id, "enrollment_ids": sorted(contacts)})
        conflicts |= {
            enrollment_id
            for enrollment_id, of_workflow, of_contact in known
            if (of_workflow, of_contact) != (workflow_id, contacts[enrollment_id])
        }
        if conflicts:
            raise ConflictingEnrollmentError(conflicts)
        rows = [
            {"topic": message.topic, "key": message.key, "value": message.value}
            for message in dict.fromkeys(_messages(runs))
        ]
        if rows:
            await connection.execute(sa.insert(tables.outbox).inline(), rows)  # may not read what it wrote


def _messages(runs: Iterable[facts.Enrollment]) -> Iterable[messages.Message]:
    for run in runs:
        if run.enrolled_at is not None:
            yield messages.lifecycle(events.ENROLLMENT_STARTED, run, run.enrolled_at)
        if run.ended_at is not None:
            yield messages.lifecycle(events.ENROLLMENT_ENDED, run, run.ended_at)


_WHOSE: Final = sa.text(
    "SELECT enrollment_id, workflow_id, contact_id FROM enrollments"
    " WHERE tenant_id = :tenant_id AND enrollment_id = ANY(CAST(:enrollment_ids AS text[]))"
)

_RUNS: Final = tables.enrollments.c
_ACHIEVED: Final = tables.achievements.c
_EXITS: Final = tables.exits.c

# In one statement, so that nothing changes between its parts: a row for each achievement, or one with none.
_WHOLE: Final = (
    sa.select(
        _RUNS.workflow_id,
        _RUNS.contact_id,
        _RUNS.enrolled_at,
        _RUNS.ended_at,
        _RUNS.satisfied_at,
        _ACHIEVED.goal_id,
        _ACHIEVED.goal_version,
        _ACHIEVED.goal_type,
        _ACHIEVED.enrolled_at.label("achieved_enrolled_at"),
        _ACHIEVED.achieved_at,
        _ACHIEVED.event_source,
        _ACHIEVED.event_id,
        sa.cast(_ACHIEVED.data, sa.Text).label("data"),
        _ACHIEVED.revision,
        _EXITS.goal_id.label("exit_goal_id"),
        _EXITS.goal_type.label("exit_goal_type"),
        _EXITS.logic,
        _EXITS.achieved_at.label("exit_achieved_at"),
        _EXITS.goal_ids,
    )
    .select_from(
        tables.enrollments.outerjoin(
            tables.achievements,
            (_ACHIEVED.tenant_id == _RUNS.tenant_id)
            & (_ACHIEVED.enrollment_id == _RUNS.enrollment_id)
            & _ACHIEVED.revoked_at.is_(None),
        ).outerjoin(tables.exits, (_EXITS.tenant_id == _RUNS.tenant_id) & (_EXITS.enrollment_id == _RUNS.enrollment_id))
    )
    .order_by(_ACHIEVED.achieved_at, _ACHIEVED.goal_id)
)


def _known(tenant_id: str, enrollment_id: str, rows: Sequence[sa.Row[*tuple[Any, ...]]]) -> StoredEnrollment:
    first = rows[0]
    run = facts.Enrollment(tenant_id, enrollment_id, first.workflow_id, first.contact_id, first.enrolled_at)
    return StoredEnrollment(
        _status(first.satisfied_at, first.ended_at),
        first.workflow_id,
        first.contact_id,
        first.enrolled_at,
        first.ended_at,
        [_achievement(run, row) for row in rows if row.goal_id is not None],
        _exit(run, first) if first.exit_goal_id is not None else None,
    )


def _status(satisfied_at: datetime | None, ended_at: datetime | None) -> str:
    if satisfied_at is not None:
        return "completed_goal"
    return "active" if ended_at is None else "ended"


def _achievement(run: facts.Enrollment, row: sa.Row[*tuple[Any, ...]]) -> messages.Achieved:
    trigger = facts.Trigger(row.event_source, row.event_id, row.achieved_at, row.data.encode())
    achieved = facts.Achievement(row.goal_id, row.goal_version, row.achieved_enrolled_at, trigger, row.revision)
    return messages.achievement_data(run, row.goal_type, achieved)


def _exit(run: facts.Enrollment, row: sa.Row[*tuple[Any, ...]]) -> messages.ExitGoal:
    command = facts.Exit(row.exit_goal_id, row.logic, row.exit_achieved_at, tuple(row.goal_ids))
    return messages.exit_data(run, row.exit_goal_type, command)
