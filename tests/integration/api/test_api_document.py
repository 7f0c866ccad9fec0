"""The OpenAPI document, and the API tested against it with generated requests."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from goalworker import api
from goalworker.api import problems
from tests.kit import running_api

CALLS = {
    ("get", "/api/v1/seen-values"),
    ("post", "/api/v1/workflows/{workflow_id}/goals"),
    ("get", "/api/v1/workflows/{workflow_id}/goals"),
    ("get", "/api/v1/workflows/{workflow_id}/goals/{goal_id}"),
    ("patch", "/api/v1/workflows/{workflow_id}/goals/{goal_id}"),
    ("delete", "/api/v1/workflows/{workflow_id}/goals/{goal_id}"),
    ("post", "/api/v1/workflows/{workflow_id}/goals/validate"),
    ("get", "/api/v1/workflows/{workflow_id}/goals/stats"),
    ("get", "/api/v1/workflows"),
    ("get", "/api/v1/workflows/{workflow_id}/stats/series"),
    ("get", "/api/v1/workflows/{workflow_id}/stats/time-to-goal"),
    ("get", "/api/v1/feed"),
    ("get", "/api/v1/workflows/{workflow_id}/goal-settings"),
    ("put", "/api/v1/workflows/{workflow_id}/goal-settings"),
    ("get", "/api/v1/workflows/{workflow_id}/achievements"),
    ("get", "/api/v1/workflows/{workflow_id}/explanations"),
    ("get", "/api/v1/audit"),
    ("get", "/api/v1/enrollments/{enrollment_id}"),
    ("post", "/api/v1/workflows/{workflow_id}/enrollments"),
    ("get", "/api/v1/workflows/{workflow_id}/goals/{goal_id}/audit"),
    ("post", "/api/v1/workflows/{workflow_id}/plans"),
    ("get", "/api/v1/workflows/{workflow_id}/plans/{plan_id}"),
    ("delete", "/api/v1/workflows/{workflow_id}/plans/{plan_id}"),
    ("post", "/api/v1/workflows/{workflow_id}/goals/{goal_id}/backfills"),
    ("get", "/api/v1/workflows/{workflow_id}/goals/{goal_id}/backfills/{backfill_id}"),
    ("delete", "/api/v1/workflows/{workflow_id}/goals/{goal_id}/backfills/{backfill_id}"),
}
DOCUMENT = api.document()
SEED = 20_260_501
# A stale version is refused before the body is checked.
TOLERATED = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 415]
"""


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def test_it_has_every_call_of_the_contract_and_no_other() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert {(method, path) for method, path, _ in operations()} == CALLS


@pytest.mark.parametrize("operation", [pytest.param(found, id=found["operationId"]) for *_, found in operations()])
def test_every_operation_is_described_needs_a_scope_and_names_its_problems(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    ((token, scopes),) = operation["security"][0].items()
    assert (token, operation["security"][1]) == ("token", {"key": scopes})
    assert len(scopes) == 1
    assert {"401", "403", "404", "500", "503"} <= set(operation["responses"])
    assert "422" not in operation["responses"]
    for status, response in operation["responses"].items():
        if not status.startswith("2"):
            assert list(response["content"]) == [problems.MEDIA_TYPE]
    for parameter in operation.get("parameters", []):
        assert parameter["description"]
    if "requestBody" in operation:
        assert {"400", "408", "413", "415"} <= set(operation["responses"])


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    text = str(DOCUMENT["paths"]) + str(DOCUMENT["components"])
    for name in DOCUMENT["components"]["schemas"]:
        assert f"'#/components/schemas/{name}'" in text, name
    assert "HTTPValidationError" not in text
    missing = [
        part.partition("'")[0]
        for part in text.split("'#/components/schemas/")[1:]
        if part.partition("'")[0] not in DOCUMENT["components"]["schemas"]
    ]
    assert missing == []


async def test_it_is_served_as_json(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json() == DOCUMENT


@pytest.mark.unmeasured
async def test_answers_to_generated_requests_are_as_documented(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(TOLERATED)
    variables = {**running_api.TOKENS, "GOALWORKER_GOALS__MAX_PER_WORKFLOW": "1000"}
    async with running_api.running(database_url, variables) as served:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{served.url}/openapi.json"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance", "--max-examples", "5"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--seed", str(SEED)),
            *("--exclude-path", "/api/v1/feed"),  # it has no end
            *("--header", f"Authorization: Bearer {running_api.token()}"),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
