"""The demo's API: a key for it, and a check of its statistics against the expected outcome."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import httpx

from goalworker.demo import check, console_check, plans, tenant_setup
from goalworker.embedded import machine
from goalworker.stores import api_keys

USUAL_PORT: Final = 8080
_TIMEOUT_SECONDS: Final = 30.0
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WORKFLOW_OF_GOAL: Final = {goal.key: goal.workflow_id for goal in tenant_setup.GOALS}

SharedWorkflows = Callable[[], Awaitable[Collection[str]]]


class Access(NamedTuple):
    """The address of the API, a key for it, and a link that logs the holder of the key in to the console, once."""

    url: str
    key: str
    holder: api_keys.StoredKey
    link: str


async def prepare(database_url: str, tenant_id: str) -> Access:
    """Choose the API's port, 8080 if it is free, and create a key with every scope of one tenant."""
    url = f"http://{machine.LOOPBACK}:{machine.free_port(USUAL_PORT)}"
    async with console_check.connect(database_url) as pool:
        key, holder = await api_keys.create(pool, tenant_id, "demo", api_keys.SCOPES)
        return Access(url, key, holder, await console_check.link(pool, url, holder))


async def compare(
    api: Access,
    setup: tenant_setup.TenantSetup,
    expected: plans.Outcome,
    shared_workflows: SharedWorkflows,
) -> check.Verdict:
    """Compare the first tenant's achievements, exits and revenue with the statistics of its workflows.

    Statistics count every enrollment of a workflow, so workflows with enrollments or changes of other senders are left
    out. `shared_workflows` lists those after the statistics are read, to include any that joined in between.
    """
    tenant_id, workflows = setup.tenants[0], sorted({*_WORKFLOW_OF_GOAL.values()})
    async with httpx.AsyncClient(base_url=api.url, headers={"x-api-key": api.key}, timeout=_TIMEOUT_SECONDS) as client:
        stats = {workflow_id: await _stats(client, workflow_id) for workflow_id in workflows}
    shared = await shared_workflows()
    own = {workflow_id: numbers for workflow_id, numbers in stats.items() if workflow_id not in shared}
    sentences = [
        f"statistics of {workflow_id} of {tenant_id}: other senders take part in it"
        for workflow_id in workflows
        if workflow_id in shared
    ]
    return check.Verdict(rows(setup, expected, own), sentences)


async def _stats(client: httpx.AsyncClient, workflow_id: str) -> dict[str, Any]:
    # A period never requested before, because the API may answer a repeated request from its cache.
    since = _LONG_AGO + timedelta(microseconds=time.monotonic_ns() // 1_000)
    answer = await client.get(f"/api/v1/workflows/{workflow_id}/goals/stats", params={"from": since.isoformat()})
    numbers: dict[str, Any] = answer.raise_for_status().json()
    return numbers


def rows(
    setup: tenant_setup.TenantSetup, expected: plans.Outcome, stats: Mapping[str, Mapping[str, Any]]
) -> list[check.Row]:
    """Compare the expected outcome with the statistics of workflows of the first tenant."""
    tenant_id = setup.tenants[0]
    goals = {goal_id: _WORKFLOW_OF_GOAL[key] for (of, key), goal_id in setup.goal_ids.items() if of == tenant_id}
    achieved = Counter(
        str(achievement.goal_id) for achievement in expected.achieved if goals.get(achievement.goal_id) in stats
    )
    found = Counter(
        {goal["goal_id"]: goal["achieved"] for workflow_stats in stats.values() for goal in workflow_stats["by_goal"]}
    )
    exits = sum(1 for exit_ in expected.exited if exit_.tenant_id == tenant_id and exit_.workflow_id in stats)
    return [
        check.compare_items(f"achievements of {tenant_id} by the API", [*achieved.elements()], [*found.elements()]),
        check.compare_counts(
            f"exits of {tenant_id} by the API",
            exits,
            sum(workflow_stats["exits_sent"] for workflow_stats in stats.values()),
        ),
        _revenue(tenant_id, expected, stats),
    ]


def _revenue(tenant_id: str, expected: plans.Outcome, stats: Mapping[str, Mapping[str, Any]]) -> check.Row:
    """Compare the sums of each workflow and currency."""
    wanted = [
        (workflow_id, currency, *sums)
        for (of, workflow_id, currency), sums in expected.revenue().items()
        if of == tenant_id and workflow_id in stats
    ]
    found = [
        (workflow_id, currency, *(Decimal(sums[name]) for name in plans.Revenue._fields))
        for workflow_id, numbers in stats.items()
        for currency, sums in numbers["revenue"].items()
    ]
    return check.compare_items(f"sums of revenue of {tenant_id} by the API", wanted, found, lambda sums: sums[:2])
