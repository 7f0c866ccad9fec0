"""Explanations over HTTP: answers as documented, a 404 that says what is unknown, and the audit."""

from typing import Any

import httpx
import pytest

from goalworker.api import explanation_models
from goalworker.domain import gates
from goalworker.postgres import connections
from tests.integration import kept_events, scenes
from tests.kit.running_api import PATH, TENANT, UNKNOWN, Api, create, pointers, problem

EXPLANATIONS = f"{PATH}/explanations"
AT_LEAST_50 = {"goal_type": "purchase_made", "criteria": {"min_amount": "50.00"}}
BEGAN, PAID, BEFORE = (f"2026-05-0{day}T12:00:00Z" for day in (2, 3, 1))


@pytest.fixture
async def goal(client: httpx.AsyncClient, administrator: connections.Connection) -> dict[str, Any]:
    """A goal in force since before everything, and an enrollment e1 of the contact c-17."""
    made = await create(client, AT_LEAST_50)
    await administrator.execute("UPDATE goal_versions SET active_from = 'epoch'")
    await administrator.execute(
        "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)"
        f" VALUES ('{TENANT}', 'e1', 'onboarding', 'c-17', '{BEGAN}')"
    )
    return made


async def explained(client: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    """Return an answer that its model accepts."""
    answer = await client.get(EXPLANATIONS, params={"contact_id": "c-17", **query})
    assert answer.status_code == 200, answer.text
    found = explanation_models.Explanations.model_validate_json(answer.content)
    assert found.model_dump(mode="json", exclude_unset=True).keys() == answer.json().keys()
    document: dict[str, Any] = answer.json()
    return document


async def test_a_payment_that_missed_is_explained_with_its_clauses(
    api: Api, client: httpx.AsyncClient, goal: dict[str, Any]
) -> None:
    event = scenes.paid("evt-1", kept_events.moment(PAID), "pay-4711", "49.90", "c-17")
    await kept_events.keep(api.pool, scenes.of_tenant(event, TENANT))
    await kept_events.cover(api.pool, kept_events.moment(BEFORE))
    found = await explained(client)
    (one,) = found["explanations"]
    assert one["summary"] == "c-17 paid 49.90 EUR on 3 May (pay-4711); the goal asks for at least 50.00."
    assert (one["enrollment_id"], one["goal_id"], one["goal_version"]) == ("e1", goal["id"], 1)
    assert (one["answer"], one["reason"], one["furthest_gate"]) == ("not_achieved", "criteria_not_met", "criteria")
    assert [gate["gate"] for gate in one["gates"]] == list(gates.GATES)
    assert [gate["result"] for gate in one["gates"]] == [True] * 3 + [False] + [None] * 6
    assert one["events"] == [
        {
            "source": "/shop",
            "id": "evt-1",
            "type": "payment.completed",
            "time": PAID,
            "goal_version": 1,
            "stopped_at": "criteria",
            "clauses": [
                {"pointer": "/min_amount", "op": "at_least", "expected": "50", "actual": "49.90", "result": False}
            ],
            "would_achieve_if": [{"pointer": "/amount", "to": "50"}],
        }
    ]
    assert one["exit"] == {"sent_at": None, "published_at": None, "exit_id": None, "waits_for": None}
    assert one["also"] == {"dead_letters": None, "reversed": [], "merged_from": []}
    coverage = found["coverage"]
    assert (coverage["history_from"], coverage["complete"]) == (BEFORE, True)
    assert (coverage["fresh_as_of"], coverage["dead_letters"]) == (None, "not_searched")


async def test_where_nobody_looked_the_answer_is_unknown(client: httpx.AsyncClient, goal: dict[str, Any]) -> None:
    found = await explained(client)
    (one,) = found["explanations"]
    assert (one["goal_id"], one["answer"], one["reason"]) == (goal["id"], "unknown", "no_event")
    assert one["summary"].startswith("Nobody looked")
    assert (found["coverage"]["history_from"], found["coverage"]["complete"]) == (None, False)


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ({"contact_id": "nobody"}, "Unknown contact"),
        ({"goal_id": UNKNOWN}, "Unknown goal"),
        ({"enrollment_id": "e9"}, "Unknown enrollment"),
    ],
)
async def test_a_404_says_what_is_unknown(
    client: httpx.AsyncClient, goal: dict[str, Any], query: dict[str, str], unknown: str
) -> None:
    answer = await client.get(EXPLANATIONS, params={"contact_id": "c-17", **query})
    assert problem(answer, 404, "not-found")["detail"].startswith(unknown)


async def test_an_unknown_workflow_is_a_404_that_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.get(EXPLANATIONS, params={"contact_id": "c-17"})
    assert problem(answer, 404, "not-found")["detail"].startswith("Unknown workflow")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({}, "?contact_id"),
        ({"contact_id": ""}, "?contact_id"),
        ({"contact_id": "c-17", "goal_id": "no-uuid"}, "?goal_id"),
        ({"contact_id": "c-17", "contact": "c-17"}, "?contact"),
    ],
)
async def test_a_bad_query_is_a_400_that_names_the_parameter(
    client: httpx.AsyncClient, query: dict[str, str], pointer: str
) -> None:
    found = problem(await client.get(EXPLANATIONS, params=query), 400, "invalid-request")
    assert pointers(found) == [pointer]


async def test_each_explanation_is_an_entry_of_the_audit(client: httpx.AsyncClient, goal: dict[str, Any]) -> None:
    await explained(client, goal_id=goal["id"])
    (entry,) = (await client.get("/api/v1/audit", params={"action": "explained"})).json()["entries"]
    assert [entry[name] for name in ("actor", "workflow_id", "contact_id")] == ["ann", "onboarding", "c-17"]
    assert (entry["before"], entry["after"]) == (None, None)
    audit = (await client.get(f"{PATH}/goals/{goal['id']}/audit")).json()
    assert [one["action"] for one in audit["entries"]] == ["created"]


async def test_a_refused_explanation_is_no_entry_of_the_audit(client: httpx.AsyncClient, goal: dict[str, Any]) -> None:
    await client.get(EXPLANATIONS, params={"contact_id": "nobody"})
    assert (await client.get("/api/v1/audit", params={"contact_id": "nobody"})).json()["entries"] == []
    assert goal


async def test_another_tenant_cannot_tell_a_contact_from_an_unknown_one(
    client: httpx.AsyncClient, other: httpx.AsyncClient, goal: dict[str, Any]
) -> None:
    await create(other, AT_LEAST_50)
    answers = [await other.get(EXPLANATIONS, params={"contact_id": contact}) for contact in ("c-17", "nobody")]
    assert problem(answers[0], 404, "not-found") == answers[1].json()
    assert (await explained(client))["explanations"][0]["goal_id"] == goal["id"]
