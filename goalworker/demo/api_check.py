"""The API of the demo: a key for it, and whether it says what the traffic must have come to."""

from collections import Counter
from typing import Final

import httpx

from goalworker import database, key_store
from goalworker.demo import check, plans, stage
from goalworker.embedded import machine

USUAL_PORT: Final = 8080
_TIMEOUT_SECONDS: Final = 30.0


def url() -> str:
    """Return where the demo's API will be: on its usual port, unless somebody else has that."""
    return f"http://{machine.LOOPBACK}:{machine.free_port(USUAL_PORT)}"


async def make_key(database_url: str, tenant_id: str) -> str:
    """Make a key that may do everything for one tenant."""
    pool = database.engine(database_url, pool_size=1, statement_timeout_seconds=30, application="goalworker-demo")
    try:
        key, _ = await key_store.create(pool, tenant_id, "demo", key_store.SCOPES)
    finally:
        await pool.dispose()
    return key


async def compare(base_url: str, key: str, tenant_id: str, expected: plans.Outcome) -> list[check.Row]:
    """Return lines of the table: a tenant's achievements and exits as the numbers of its workflows have them."""
    achieved = Counter(each.goal_id for each in expected.achieved if each.tenant_id == tenant_id)
    exits = sum(1 for each in expected.exited if each.tenant_id == tenant_id)
    found: Counter[str] = Counter()
    found_exits = 0
    async with httpx.AsyncClient(base_url=base_url, headers={"x-api-key": key}, timeout=_TIMEOUT_SECONDS) as client:
        for workflow_id in sorted({goal.workflow_id for goal in stage.GOALS}):
            answer = await client.get(f"/api/v1/workflows/{workflow_id}/goals/stats")
            stats = answer.raise_for_status().json()
            found.update({goal["goal_id"]: goal["achieved"] for goal in stats["by_goal"]})
            found_exits += stats["exits_sent"]
    return [
        check.row(
            f"achievements of {tenant_id} by the API",
            [str(goal_id) for goal_id in achieved.elements()],
            list(found.elements()),
        ),
        check.Row(f"exits of {tenant_id} by the API", exits, found_exits),
    ]
