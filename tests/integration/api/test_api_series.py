"""Workflows, cohorts, times to goal and CSV over HTTP."""

import csv
import io
from typing import Any
from uuid import UUID

import httpx
import pytest

from goalworker.api import reports
from goalworker.postgres import connections
from tests.integration.api.test_api_reports import PURCHASE, converted
from tests.kit.running_api import PATH, create, pointers, problem

WORKFLOWS = "/api/v1/workflows"
SERIES, TIMES = f"{PATH}/stats/series", f"{PATH}/stats/time-to-goal"


@pytest.fixture
async def goal(client: httpx.AsyncClient, administrator: connections.Connection) -> UUID:
    """A goal that four contacts reached on one day, half an hour after they were enrolled."""
    goal = UUID((await create(client, PURCHASE))["id"])
    for number in range(1, 5):
        await converted(administrator, goal, number)
    return goal


def lines(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


@pytest.mark.usefixtures("goal")
async def test_a_series_has_a_row_for_each_week(client: httpx.AsyncClient) -> None:
    found = await client.get(SERIES)
    assert found.json() == [
        {
            "from": "2026-04-27T00:00:00Z",
            "to": "2026-05-04T00:00:00Z",
            "enrolled": 4,
            "matured": 4,
            "converted": 4,
            "converted_in_time": 4,
            "rate": 100.0,
            "low": 51.0,
            "high": 100.0,
            "gross": {"EUR": "42.00"},
            "net": {"EUR": "42.00"},
        }
    ]
    (row,) = lines(await client.get(SERIES, headers={"Accept": "text/csv"}))
    assert (row["from"], row["rate"], row["gross_EUR"]) == ("2026-04-27T00:00:00Z", "100.0", "42.00")
    assert found.headers["vary"] == "Accept"


@pytest.mark.usefixtures("goal")
async def test_the_horizon_and_the_period_are_those_that_were_asked_for(client: httpx.AsyncClient) -> None:
    asked = {"by": "month", "horizon": "PT29M59S", "from": "2026-05-01T02:00:00Z"}
    (row,) = (await client.get(SERIES, params=asked)).json()
    assert (row["from"], row["to"]) == ("2026-05-01T02:00:00Z", "2026-06-01T00:00:00Z")
    assert (row["enrolled"], row["converted"], row["converted_in_time"], row["rate"]) == (3, 3, 0, 0.0)


@pytest.mark.parametrize(
    ("report", "asked", "pointer"),
    [
        (SERIES, {"by": "year"}, "?by"),
        (SERIES, {"horizon": "14"}, "?horizon"),
        (SERIES, {"horizon": "P1M"}, "?horizon"),
        (SERIES, {"horizon": "P0D"}, "?horizon"),
        (SERIES, {"horizon": "P366D"}, "?horizon"),
        (SERIES, {"format": "xml"}, "?format"),
        (SERIES, {"of": "x"}, "?of"),
        (TIMES, {"from": "yesterday"}, "?from"),
        (WORKFLOWS, {"cursor": "!"}, "?cursor"),
        (WORKFLOWS, {"cursor": "AA"}, "?cursor"),
        (WORKFLOWS, {"limit": "0"}, "?limit"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_by_name(
    client: httpx.AsyncClient, report: str, asked: dict[str, str], pointer: str
) -> None:
    assert pointers(problem(await client.get(report, params=asked), 400, "invalid-request")) == [pointer]


async def test_a_series_of_too_many_days_is_refused_with_a_way_out(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await administrator.execute(
        """INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)
            VALUES ('acme', 'e1', 'onboarding', 'c', '1926-05-01Z'), ('acme', 'e2', 'onboarding', 'c', '2026-05-01Z')"""
    )
    found = problem(await client.get(SERIES, params={"by": "day"}), 400, "invalid-request")
    assert pointers(found) == ["?by"]
    assert "bound them by `from` and `to`" in found["detail"]


@pytest.mark.usefixtures("goal")
async def test_times_to_goal_have_quantiles_a_histogram_and_an_incidence(client: httpx.AsyncClient) -> None:
    found = (await client.get(TIMES)).json()
    assert (found["total_enrolled"], found["enrollments_converted"], found["enrollments_open"]) == (4, 4, 0)
    assert found["quantiles"][2] == {"quantile": 0.5, "hours": 0.5, "seconds": 1800.0}
    assert [one for one in found["histogram"] if one["converted"]] == [
        {"from_seconds": 900, "to_seconds": 3600, "converted": 4}
    ]
    assert found["cumulative_incidence"] == [{"seconds": 1800, "at_risk": 4, "converted": 100.0, "ended": 0.0}]


@pytest.mark.parametrize("report", [SERIES, TIMES])
async def test_reports_of_an_unknown_workflow_are_not_there(
    client: httpx.AsyncClient, other: httpx.AsyncClient, report: str
) -> None:
    await create(other)
    problem(await client.get(report), 404, "not-found", "Unknown workflow: no goal or message has ever named it")


@pytest.mark.usefixtures("goal")
async def test_workflows_are_listed_in_pages_with_the_numbers_of_their_statistics(
    client: httpx.AsyncClient, other: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await create(client, path=f"{WORKFLOWS}/Zeta/goals")
    await client.put(f"{WORKFLOWS}/logic/goal-settings", json={"logic": "all"})
    await administrator.execute("INSERT INTO workflow_states VALUES ('acme', 'paused', now(), false)")
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, ended_at)"
        " VALUES ('acme', 'e', 'zulu', 'c', now()), ('acme', 'e9', 'yankee', 'c', now())"
    )
    await create(other, path=f"{WORKFLOWS}/foreign/goals")
    found: list[dict[str, Any]] = []
    cursor = None
    for _ in range(3):
        asked = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
        page = (await client.get(WORKFLOWS, params=asked)).json()
        found += page["workflows"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert [one["workflow_id"] for one in found] == ["Zeta", "logic", "onboarding", "paused", "yankee", "zulu"]
    by_id = {one["workflow_id"]: one for one in found}
    stats = (await client.get(f"{PATH}/goals/stats")).json()
    numbers = {
        name: stats[name] for name in ("total_enrolled", "enrollments_converted", "conversion_rate", "exits_sent")
    }
    assert by_id["onboarding"] == {
        "workflow_id": "onboarding",
        "is_active": True,
        "logic": "any",
        "goals": 1,
        **numbers,
    }
    assert (by_id["logic"]["logic"], by_id["paused"]["is_active"], by_id["zulu"]["goals"]) == ("all", False, 0)


async def test_achievements_as_csv_are_all_of_them_from_the_cursor_on(
    client: httpx.AsyncClient, goal: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_CSV_PAGE", 2)
    everything = lines(await client.get(f"{PATH}/achievements", params={"format": "csv", "limit": 1}))
    assert [row["enrollment_id"] for row in everything] == ["e1", "e2", "e3", "e4"]
    assert everything[0]["goal_id"] == str(goal)
    page = (await client.get(f"{PATH}/achievements", params={"limit": 3})).json()
    asked = {"cursor": page["next_cursor"]}
    rest = lines(await client.get(f"{PATH}/achievements", params=asked, headers={"Accept": "text/csv"}))
    assert [row["enrollment_id"] for row in rest] == ["e4"]
    problem(await client.get(f"{WORKFLOWS}/x/achievements", params={"format": "csv"}), 404, "not-found")
