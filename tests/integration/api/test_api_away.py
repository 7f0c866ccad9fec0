"""Outages: while the database is away, slow or locked, the API says so within seconds, without details."""

import asyncio
import time
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from goalworker import log_repeats, logs, metrics
from goalworker.api import middleware
from goalworker.postgres import connections, tables
from tests.kit import running_api
from tests.kit.running_api import GOALS, PATH, TAG, create, problem


def unavailable(answer: httpx.Response) -> None:
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "2"


async def test_an_unreachable_database_is_a_503() -> None:
    async with running_api.running("postgresql://nobody:secret@127.0.0.1:1/none") as api, api.holder() as client:
        began = time.monotonic()
        answer = await client.get(GOALS)
        unavailable(answer)
        assert time.monotonic() - began < 3
        assert "secret" not in answer.text
        async with api.client(**{"X-API-Key": "gw_" + "A" * 43}) as holder:
            unavailable(await holder.get(GOALS))


@pytest.fixture
def _nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "REPEATS", log_repeats.RepeatLimiter())


@pytest.mark.usefixtures("_nothing_said_yet")
async def test_an_outage_logs_one_failed_request_and_counts_the_others(
    said: list[MutableMapping[str, Any]],
) -> None:
    async with running_api.running("postgresql://nobody:secret@127.0.0.1:1/none") as api, api.holder() as client:
        for _ in range(20):
            problem(await client.get(GOALS), 503, "unavailable")
    (line,) = said
    assert (line["event"], line["log_level"], line["status"]) == ("request", "warning", 503)
    assert line["problem"].startswith("The database cannot be reached; ")
    assert line["error"] == "the connection was refused"
    assert logs.REPEATS.held("database") == 19


@pytest.mark.usefixtures("_nothing_said_yet")
async def test_requests_above_the_limit_are_one_line(
    client: httpx.AsyncClient, said: list[MutableMapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "REQUESTS_MAX", 0)
    for _ in range(20):
        unavailable(await client.get(GOALS))
    assert [(line["event"], line["status"]) for line in said] == [("request", 503)]


@pytest.mark.usefixtures("_nothing_said_yet")
async def test_a_missing_right_is_not_reported_as_an_outage(
    client: httpx.AsyncClient, administrator: connections.Connection, said: list[MutableMapping[str, Any]]
) -> None:
    await administrator.execute(f"REVOKE SELECT ON goals FROM {tables.API_ROLE}")
    answer = await client.get(GOALS)
    found = problem(answer, 503, "unavailable")
    assert found["detail"] == (
        "The database refuses a right that this needs; nothing was changed, an operator has to fix it"
    )
    assert answer.headers["retry-after"] == "60"
    assert said[-1]["error"] == "permission denied for table goals"


async def test_a_connection_that_was_cut_is_replaced(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await create(client)
    await administrator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    answers = [await client.get(GOALS) for _ in range(3)]
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert answers[-1].status_code == 200


@pytest.fixture
async def frozen(administrator: connections.Connection) -> AsyncIterator[None]:
    """Hold the lock on goals."""
    await administrator.execute(f"BEGIN; SELECT pg_advisory_xact_lock_shared({connections.GOAL_LOCK})")
    yield
    await administrator.execute("ROLLBACK")


@pytest.mark.usefixtures("frozen")
async def test_a_change_of_locked_goals_is_given_up_soon(client: httpx.AsyncClient) -> None:
    began = time.monotonic()
    unavailable(await client.post(GOALS, json=TAG))
    assert time.monotonic() - began < 3
    assert (await client.get(GOALS)).json()["total"] == 0
    assert (await client.get(f"{PATH}/goal-settings")).status_code == 200


async def test_a_slow_answer_is_given_up_and_its_connection_closed(
    client: httpx.AsyncClient, api: running_api.Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(connections, "_AS_TENANT", sa.text("SELECT pg_sleep(20), cast(:role || :tenant_id AS text)"))
    began = time.monotonic()
    for answer in await asyncio.gather(*(client.get(GOALS) for _ in range(6))):
        unavailable(answer)
    assert time.monotonic() - began < 3
    monkeypatch.undo()
    assert (await client.get(GOALS)).status_code == 200
    assert connections.pool_usage(api.pool)[1] == 0


async def test_a_bug_is_a_problem_without_details(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, said: list[MutableMapping[str, Any]]
) -> None:
    monkeypatch.setattr(connections, "_AS_TENANT", sa.text("SELECT :role || :tenant_id || secret_column FROM goals"))
    answer = await client.get(GOALS)
    problem(answer, 500, "internal-error", "This is a bug; the log has details under the request id")
    failed, request = said[-2:]
    assert (failed["event"], request["event"], request["status"]) == ("request_failed", "request", 500)
    assert failed["request_id"] == request["request_id"] == answer.headers["x-request-id"]
    monkeypatch.undo()
    assert (await client.get(GOALS)).status_code == 200


async def test_requests_are_counted_by_the_template_of_their_route(client: httpx.AsyncClient) -> None:
    goal = await create(client)
    await client.get(f"{GOALS}/{goal['id']}")
    await client.get("/nowhere")
    await client.request("BREW", "/nowhere")
    lines = metrics.render().decode().splitlines()
    route = "/api/v1/workflows/{workflow_id}/goals/{goal_id}"
    for labels in (
        f'code="200",method="GET",route="{route}"',
        'code="404",method="GET",route="none"',
        'code="404",method="other",route="none"',
    ):
        assert any(line.startswith(f"goalworker_http_requests_total{{{labels}}}") for line in lines)
        assert any(line.startswith(f"goalworker_http_request_duration_seconds_count{{{labels}}}") for line in lines)
    assert goal["id"] not in metrics.render().decode()
