"""Seen values over HTTP, and warnings about values in criteria that no event has had."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from goalworker.domain import seen_values
from goalworker.postgres import connections, tables
from goalworker.stores import seen_values as stored
from tests.kit import running_api
from tests.kit.running_api import OTHER, TENANT, problem

PATH = "/api/v1/seen-values"
GOALS = "/api/v1/workflows/onboarding/goals"
FORM = {"type": "form.submitted", "field": "form_id"}
NOW = datetime.now(UTC)


async def see(
    api: running_api.Api,
    field: str,
    event_type: str,
    *values: tuple[str, int],
    tenant_id: str = TENANT,
    days_ago: int = 0,
    label: str | None = None,
) -> None:
    at = NOW - timedelta(days=days_ago)
    numbers = {(tenant_id, value): number for value, number in values}
    labels = {} if label is None else dict.fromkeys(numbers, label)
    counts = [stored.CountsOfField(event_type, field, at.date(), at, at, numbers, labels)]
    async with connections.transaction(api.pool, tables.WORKER_ROLE, "test") as connection:
        await stored.add(connection, counts)


async def listed(client: httpx.AsyncClient, **query: str | int) -> list[tuple[Any, int]]:
    answer = await client.get(PATH, params={**FORM, **query})
    assert answer.status_code == 200, answer.text
    return [(one["value"], one["count"]) for one in answer.json()]


# --- the list ---


async def test_values_are_listed_by_how_often_they_came(api: running_api.Api, client: httpx.AsyncClient) -> None:
    await see(api, "form_id", "form.submitted", ("a", 2), ("b", 5), days_ago=3)
    await see(api, "form_id", "form.submitted", ("a", 1), ("c", 3))
    await see(api, "form_id", "form.submitted", ("theirs", 9), tenant_id=OTHER)
    assert await listed(client) == [("b", 5), ("a", 3), ("c", 3)]
    assert await listed(client, limit=1) == [("b", 5)]
    assert await listed(client, prefix="c") == [("c", 3)]
    assert await listed(client, prefix="d") == []
    first, *_ = (await client.get(PATH, params=FORM)).json()
    at = (NOW - timedelta(days=3)).isoformat().replace("+00:00", "Z")
    assert first == {"value": "b", "label": None, "count": 5, "first_seen": at, "last_seen": at}


async def test_a_tag_has_its_latest_name_and_a_stage_its_pipeline(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    await see(api, "tag_id", "contact.tag.added", ("t", 1), days_ago=1, label="old")
    await see(api, "tag_id", "contact.tag.added", ("t", 1), label="new")
    answer = await client.get(PATH, params={"type": "contact.tag.added", "field": "tag_id"})
    assert [(one["value"], one["label"]) for one in answer.json()] == [("t", "new")]
    await see(api, "stage", "pipeline.stage.changed", (seen_values.stage_value("p", "won"), 1))
    answer = await client.get(PATH, params={"type": "pipeline.stage.changed", "field": "stage"})
    assert [one["value"] for one in answer.json()] == [{"pipeline_id": "p", "stage_id": "won"}]


@pytest.mark.parametrize(
    ("query", "pointer", "says"),
    [
        ({"type": "form.submitted"}, "?field", "is missing"),
        ({"field": "form_id"}, "?type", "is missing"),
        ({"type": "form.rejected", "field": "form_id"}, "?type", "'form.submitted'"),
        ({**FORM, "field": "amount"}, "?field", "'form_id'"),
        ({**FORM, "field": "tag_id"}, "?field", "counted of form.submitted: form_id"),
        ({**FORM, "limit": "0"}, "?limit", "greater than or equal to 1"),
        ({**FORM, "limit": "many"}, "?limit", "whole number"),
        ({**FORM, "prefix": "\x00"}, "?prefix", "control characters"),
        ({**FORM, "other": "1"}, "?other", "is unknown"),
    ],
)
async def test_a_wrong_query_is_refused_with_what_there_is(
    client: httpx.AsyncClient, query: dict[str, str], pointer: str, says: str
) -> None:
    (error,) = problem(await client.get(PATH, params=query), 400, "invalid-request")["errors"]
    assert error["pointer"] == pointer
    assert says in error["detail"]


async def test_listing_needs_the_scope_to_read(api: running_api.Api) -> None:
    async with api.holder(scope="goals:write") as client:
        problem(await client.get(PATH, params=FORM), 403, "missing-scope")


# --- warnings ---


def form(form_id: object) -> dict[str, Any]:
    return {"goal_type": "form_submitted", "criteria": {"form_id": form_id}}


def details(answer: httpx.Response) -> list[tuple[str, str]]:
    assert answer.is_success, answer.text
    return [(warning["pointer"], warning["detail"]) for warning in answer.json()["warnings"]]


UNSEEN = ("/criteria/form_id", "form `frm_12` was never seen; nearest: `frm-12`, 412 times in 7 days")


async def test_a_value_that_was_never_seen_is_a_warning_with_the_nearest_one(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    await see(api, "form_id", "form.submitted", ("frm-12", 412), ("frm-99", 500), ("x", 900))
    created = await client.post(GOALS, json=form("frm_12"))
    assert details(created) == [UNSEEN]
    address = f"{GOALS}/{created.json()['id']}"
    assert details(await client.patch(address, json={"name": "n"})) == [UNSEEN]
    checked = await client.post(f"{GOALS}/validate", json={"goals": [form("frm-12"), form("frm_12")]})
    assert checked.json()["valid"] is True
    assert checked.json()["warnings"] == [{"index": 1, "pointer": UNSEEN[0], "detail": UNSEEN[1]}]
    assert details(await client.post(f"{GOALS}/validate")) == [UNSEEN]
    assert details(await client.patch(address, json={"criteria": {"form_id": "frm-12"}})) == []


async def test_each_unseen_value_of_a_list_is_a_warning(api: running_api.Api, client: httpx.AsyncClient) -> None:
    await see(api, "form_id", "form.submitted", ("frm-12", 1), days_ago=30)
    found = details(await client.post(GOALS, json=form(["frm-12", "frm-13", "zzz"])))
    day = f"{NOW - timedelta(days=30):%Y-%m-%d}"
    assert found == [
        ("/criteria/form_id", f"form `frm-13` was never seen; nearest: `frm-12`, once, last on {day}"),
        ("/criteria/form_id", "form `zzz` was never seen"),
    ]


async def test_nothing_is_said_of_a_field_of_which_nothing_was_counted(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    await see(api, "form_id", "form.submitted", ("frm-12", 1), tenant_id=OTHER)
    assert details(await client.post(GOALS, json=form("frm_12"))) == []


async def test_nothing_is_said_of_a_field_whose_rare_values_are_dropped(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    many = ((f"f{number}", 1) for number in range(stored.VALUES_OF_A_DAY))
    await see(api, "form_id", "form.submitted", *many)
    assert details(await client.post(GOALS, json=form("frm_12"))) == []


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ({"goal_type": "tag_added", "criteria": {"tag_name": " vip "}}, None),
        (
            {"goal_type": "tag_added", "criteria": {"tag_name": "vipp"}},
            "tag name `vipp` was never seen; nearest: `VIP",
        ),
        ({"goal_type": "tag_added", "criteria": {"tag_id": "t1", "tag_name": "other"}}, None),
        ({"goal_type": "tag_added", "criteria": {"tag_id": "t-1"}}, "tag `t-1` was never seen; nearest: `t1`"),
        (
            {"goal_type": "purchase_made", "criteria": {"min_amount": 1, "currency": "usd"}},
            "currency `USD` was never seen",
        ),
        ({"goal_type": "purchase_made", "criteria": {"any_purchase": True}}, None),
        (
            {"goal_type": "pipeline_stage_reached", "criteria": {"pipeline_id": "sales", "stage_id": "wom"}},
            "stage `wom` of pipeline `sales` was never seen; nearest: `won` of pipeline `sales`",
        ),
        (
            {"goal_type": "pipeline_stage_reached", "criteria": {"pipeline_id": ["x", "sales"], "stage_id": "won"}},
            None,
        ),
    ],
)
async def test_each_type_of_goal_is_compared_with_its_own_field(
    api: running_api.Api, client: httpx.AsyncClient, goal: dict[str, Any], expected: str | None
) -> None:
    await see(api, "tag_id", "contact.tag.added", ("t1", 1))
    await see(api, "tag_name", "contact.tag.added", ("VIP", 1))
    await see(api, "currency", "payment.completed", ("EUR", 1))
    await see(api, "stage", "pipeline.stage.changed", (seen_values.stage_value("sales", "won"), 1))
    found = details(await client.post(GOALS, json=goal))
    assert [detail for _, detail in found] == ([] if expected is None else [found[0][1]])
    if expected is not None:
        assert found[0][1].startswith(expected)
