"""Backfills by the API: queued, shown, cancelled, refused with the reason, and audited."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from goalworker.stores import jobs
from tests.integration import job_runs, kept_events
from tests.kit import running_api
from tests.kit.running_api import GOALS, UNKNOWN, create, problem

APRIL = datetime(2026, 4, 1, tzinfo=UTC)
SINCE = {"from": "2026-04-01T00:00:00Z"}


async def run(api: running_api.Api) -> None:
    """Run the next backfill, as `goalworker insight` does."""
    assert await job_runs.runner(api.pool).run_next(jobs.BACKFILL)


async def asked(client: httpx.AsyncClient, goal: dict[str, Any], **given: Any) -> str:
    """Ask for a backfill, and return its address."""
    answer = await client.post(f"{GOALS}/{goal['id']}/backfills", json=SINCE | given)
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"backfill_id": answer.headers["location"].rpartition("/")[2], "state": "queued"}
    return answer.headers["location"]


async def test_a_backfill_is_queued_run_shown_and_audited(api: running_api.Api, client: httpx.AsyncClient) -> None:
    await kept_events.cover(api.pool, APRIL)
    goal = await create(client)
    address = await asked(client, goal, exits=True)
    await run(api)
    done = (await client.get(address)).json()
    assert done == {
        "backfill_id": address.rpartition("/")[2],
        "state": "done",
        "progress": {"done": 0, "of": 0},
        "result": {"contacts": 0, "hits": 0, "achieved": 0, "exits": 0},
    }
    entry = (await client.get(f"{GOALS}/{goal['id']}/audit")).json()["entries"][-1]
    assert (entry["action"], entry["actor"], entry["before"]) == ("backfilled", "ann", None)
    assert entry["after"] == {"from": "2026-04-01T00:00:00+00:00", "exits": True}


async def test_a_cancelled_backfill_makes_room_for_another(api: running_api.Api, client: httpx.AsyncClient) -> None:
    await kept_events.cover(api.pool, APRIL)
    goal = await create(client)
    address = await asked(client, goal)
    problem(await client.post(f"{GOALS}/{goal['id']}/backfills", json=SINCE), 409, "job-refused")
    assert (await client.delete(address)).json()["state"] == "cancelled"
    await run(api)
    await asked(client, goal)


async def test_a_backfill_of_another_tenant_or_goal_is_not_there(
    api: running_api.Api, client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    await kept_events.cover(api.pool, APRIL)
    goal = await create(client)
    address = await asked(client, goal)
    for answer in (
        await other.get(address),
        await other.delete(address),
        await client.get(address.replace(goal["id"], UNKNOWN)),
        await other.post(f"{GOALS}/{goal['id']}/backfills", json=SINCE),
    ):
        problem(answer, 404, "not-found")


@pytest.mark.parametrize(
    ("given", "status", "slug"),
    [
        ({"from": "2099-01-01T00:00:00Z"}, 409, "job-refused"),
        ({"from": "2026-03-01T00:00:00Z"}, 409, "job-refused"),
        ({"from": "yesterday"}, 400, "invalid-request"),
        ({"from": "2026-04-01T00:00:00Z", "exits": "no"}, 400, "invalid-request"),
        ({}, 400, "invalid-request"),
    ],
)
async def test_a_backfill_that_cannot_be_run_is_refused(
    api: running_api.Api, client: httpx.AsyncClient, given: dict[str, Any], status: int, slug: str
) -> None:
    await kept_events.cover(api.pool, APRIL)
    goal = await create(client)
    problem(await client.post(f"{GOALS}/{goal['id']}/backfills", json=given), status, slug)


async def test_backfills_are_read_and_written_with_rights_of_their_own(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    await kept_events.cover(api.pool, APRIL)
    goal = await create(client)
    address = await asked(client, goal)
    async with api.holder(scope="goals:read") as reader, api.holder(scope="goals:write") as writer:
        problem(await reader.post(f"{GOALS}/{goal['id']}/backfills", json=SINCE), 403, "missing-scope")
        problem(await reader.delete(address), 403, "missing-scope")
        problem(await writer.get(address), 403, "missing-scope")
        assert (await reader.get(address)).status_code == 200
        assert (await writer.delete(address)).status_code == 200
