"""Achievements and exits of some tenants as they are recorded, for the live feed (contract section 9)."""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import facts, messages
from goalworker.postgres import connections, tables
from goalworker.stores.achievements import achievement_from_row

ACHIEVEMENT: Final = "achievement"
EXIT: Final = "exit"

# The index of effects is by time alone. From the newest on, a look back meets the effects of all tenants until it has
# enough: the next one goes six times as far, if this one took so little time that six times as much is bearable.
_FIRST_LOOK: Final = timedelta(minutes=10)
_FARTHEST_LOOK: Final = timedelta(days=30)
_WIDENED: Final = 6
_LOOK_SECONDS: Final = 0.015


class Effect(msgspec.Struct, frozen=True):
    """An achievement or an exit of a tenant, and when it was recorded."""

    tenant_id: str
    kind: str
    recorded_at: datetime
    data: messages.Achieved | messages.ExitGoal

    @property
    def key(self) -> tuple[str, object]:
        """Kind and id, which no other effect has."""
        return self.kind, self.data.exit_id if isinstance(self.data, messages.ExitGoal) else self.data.achievement_id


class Recent(msgspec.Struct, frozen=True):
    """Effects in the order of their recording, and a moment before which nothing else is recorded but what is late."""

    now: datetime
    effects: tuple[Effect, ...] = ()


class RecordedEffects:
    """The effects that a database records."""

    def __init__(self, pool: sa_async.AsyncEngine) -> None:
        self._pool = pool

    async def now(self) -> datetime:
        """Return the time by which effects are recorded."""
        return await connections.now(self._pool)

    async def read(self, tenant_ids: Collection[str], since: datetime, most: int) -> Recent:
        """Return the effects of tenants that were recorded after a time: of each and of each kind the newest."""
        async with connections.transaction(self._pool, tables.API_ROLE, "feed") as connection:
            until = await connection.fetchval("SELECT clock_timestamp()")
            rows = await connection.fetch(_RECENT, sorted(tenant_ids), since, most)
        return Recent(until, tuple([_of_row(row) for row in rows]))

    async def latest(self, tenant_id: str, most: int) -> Recent:
        """Return the newest effects of a tenant, from as far back as can be looked at in little time."""
        loop = asyncio.get_running_loop()
        back = _FIRST_LOOK
        async with connections.tenant_transaction(self._pool, tenant_id, "feed") as connection:
            now: datetime = (await connection.execute(_NOW)).scalar_one()
            await connection.execute(IN_ORDER)
            while True:
                began = loop.time()
                values = {"tenant_id": tenant_id, "since": now - back, "most": most}
                rows = (await connection.execute(LATEST, values)).mappings().all()
                if len(rows) >= most or back > _FARTHEST_LOOK or loop.time() - began > _LOOK_SECONDS:
                    return Recent(now, tuple([_of_row(row) for row in rows[-most:]]))
                back *= _WIDENED


_RECENT: Final = (
    "SELECT * FROM goalworker_recent_effects($1, $2, $3) ORDER BY recorded_at, kind, enrollment_id, goal_id"
)

_NOW: Final = sa.text("SELECT clock_timestamp()")
# Without sorts, the newest rows come from the end of the index by time, whatever the planner knows of the table.
IN_ORDER: Final = sa.text("SET LOCAL enable_sort = off")
LATEST: Final = sa.text(
    """
SELECT * FROM (
    (
        SELECT 'achievement' AS kind, recorded_at, tenant_id, enrollment_id, workflow_id, contact_id, goal_id,
            goal_version, goal_type, enrolled_at, achieved_at, event_source, event_id, data::text AS data, revision,
            counted, NULL AS logic, NULL::uuid[] AS goal_ids
        FROM achievements
        WHERE recorded_at > :since AND tenant_id = :tenant_id AND revoked_at IS NULL
        ORDER BY recorded_at DESC LIMIT :most
    ) UNION ALL (
        SELECT 'exit', created_at, tenant_id, enrollment_id, workflow_id, contact_id, goal_id, NULL, goal_type, NULL,
            achieved_at, NULL, NULL, NULL, NULL, NULL, logic, goal_ids
        FROM exits
        WHERE created_at > :since AND tenant_id = :tenant_id
        ORDER BY created_at DESC LIMIT :most
    )
) AS effect
ORDER BY recorded_at, kind, enrollment_id, goal_id
"""
)


def _of_row(row: Any) -> Effect:
    enrollment = facts.Enrollment(row["tenant_id"], row["enrollment_id"], row["workflow_id"], row["contact_id"])
    is_achievement = row["kind"] == ACHIEVEMENT
    data = achievement_from_row(enrollment, SimpleNamespace(**row)) if is_achievement else _exit(enrollment, row)
    return Effect(row["tenant_id"], row["kind"], row["recorded_at"], data)


def _exit(enrollment: facts.Enrollment, row: Any) -> messages.ExitGoal:
    command = facts.Exit(row["goal_id"], row["logic"], row["achieved_at"], tuple(row["goal_ids"]))
    return messages.exit_data(enrollment, row["goal_type"], command)
