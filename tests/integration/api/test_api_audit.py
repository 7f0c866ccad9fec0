"""The audit over HTTP: changes of goals and questions about contacts, in pages, each tenant its own."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from goalworker.api import response_models
from goalworker.postgres import connections
from tests.kit.running_api import FORM, GOALS, PATH, TENANT, create, pointers, problem

AUDIT = "/api/v1/audit"


async def entries(client: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    answer = await client.get(AUDIT, params=query)
    assert answer.status_code == 200, answer.text
    response_models.AuditPage.model_validate_json(answer.content)
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


async def test_the_audit_has_changes_and_questions_oldest_first(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = await create(client)
    await client.patch(f"{GOALS}/{goal['id']}", json={"name": "new"})
    await client.put(f"{PATH}/goal-settings", json={"logic": "all"})
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id)"
        f" VALUES ('{TENANT}', 'e1', 'onboarding', 'c1')"
    )
    await client.get(f"{PATH}/explanations", params={"contact_id": "c1"})
    found = await entries(client)
    assert [entry["action"] for entry in found] == ["created", "updated", "logic_set", "explained"]
    assert [entry["goal_id"] for entry in found] == [goal["id"], goal["id"], None, None]
    assert [entry["action"] for entry in await entries(client, action="logic_set")] == ["logic_set"]
    assert [entry["action"] for entry in await entries(client, contact_id="c1")] == ["explained"]
    second = found[1]["at"]
    assert [entry["at"] for entry in await entries(client, to=second)] == [found[0]["at"]]
    assert [entry["at"] for entry in await entries(client, **{"from": second})] == [entry["at"] for entry in found[1:]]


async def test_pages_of_the_audit_follow_each_other_without_gaps(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    for number in range(5):
        await create(client, FORM, f"/api/v1/workflows/w{number}/goals")
    await administrator.execute("UPDATE audit_log SET at = $1", datetime.fromisoformat("2026-05-01T00:00:00Z"))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await client.get(AUDIT, params={"limit": "2", **cursor})).json()
        seen += [entry["workflow_id"] for entry in page["entries"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [f"w{number}" for number in range(5)]


async def test_each_tenant_has_an_audit_of_its_own(client: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    await create(client)
    assert await entries(other) == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"action": "stolen"}, "?action"),
        ({"from": "yesterday"}, "?from"),
        ({"limit": "0"}, "?limit"),
        ({"cursor": "2026-05-01T00:00:00+00:00_x"}, "?cursor"),
        ({"cursor": "nonsense"}, "?cursor"),
        ({"contact": "c1"}, "?contact"),
    ],
)
async def test_a_bad_query_is_a_400_that_names_the_parameter(
    client: httpx.AsyncClient, query: dict[str, str], pointer: str
) -> None:
    assert pointers(problem(await client.get(AUDIT, params=query), 400, "invalid-request")) == [pointer]
