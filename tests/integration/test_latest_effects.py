"""The newest achievements and exits of a tenant are read from the end of the index by time."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections
from goalworker.stores import recent_effects

_ACHIEVED = """
INSERT INTO achievements (tenant_id, enrollment_id, goal_id, workflow_id, contact_id, goal_version, goal_type,
    enrolled_at, achieved_at, event_source, event_id, data, revision, recorded_at)
SELECT $1, 'e' || n, gen_random_uuid(), 'w', 'c-' || n, 1, 'tag_added', now(), now(), '/s', 'evt-' || n,
    '{"contact_id": "c", "tag_id": "t"}', 1, now() - n * interval '10 milliseconds'
FROM generate_series(1, $2::integer) AS n
"""
MOST = 3


@pytest.fixture
async def busy(administrator: connections.Connection) -> None:
    """Thousands of achievements of two tenants within the first look, in tables that nobody analyzed."""
    for tenant_id in ("acme", "globex"):
        await administrator.execute(_ACHIEVED, tenant_id, 5_000)


@pytest.mark.usefixtures("busy")
async def test_the_newest_effects_of_a_tenant_are_shown_oldest_first(pool: sa_async.AsyncEngine) -> None:
    found = await recent_effects.RecordedEffects(pool).latest("acme", MOST)
    assert [effect.data.contact_id for effect in found.effects] == ["c-3", "c-2", "c-1"]
    assert {effect.tenant_id for effect in found.effects} == {"acme"}


@pytest.mark.usefixtures("busy")
async def test_only_effects_as_new_as_the_shown_ones_are_read(pool: sa_async.AsyncEngine) -> None:
    async with connections.tenant_transaction(pool, "acme", "feed") as connection:
        await connection.execute(recent_effects.IN_ORDER)
        explain = sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) {recent_effects.LATEST.text}")
        since = (await connection.execute(sa.text("SELECT now() - interval '10 minutes'"))).scalar_one()
        values = {"tenant_id": "acme", "since": since, "most": MOST}
        explained: Any = (await connection.execute(explain, values)).scalar_one()
    scans = _nodes((explained if isinstance(explained, list) else json.loads(explained))[0]["Plan"])
    indexes = {node["Index Name"]: node["Actual Rows"] for node in scans if "Index Name" in node}
    assert indexes == {"achievements_by_recorded_at": MOST, "exits_by_created_at": 0}
    # Of the other tenant, those that came meanwhile.
    assert sum(node.get("Rows Removed by Filter", 0) for node in scans) < 1_000


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", ()) for node in _nodes(part))]
