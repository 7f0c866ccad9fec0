"""Criteria over HTTP: lists of ids, settings, and warnings about what is seldom meant."""

from typing import Any

import httpx
import pytest

from goalworker.postgres import connections
from tests.kit.running_api import FORM, GOALS, TAG, changed, create, pointers, problem

PURCHASE = "purchase_made"
NO_CURRENCY = {"goal_type": PURCHASE, "criteria": {"min_amount": 100}}
TOTAL = {"goal_type": PURCHASE, "criteria": {"total_amount": 500, "currency": "EUR", "deadline": "P2W"}}


@pytest.fixture
async def _untracked(administrator: connections.Connection) -> None:
    await administrator.execute("INSERT INTO installation VALUES (1, false)")


async def test_a_list_of_ids_is_the_same_in_any_order(client: httpx.AsyncClient) -> None:
    goal = await create(client, {**TAG, "criteria": {"tag_id": ["t2", "t1"]}})
    other = await create(client, {**TAG, "criteria": {"tag_id": "t1"}})
    address = f"{GOALS}/{goal['id']}"
    same = await client.patch(address, json={"criteria": {"tag_id": ["t1", "t2", "t2"]}})
    assert changed(same) == goal
    for again in (["t1", "t2"], ["t1"]):
        problem(await client.post(GOALS, json={**TAG, "criteria": {"tag_id": again}}), 409, "duplicate-goal")
    problem(await client.patch(address, json={"criteria": {"tag_id": ["t1"]}}), 409, "duplicate-goal")
    more = changed(await client.patch(address, json={"criteria": {"tag_id": ["t3", "t1"]}}))
    assert (more["version"], more["criteria"]) == (2, {"tag_id": ["t1", "t3"]})
    assert (await client.get(GOALS)).json()["goals"] == [more, other]
    *_, entry = (await client.get(f"{address}/audit")).json()["entries"]
    assert [entry[side]["criteria"]["tag_id"] for side in ("before", "after")] == [["t1", "t2"], ["t1", "t3"]]


# --- warnings ---


def warning(**which: object) -> dict[str, object]:
    return {
        **which,
        "pointer": "/criteria/min_amount",
        "detail": "`min_amount` without `currency` compares amounts of every currency, so that 100 JPY count as 100 "
        'EUR do; add `currency`, such as "EUR"',
    }


@pytest.mark.real_world("PostHog#73047", "a threshold without a currency")
async def test_an_amount_without_a_currency_is_answered_with_a_warning(client: httpx.AsyncClient) -> None:
    created = (await client.post(GOALS, json=NO_CURRENCY)).json()
    assert created["warnings"] == [warning(goal_id=created["id"])]
    address = f"{GOALS}/{created['id']}"
    for change, expected in (
        ({"name": "n"}, created["warnings"]),
        ({"criteria": {"min_amount": 100, "currency": "eur"}}, []),
        ({"criteria": {"min_amount": 5}}, created["warnings"]),
    ):
        assert (await client.patch(address, json=change)).json()["warnings"] == expected
    assert "warnings" not in (await client.get(address)).json()


async def test_a_check_warns_and_the_goals_are_valid_all_the_same(client: httpx.AsyncClient) -> None:
    goals = [TAG, NO_CURRENCY, {"goal_type": PURCHASE, "criteria": {"min_amount": "ten"}}]
    found = (await client.post(f"{GOALS}/validate", json={"goals": goals})).json()
    assert [error["index"] for error in found["errors"]] == [2]
    assert found["warnings"] == [warning(index=1)]
    found = (await client.post(f"{GOALS}/validate", json={"goals": goals[:2]})).json()
    assert found == {"valid": True, "errors": [], "warnings": [warning(index=1)]}
    stored = await create(client, NO_CURRENCY)
    found = (await client.post(f"{GOALS}/validate")).json()
    assert found == {"valid": True, "errors": [], "warnings": [warning(goal_id=stored["id"])]}


@pytest.mark.real_world("open-saas#456", "an amount in cents")
async def test_an_amount_that_is_none_is_refused_with_one_in_major_units(client: httpx.AsyncClient) -> None:
    goal = {"goal_type": PURCHASE, "criteria": {"min_amount": "4990 cents", "currency": "EUR"}}
    found = problem(await client.post(GOALS, json=goal), 400, "invalid-request")
    assert "in major units such as 49.90" in found["detail"]


# --- settings ---


async def test_settings_come_back_normalised_everywhere(client: httpx.AsyncClient) -> None:
    goal = await create(client, TOTAL)
    assert goal["criteria"] == {"currency": "EUR", "total_amount": "500", "deadline": "P14D"}
    address = f"{GOALS}/{goal['id']}"
    assert (await client.get(address)).json() == goal
    assert (await client.get(GOALS)).json()["goals"] == [goal]
    same = {"currency": "eur", "total_amount": "500.00", "deadline": "PT336H", "reversals": "revoke", "times": None}
    assert changed(await client.patch(address, json={"criteria": same})) == goal
    problem(await client.post(GOALS, json={"goal_type": PURCHASE, "criteria": same}), 409, "duplicate-goal")
    kept = changed(await client.patch(address, json={"criteria": {**same, "reversals": "keep"}}))
    assert (kept["version"], kept["criteria"]["reversals"]) == (2, "keep")
    *_, entry = (await client.get(f"{address}/audit")).json()["entries"]
    assert [entry[side]["criteria"] for side in ("before", "after")] == [goal["criteria"], kept["criteria"]]


async def test_a_wrong_setting_is_named_with_a_right_example(client: httpx.AsyncClient) -> None:
    stored = {goal["goal_type"]: (await create(client, goal))["id"] for goal in (TAG, FORM, NO_CURRENCY)}
    cases: list[tuple[str, dict[str, Any], str, str]] = [
        ("tag_added", {"tag_id": "t", "times": 3}, "/criteria/times", '"within": "P30D"'),
        ("tag_added", {"tag_id": "t", "deadline": "P1M"}, "/criteria/deadline", "use P30D"),
        ("tag_added", {"tag_id": "t", "correlate_by": "deal_id"}, "/criteria/correlate_by", "correlation_id"),
        (PURCHASE, {"total_amount": 500, "deadline": "P2W"}, "/criteria/currency", '"EUR"'),
        ("form_submitted", {"form_id": ["f"] * 51}, "/criteria/form_id", '["a", "b"]'),
    ]
    for goal_type, given, pointer, example in cases:
        for answer in (
            await client.post(GOALS, json={"goal_type": goal_type, "criteria": given}),
            await client.patch(f"{GOALS}/{stored[goal_type]}", json={"criteria": given}),
        ):
            found = problem(answer, 400, "invalid-request")
            assert pointers(found) == [pointer]
            assert example in found["detail"]


@pytest.mark.usefixtures("_untracked")
async def test_without_tracking_there_is_no_deadline_and_no_correlation(client: httpx.AsyncClient) -> None:
    limits = {"deadline": "P30D", "correlate_by": "correlation_id"}
    counted = {**TAG, "criteria": {"tag_id": "t", "times": 3, "within": "P30D"}}
    address = f"{GOALS}/{(await create(client, counted))['id']}"
    for name, value in limits.items():
        given = {"tag_id": "t", name: value}
        for answer in (
            await client.post(GOALS, json={**TAG, "criteria": given}),
            await client.patch(address, json={"criteria": given}),
        ):
            found = problem(answer, 400, "invalid-request")
            assert pointers(found) == [f"/criteria/{name}"]
            assert "GOALWORKER_ENROLLMENTS__TRACKING=false" in found["detail"]
    drafts = [counted, {**TAG, "criteria": {"tag_id": "t", **limits}}]
    found = (await client.post(f"{GOALS}/validate", json={"goals": drafts})).json()
    assert [(error["index"], error["pointer"]) for error in found["errors"]] == [
        (1, "/criteria/deadline"),
        (1, "/criteria/correlate_by"),
    ]
    changed(await client.patch(address, json={"name": "n"}))
