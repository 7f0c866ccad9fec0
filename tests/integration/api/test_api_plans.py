"""Plans by the API: queued, shown with their results, cancelled, and audited."""

import json
from typing import Any

import httpx
import pytest

from goalworker.postgres import connections
from goalworker.stores import jobs
from tests.integration import job_runs
from tests.kit import running_api
from tests.kit.running_api import FORM, PATH, TAG, UNKNOWN, create, problem

PLANS = f"{PATH}/plans"


async def run(api: running_api.Api) -> None:
    """Run the next plan, as `goalworker insight` does."""
    assert await job_runs.runner(api.pool).run_next(jobs.PLAN)


async def asked(client: httpx.AsyncClient, **given: Any) -> str:
    """Ask for a plan, and return its address."""
    answer = await client.post(PLANS, json=given)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"plan_id": answer.headers["location"].rpartition("/")[2], "state": "queued"}
    return answer.headers["location"]


async def test_a_plan_is_queued_run_and_shown_with_its_result(
    api: running_api.Api, client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = await create(client)
    address = await asked(client, goals=[FORM, {"goal_id": goal["id"], "changes": {"is_active": False}}])
    queued = (await client.get(address)).json()
    assert (queued["state"], queued["progress"], queued["result"]) == ("queued", {"done": 0, "of": None}, None)
    await run(api)
    done = (await client.get(address)).json()
    assert (done["state"], done["progress"]) == ("done", {"done": 0, "of": 0})
    assert [of_goal.get("index", of_goal.get("goal_id")) for of_goal in done["result"]["per_goal"]] == [goal["id"], 0]
    assert done["result"]["coverage"] == {
        "history_from": None,
        "history_until": None,
        "fresh_as_of": None,
        "complete": False,
    }
    entry = await administrator.fetchrow("SELECT * FROM audit_log WHERE action = 'planned'")
    assert (entry["tenant_id"], entry["actor"], entry["workflow_id"]) == ("acme", "ann", "onboarding")
    assert json.loads(entry["after"])["plan_id"] == done["plan_id"]


async def test_a_cancelled_plan_is_never_run(api: running_api.Api, client: httpx.AsyncClient) -> None:
    await create(client)
    address = await asked(client)
    assert (await client.delete(address)).json()["state"] == "cancelled"
    await run(api)
    assert (await client.get(address)).json()["state"] == "cancelled"


async def test_a_plan_of_another_tenant_or_workflow_is_not_there(
    client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    await create(client)
    address = await asked(client)
    plan_id = address.rpartition("/")[2]
    for answer in (
        await other.get(address),
        await other.delete(address),
        await client.get(f"/api/v1/workflows/w2/plans/{plan_id}"),
        await client.get(f"{PLANS}/{UNKNOWN}"),
    ):
        problem(answer, 404, "not-found")
    assert (await client.get(address)).json()["state"] == "queued"


@pytest.mark.parametrize(
    ("given", "status", "slug"),
    [
        ({"goals": [{"goal_type": "nothing"}]}, 400, "invalid-request"),
        ({"goals": [TAG]}, 409, "duplicate-goal"),
        ({"goals": [{"goal_id": UNKNOWN, "changes": {}}]}, 404, "not-found"),
        ({"from": "2099-01-01T00:00:00Z"}, 409, "job-refused"),
        ({"sample": 0}, 400, "invalid-request"),
    ],
)
async def test_a_plan_that_cannot_be_run_is_refused(
    client: httpx.AsyncClient, given: dict[str, Any], status: int, slug: str
) -> None:
    await create(client)
    problem(await client.post(PLANS, json=given), status, slug)


async def test_a_workflow_that_nobody_named_has_no_plans(client: httpx.AsyncClient) -> None:
    problem(await client.post("/api/v1/workflows/unheard/plans", json={"goals": [TAG]}), 404, "not-found")


async def test_plans_need_the_right_to_read(api: running_api.Api, client: httpx.AsyncClient) -> None:
    await create(client)
    address = await asked(client)
    async with api.holder(scope="goals:write") as lacking, api.holder(scope="goals:read") as having:
        for method, path in (("POST", PLANS), ("GET", address), ("DELETE", address)):
            problem(await lacking.request(method, path), 403, "missing-scope")
            assert (await having.request(method, path)).status_code in (200, 202)
