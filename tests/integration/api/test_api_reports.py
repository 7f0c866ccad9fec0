"""Statistics and achievements over HTTP: queries and the form of answers."""

from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest

from goalworker.domain import ids
from goalworker.postgres import connections
from tests.kit.running_api import GOALS, PATH, TENANT, create, pointers, problem

PURCHASE = {"goal_type": "purchase_made", "criteria": {"any_purchase": True}, "name": "Bought"}


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 5, 1, hour, minute, tzinfo=UTC)


async def converted(administrator: connections.Connection, goal: UUID, number: int) -> None:
    """Contact c{number} is enrolled at {number} o'clock and buys something for 10.50 half an hour later."""
    await administrator.execute(
        """INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at, satisfied_at,
            converted_at) VALUES ($1, $2, 'onboarding', $3, $4, $5, $5)""",
        TENANT,
        f"e{number}",
        f"c{number}",
        at(number),
        at(number, 30),
    )
    await administrator.execute(
        """INSERT INTO achievements VALUES ($1, $2, $3, 'onboarding', $4, 1, 'purchase_made', $5, $6, '/shop', $7,
            '{"contact_id":"c","payment_id":"p","amount":"10.50","currency":"EUR"}', NULL, NULL, 1, NULL)""",
        TENANT,
        f"e{number}",
        goal,
        f"c{number}",
        at(number),
        at(number, 30),
        f"evt{number}",
    )


async def test_statistics_count_the_enrollments_in_the_span(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = await create(client, PURCHASE)
    for number in range(1, 5):
        await converted(administrator, UUID(goal["id"]), number)
    span = {"from": "2026-05-01T02:00:00Z", "to": "2026-05-01T06:00:00+02:00"}
    assert (await client.get(f"{GOALS}/stats", params=span)).json() == {
        "workflow_id": "onboarding",
        "from": "2026-05-01T02:00:00Z",
        "to": "2026-05-01T04:00:00Z",
        "total_enrolled": 2,
        "goals_achieved": 2,
        "enrollments_converted": 2,
        "conversion_rate": 100.0,
        "avg_time_to_goal_hours": 0.5,
        "median_time_to_goal_hours": 0.5,
        "p90_time_to_goal_hours": 0.5,
        "avg_time_to_goal_seconds": 1800.0,
        "median_time_to_goal_seconds": 1800.0,
        "p90_time_to_goal_seconds": 1800.0,
        "exits_sent": 0,
        "by_goal_type": {"purchase_made": {"achieved": 2, "conversion_rate": 100.0}},
        "by_goal": [
            {
                "goal_id": goal["id"],
                "goal_type": "purchase_made",
                "name": "Bought",
                "achieved": 2,
                "conversion_rate": 100.0,
                "revenue": {"EUR": {"gross": "21.00", "reversed": "0.00", "net": "21.00"}},
            }
        ],
        "revenue": {"EUR": {"gross": "21.00", "reversed": "0.00", "net": "21.00"}},
    }
    assert (await client.get(f"{GOALS}/stats")).json()["total_enrolled"] == 4


async def test_pages_of_achievements_are_stable_while_others_arrive(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = UUID((await create(client, PURCHASE))["id"])
    for number in (2, 4, 6, 8):
        await converted(administrator, goal, number)
    page = (await client.get(f"{PATH}/achievements", params={"limit": 2})).json()
    await converted(administrator, goal, 1)
    await converted(administrator, goal, 7)
    rest = (await client.get(f"{PATH}/achievements", params={"limit": 9, "cursor": page["next_cursor"]})).json()
    assert [each["enrollment_id"] for each in page["achievements"] + rest["achievements"]] == [
        "e2",
        "e4",
        "e6",
        "e7",
        "e8",
    ]
    assert rest["next_cursor"] is None
    assert page["achievements"][0] == {
        "achievement_id": str(ids.achievement_id(TENANT, "e2", goal)),
        "revision": 1,
        "workflow_id": "onboarding",
        "enrollment_id": "e2",
        "contact_id": "c2",
        "goal_id": str(goal),
        "goal_version": 1,
        "goal_type": "purchase_made",
        "enrolled_at": "2026-05-01T02:00:00Z",
        "achieved_at": "2026-05-01T02:30:00Z",
        "trigger_event": {
            "id": "evt2",
            "source": "/shop",
            "type": "payment.completed",
            "time": "2026-05-01T02:30:00Z",
            "data": {"contact_id": "c", "payment_id": "p", "amount": "10.50", "currency": "EUR"},
        },
    }
    for filters, count in (
        ({"contact_id": "c4"}, 1),
        ({"goal_id": str(goal)}, 6),
        ({"goal_id": str(UUID(int=9))}, 0),
        ({"from": "2026-05-01T06:30:00Z", "to": "2026-05-01T08:30:00Z"}, 2),
    ):
        found = (await client.get(f"{PATH}/achievements", params=filters)).json()["achievements"]
        assert len(found) == count


@pytest.mark.parametrize("report", [f"{GOALS}/stats", f"{PATH}/achievements"])
async def test_an_unknown_workflow_has_no_reports(
    client: httpx.AsyncClient, other: httpx.AsyncClient, report: str
) -> None:
    unknown = "Unknown workflow: no goal or message has ever named it"
    problem(await client.get(report), 404, "not-found", unknown)
    assert (await client.get(GOALS)).json()["total"] == 0
    assert (await client.get(f"{PATH}/goal-settings")).json() == {"logic": "any"}
    await create(other)
    problem(await client.get(report), 404, "not-found", unknown)


@pytest.mark.parametrize("report", [f"{GOALS}/stats", f"{PATH}/achievements"])
@pytest.mark.parametrize(
    "row",
    [
        "INSERT INTO workflow_settings VALUES ('acme', 'onboarding', now(), 'all', 1)",
        "INSERT INTO workflow_states VALUES ('acme', 'onboarding', now(), true)",
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, ended_at)"
        " VALUES ('acme', 'e', 'onboarding', 'c', now())",
    ],
)
async def test_one_message_or_setting_makes_a_workflow_known_to_reports(
    client: httpx.AsyncClient, administrator: connections.Connection, row: str, report: str
) -> None:
    await administrator.execute(row)
    assert (await client.get(report)).status_code == 200


async def test_a_workflow_whose_only_goal_was_deleted_keeps_its_reports(client: httpx.AsyncClient) -> None:
    goal = await create(client)
    assert (await client.delete(f"{GOALS}/{goal['id']}")).status_code == 204
    assert (await client.get(f"{GOALS}/stats")).status_code == 200
    assert (await client.get(f"{PATH}/achievements")).json() == {"achievements": [], "next_cursor": None}


async def test_an_invalid_query_is_refused(client: httpx.AsyncClient) -> None:
    for path, query, where in (
        (f"{GOALS}/stats", {"from": "yesterday", "to": "2026-05-01T00:00:00"}, ["?from", "?to"]),
        (f"{GOALS}/stats", {"from": "1777636800", "since": "x"}, ["?from", "?since"]),
        (f"{GOALS}/stats", {"from": "2026-05-01 00:00:00Z"}, ["?from"]),
        (
            f"{PATH}/achievements",
            {"limit": "0", "goal_id": "g1", "contact_id": ""},
            ["?limit", "?contact_id", "?goal_id"],
        ),
        (f"{PATH}/achievements", {"contact_id": "a\u0000"}, ["?contact_id"]),
        *((f"{PATH}/achievements", {"cursor": cursor}, ["?cursor"]) for cursor in ("", "x", "WzFd", "ä", "a" * 5_000)),
    ):
        found = problem(await client.get(path, params=query), 400, "invalid-request")
        assert sorted(pointers(found)) == sorted(where)
