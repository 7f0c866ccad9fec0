"""Enrollments: reading one, and importing those that began earlier (contract section 5)."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import events, facts, messages
from goalworker.postgres import cell_tables, connections, tables
from goalworker.stores.achievements import achievement_from_row


class ConflictingEnrollmentError(errors.GoalworkerError):
    """Some enrollment ids belong to another workflow or contact already; nothing was recorded."""

    def __init__(self, enrollment_ids: Collection[str]) -> None:
        super().__init__(f"{len(enrollment_ids)} enrollment ids belong to another workflow or contact already")
        self.enrollment_ids = frozenset(enrollment_ids)


class StoredEnrollment(Struct, frozen=True):
    """`enrollment` of contract section 5: the fields and their order; without revoked achievements."""

    status: str
    workflow_id: str
    contact_id: str
    enrolled_at: datetime | None
    ended_at: datetime | None
    achievements: list[messages.Achieved]
    exit: messages.ExitGoal | None
    fresh_as_of: datetime | None


class UnknownEnrollment(Struct, frozen=True):
    """An enrollment that is unknown, by a time that is None if no worker has ever judged all partitions."""

    fresh_as_of: datetime | None


async def find(pool: sa_async.AsyncEngine, tenant_id: str, enrollment_id: str) -> StoredEnrollment | UnknownEnrollment:
    """Return an enrollment with its achievements and its exit."""
    key = {"tenant_id": tenant_id, "enrollment_id": enrollment_id}
    async with connections.tenant_transaction(pool, tenant_id, "enrollments_read") as connection:
        rows = (await connection.execute(_ENROLLMENT, key)).all()
    if rows[0].workflow_id is None:
        return UnknownEnrollment(rows[0].fresh_as_of)
    return _stored_enrollment(tenant_id, enrollment_id, rows)


async def fresh_as_of(connection: sa_async.AsyncConnection) -> datetime | None:
    """Return the time until which every record that reached Kafka has been judged, None if no worker ever ran."""
    time: datetime | None = (await connection.execute(sa.select(_FRESHNESS.c.fresh_as_of))).scalar_one()
    return time


class WaitingExits(Struct, frozen=True):
    """Exits of one workflow that wait for its activation, with the time of its last deactivation."""

    tenant_id: str
    workflow_id: str
    exits: int
    deactivated_at: datetime


async def waiting_exits(connection: connections.Connection) -> list[WaitingExits]:
    """Return the workflows of all tenants whose exits wait for an activation, those with most of them first."""
    return [WaitingExits(**row) for row in await connection.fetch(_WAITING_EXITS)]


async def count_waiting_exits(pool: sa_async.AsyncEngine) -> int:
    """Return how many exits wait for an activation of their workflow, of all tenants."""
    async with connections.transaction(pool, tables.WORKER_ROLE, "sweep") as connection:
        return int(await connection.fetchval("SELECT count(*) FROM enrollments WHERE exit_waits"))


async def add(
    pool: sa_async.AsyncEngine, tenant_id: str, workflow_id: str, imported: Sequence[facts.Enrollment]
) -> None:
    """Write the lifecycle messages of one workflow's enrollments into the outbox; ConflictingEnrollmentError."""
    contacts = {enrollment.enrollment_id: enrollment.contact_id for enrollment in reversed(imported)}
    conflicts = {
        enrollment.enrollment_id
        for enrollment in imported
        if contacts[enrollment.enrollment_id] != enrollment.contact_id
    }
    async with connections.tenant_transaction(pool, tenant_id, "enrollments_write") as connection:
        stored = await connection.execute(_OWNERS, {"tenant_id": tenant_id, "enrollment_ids": sorted(contacts)})
        conflicts |= {
            row.enrollment_id
            for row in stored
            if (row.workflow_id, row.contact_id) != (workflow_id, contacts[row.enrollment_id])
        }
        if conflicts:
            raise ConflictingEnrollmentError(conflicts)
        rows = [
            {"topic": message.topic, "key": message.key, "value": message.value}
            for message in dict.fromkeys(_lifecycle_messages(imported))
        ]
        if rows:
            await connection.execute(sa.insert(tables.outbox).inline(), rows)  # this role must not read the outbox


def _lifecycle_messages(imported: Iterable[facts.Enrollment]) -> Iterable[messages.Message]:
    for enrollment in imported:
        if enrollment.enrolled_at is not None:
            yield messages.lifecycle(events.ENROLLMENT_STARTED, enrollment, enrollment.enrolled_at)
        if enrollment.ended_at is not None:
            yield messages.lifecycle(events.ENROLLMENT_ENDED, enrollment, enrollment.ended_at)


# A workflow is inactive by the last of its states, so that its last deactivation is since when exits wait.
_WAITING_EXITS: Final = """
SELECT tenant_id, workflow_id, count(*) AS exits,
       (SELECT max(since) FROM workflow_states AS state
        WHERE NOT active AND (state.tenant_id, state.workflow_id) = (waiting.tenant_id, waiting.workflow_id))
       AS deactivated_at
FROM enrollments AS waiting
WHERE exit_waits
GROUP BY 1, 2
ORDER BY 3 DESC, 1, 2
"""
_OWNERS: Final = sa.text(
    "SELECT enrollment_id, workflow_id, contact_id FROM enrollments"
    " WHERE tenant_id = :tenant_id AND enrollment_id = ANY(CAST(:enrollment_ids AS text[]))"
)

_ENROLLMENTS: Final = tables.enrollments.c
_ACHIEVED: Final = tables.achievements.c
_EXITS: Final = tables.exits.c
_JUDGED_UNTIL: Final = tables.progress.c.judged_until

# A tenant that has come from another cell, and whose events of the meantime are not all judged yet.
_MOVED: Final = cell_tables.moved_tenants.c
_IS_BEHIND: Final = sa.exists().where(
    _MOVED.tenant_id == sa.func.current_setting(tables.TENANT_SETTING, True), _MOVED.replay_from.is_not(None)
)
# The least time of all partitions, null where one of them lacks a time.
_FRESHNESS: Final = sa.select(
    sa.case((sa.func.bool_and(_JUDGED_UNTIL.is_not(None)) & ~_IS_BEHIND, sa.func.min(_JUDGED_UNTIL))).label(
        "fresh_as_of"
    )
).subquery("freshness")

# One statement sees one state of all these tables: read later, the progress could be ahead of the enrollment. The
# result has a row per achievement, or a single one without.
_ENROLLMENT: Final = (
    sa.select(
        _FRESHNESS.c.fresh_as_of,
        _ENROLLMENTS.workflow_id,
        _ENROLLMENTS.contact_id,
        _ENROLLMENTS.enrolled_at.label("started_at"),
        _ENROLLMENTS.ended_at,
        _ENROLLMENTS.satisfied_at,
        _ACHIEVED.goal_id,
        _ACHIEVED.goal_version,
        _ACHIEVED.goal_type,
        _ACHIEVED.enrolled_at,
        _ACHIEVED.achieved_at,
        _ACHIEVED.event_source,
        _ACHIEVED.event_id,
        sa.cast(_ACHIEVED.data, sa.Text).label("data"),
        _ACHIEVED.revision,
        _ACHIEVED.counted,
        _EXITS.goal_id.label("exit_goal_id"),
        _EXITS.goal_type.label("exit_goal_type"),
        _EXITS.logic,
        _EXITS.achieved_at.label("exit_achieved_at"),
        _EXITS.goal_ids,
    )
    .select_from(
        _FRESHNESS.outerjoin(
            tables.enrollments,
            (_ENROLLMENTS.tenant_id == sa.bindparam("tenant_id"))
            & (_ENROLLMENTS.enrollment_id == sa.bindparam("enrollment_id")),
        )
        .outerjoin(
            tables.achievements,
            (_ACHIEVED.tenant_id == _ENROLLMENTS.tenant_id)
            & (_ACHIEVED.enrollment_id == _ENROLLMENTS.enrollment_id)
            & _ACHIEVED.revoked_at.is_(None),
        )
        .outerjoin(
            tables.exits,
            (_EXITS.tenant_id == _ENROLLMENTS.tenant_id) & (_EXITS.enrollment_id == _ENROLLMENTS.enrollment_id),
        )
    )
    .order_by(_ACHIEVED.achieved_at, _ACHIEVED.goal_id)
)


def _stored_enrollment(
    tenant_id: str, enrollment_id: str, rows: Sequence[sa.Row[*tuple[Any, ...]]]
) -> StoredEnrollment:
    first = rows[0]
    enrollment = facts.Enrollment(tenant_id, enrollment_id, first.workflow_id, first.contact_id)
    return StoredEnrollment(
        _status(first),
        first.workflow_id,
        first.contact_id,
        first.started_at,
        first.ended_at,
        [achievement_from_row(enrollment, row) for row in rows if row.goal_id is not None],
        _exit(enrollment, first) if first.exit_goal_id is not None else None,
        first.fresh_as_of,
    )


def _status(row: sa.Row[*tuple[Any, ...]]) -> str:
    # An exit stands, also where what it was sent for is revoked later.
    if row.satisfied_at is not None or row.exit_goal_id is not None:
        return "completed_goal"
    return "active" if row.ended_at is None else "ended"


def _exit(enrollment: facts.Enrollment, row: sa.Row[*tuple[Any, ...]]) -> messages.ExitGoal:
    command = facts.Exit(row.exit_goal_id, row.logic, row.exit_achieved_at, tuple(row.goal_ids))
    return messages.exit_data(enrollment, row.exit_goal_type, command)
