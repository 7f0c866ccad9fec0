"""Goals over HTTP: the calls of the contract, their answers, and races."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from goalworker.postgres import connections
from goalworker.stores import goal_store
from tests.kit.running_api import FORM, GOALS, PATH, TAG, UNKNOWN, changed, create, pointers, problem

FIELDS = [
    "id",
    "workflow_id",
    "goal_type",
    "criteria",
    "name",
    "is_active",
    "version",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
    "deleted_at",
]


@pytest.mark.smoke
async def test_a_created_goal_has_every_field_an_address_and_an_etag(client: httpx.AsyncClient) -> None:
    answer = await client.post(GOALS, json={**TAG, "name": "Signed"})
    assert list(answer.json()) == [*FIELDS, "warnings"]
    goal = changed(answer, 201)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"{GOALS}/{goal['id']}"
    assert answer.headers["etag"] == '"1"'
    assert {name: value for name, value in goal.items() if not name.endswith("_at") and name != "id"} == {
        "workflow_id": "onboarding",
        "goal_type": "tag_added",
        "criteria": {"tag_id": "t1"},
        "name": "Signed",
        "is_active": True,
        "version": 1,
        "created_by": "ann",
        "updated_by": "ann",
    }
    assert UUID(goal["id"]).version == 4
    assert goal["created_at"] == goal["updated_at"]
    assert (goal["created_at"][-1], goal["deleted_at"]) == ("Z", None)
    shown = await client.get(answer.headers["location"])
    assert (shown.status_code, shown.json(), shown.headers["etag"]) == (200, goal, '"1"')


CRITERIA: list[tuple[str, str, dict[str, Any]]] = [
    ("tag_added", '{"tag_id": "9", "tag_name": null}', {"tag_id": "9"}),
    ("tag_added", '{"tag_id": "9", "tag_name": " Customer "}', {"tag_id": "9", "tag_name": " Customer "}),
    ("purchase_made", '{"min_amount": 100.00, "currency": "eur"}', {"min_amount": "100", "currency": "EUR"}),
    ("purchase_made", '{"min_amount": 0.123456789012345678}', {"min_amount": "0.123456789012345678"}),
    ("purchase_made", '{"min_amount": "0.10", "any_purchase": false}', {"min_amount": "0.1"}),
    ("purchase_made", '{"min_amount": 1e2}', {"min_amount": "100"}),
    ("purchase_made", '{"any_purchase": true}', {"any_purchase": True}),
    ("appointment_booked", '{"any_appointment": true}', {"any_appointment": True}),
    ("appointment_booked", '{"service_id": "a/b"}', {"service_id": "a/b"}),
    ("form_submitted", '{"form_id": "ƒ"}', {"form_id": "ƒ"}),
    ("form_submitted", '{"form_id": ["ƒ", "f", "ƒ"]}', {"form_id": ["f", "ƒ"]}),
    ("purchase_made", '{"product_id": ["p1", "p1"], "currency": "eur"}', {"product_id": "p1", "currency": "EUR"}),
    ("pipeline_stage_reached", '{"stage_id": "s", "pipeline_id": "p"}', {"pipeline_id": "p", "stage_id": "s"}),
]


async def test_criteria_come_back_normalised_and_amounts_exact(client: httpx.AsyncClient) -> None:
    for number, (goal_type, given, criteria) in enumerate(CRITERIA):
        body = f'{{"goal_type": "{goal_type}", "criteria": {given}}}'
        answer = await client.post(
            f"/api/v1/workflows/{number}/goals", content=body, headers={"content-type": "application/json"}
        )
        assert answer.json()["criteria"] == criteria


async def test_the_list_is_in_the_order_of_creation_and_pages_do_not_overlap(client: httpx.AsyncClient) -> None:
    made = [await create(client, {**TAG, "criteria": {"tag_id": f"t{number}"}}) for number in range(3)]
    assert (await client.get(GOALS)).json() == {"goals": made, "total": 3, "offset": 0, "limit": 50}
    pages = [(await client.get(GOALS, params={"offset": offset, "limit": 2})).json() for offset in (0, 2, 4)]
    assert [page["goals"] for page in pages] == [made[:2], made[2:], []]
    assert [(page["total"], page["offset"], page["limit"]) for page in pages] == [(3, 0, 2), (3, 2, 2), (3, 4, 2)]
    assert (await client.get("/api/v1/workflows/another/goals")).json()["total"] == 0


async def test_the_query_is_checked_and_all_its_faults_are_named(client: httpx.AsyncClient) -> None:
    found = problem(
        await client.get(GOALS, params={"offset": "-1", "limit": "201", "include_deleted": "yes", "page": "2"}),
        400,
        "invalid-request",
    )
    assert sorted(pointers(found)) == ["?include_deleted", "?limit", "?offset", "?page"]
    assert {"pointer": "?limit", "detail": '`limit` must be less than or equal to 200; got "201"'} in found["errors"]


async def test_a_change_makes_a_version_and_one_that_changes_nothing_does_not(client: httpx.AsyncClient) -> None:
    goal = await create(client, {"goal_type": "purchase_made", "criteria": {"min_amount": 100}})
    address = f"{GOALS}/{goal['id']}"
    same = await client.patch(address, json={"criteria": {"min_amount": "100.00", "currency": None}, "name": None})
    assert (changed(same), same.headers["etag"]) == (goal, '"1"')
    assert changed(await client.patch(address, json={})) == goal
    answer = await client.patch(address, json={"criteria": {"currency": "eur"}, "name": "n", "is_active": False})
    assert answer.headers["etag"] == '"2"'
    assert changed(answer) == goal | {
        "criteria": {"currency": "EUR"},
        "name": "n",
        "is_active": False,
        "version": 2,
        "updated_at": answer.json()["updated_at"],
    }
    assert answer.json()["updated_at"] > goal["updated_at"]


async def test_of_concurrent_changes_of_a_version_one_wins(client: httpx.AsyncClient) -> None:
    address = f"{GOALS}/{(await create(client))['id']}"
    for version in (1, 2):
        changes = [
            client.patch(address, json={"name": f"{version}-{number}"}, headers={"If-Match": f'"{version}"'})
            for number in range(8)
        ]
        answers = await asyncio.gather(*changes)
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    stale = next(answer for answer in answers if answer.status_code == 412)
    problem(stale, 412, "stale-version", "The goal is at version 3, not 2; get it again, then change it")
    assert (await client.get(address)).json()["version"] == 3


async def test_an_etag_of_another_version_is_stale(client: httpx.AsyncClient) -> None:
    goal = await create(client)
    for if_match in ('W/"1"', '"abc"', '"0"', '"99999999999999999999"', '"2"'):
        headers = {"If-Match": if_match}
        problem(await client.delete(f"{GOALS}/{goal['id']}", headers=headers), 412, "stale-version")
        change = client.patch(f"{GOALS}/{goal['id']}", headers=headers, json={"name": "new"})
        problem(await change, 412, "stale-version")
    assert (await client.get(f"{GOALS}/{goal['id']}")).json() == goal


async def test_if_match_star_changes_any_version_and_a_malformed_etag_is_refused(
    client: httpx.AsyncClient,
) -> None:
    address = f"{GOALS}/{(await create(client))['id']}"
    assert (await client.patch(address, json={"name": "a"}, headers={"If-Match": "*"})).status_code == 200
    for if_match in ("2", "", '"1", "2"'):
        found = problem(await client.delete(address, headers={"If-Match": if_match}), 400, "invalid-request")
        assert pointers(found) == ["header If-Match"]
    assert (await client.delete(address, headers={"If-Match": '"2"'})).status_code == 204


async def test_a_deleted_goal_is_in_the_list_with_deleted_ones_and_nowhere_else(client: httpx.AsyncClient) -> None:
    goal = await create(client)
    address = f"{GOALS}/{goal['id']}"
    answer = await client.delete(address)
    assert (answer.status_code, answer.content) == (204, b"")
    for gone in (client.get(address), client.patch(address, json={"name": "x"}), client.delete(address)):
        problem(await gone, 404, "not-found", f"Goal {goal['id']} not found")
    assert (await client.get(GOALS)).json()["goals"] == []
    (shown,) = (await client.get(GOALS, params={"include_deleted": "true"})).json()["goals"]
    assert shown["deleted_at"] == shown["updated_at"] > goal["updated_at"]
    assert [entry["action"] for entry in (await client.get(f"{address}/audit")).json()["entries"]] == [
        "created",
        "deleted",
    ]


async def test_the_audit_says_who_changed_what_when_and_from_which_to_which(
    client: httpx.AsyncClient, api: Any
) -> None:
    goal = await create(client)
    address = f"{GOALS}/{goal['id']}"
    async with api.holder(sub="eve") as eve:
        paused = changed(await eve.patch(address, json={"is_active": False}))
    before = {"goal_type": "tag_added", "criteria": {"tag_id": "t1"}, "name": None, "is_active": True}
    assert (await client.get(f"{address}/audit")).json() == {
        "entries": [
            {
                "at": goal["created_at"],
                "actor": "ann",
                "action": "created",
                "version": 1,
                "before": None,
                "after": before,
            },
            {
                "at": paused["updated_at"],
                "actor": "eve",
                "action": "updated",
                "version": 2,
                "before": before,
                "after": before | {"is_active": False},
            },
        ]
    }


async def test_concurrent_creations_keep_to_the_maximum(client: httpx.AsyncClient) -> None:
    wanted = [{**TAG, "criteria": {"tag_id": f"t{number}"}} for number in range(8)]
    answers = await asyncio.gather(*(client.post(GOALS, json=goal) for goal in wanted))
    refused = [answer for answer in answers if answer.status_code != 201]
    assert len(refused) == 5
    for answer in refused:
        problem(answer, 400, "too-many-goals", "Maximum of 3 goals per workflow exceeded")
    assert (await client.get(GOALS)).json()["total"] == 3


async def test_the_same_goal_is_a_conflict_by_post_and_by_patch(client: httpx.AsyncClient) -> None:
    first = await create(client, {"goal_type": "purchase_made", "criteria": {"min_amount": 100}})
    again = await client.post(GOALS, json={"goal_type": "purchase_made", "criteria": {"min_amount": "100.0"}})
    detail = f"Goal {first['id']} of this workflow already has the same goal_type and criteria"
    problem(again, 409, "duplicate-goal", detail)
    other = await create(client, {"goal_type": "purchase_made", "criteria": {"any_purchase": True}})
    change = {"criteria": {"min_amount": 100}}
    problem(await client.patch(f"{GOALS}/{other['id']}", json=change), 409, "duplicate-goal", detail)


async def test_the_logic_is_any_until_it_is_set(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    settings = f"{PATH}/goal-settings"
    assert (await client.get(settings)).json() == {"logic": "any"}
    for logic in ("all", "never", "any"):
        answer = await client.put(settings, json={"logic": logic})
        assert (answer.status_code, answer.json()) == (200, {"logic": logic})
        assert (await client.get(settings)).json() == {"logic": logic}
    assert await administrator.fetchval("SELECT count(*) FROM audit_log WHERE actor = 'ann'") == 3
    found = problem(await client.put(settings, json={"logic": "some", "x": 1}), 400, "invalid-request")
    assert found["errors"] == [
        {"pointer": "/logic", "detail": "`logic` must be 'any', 'all' or 'never'; got \"some\""},
        {"pointer": "/x", "detail": "`x` is unknown; there are logic"},
    ]
    problem(await client.put(settings, json={}), 400, "invalid-request", "`logic` is missing")


# --- validate ---


async def test_good_goals_are_valid_and_nothing_is_stored(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"{GOALS}/validate", json={"goals": [TAG, FORM]})
    assert (answer.status_code, answer.json()) == (200, {"valid": True, "errors": [], "warnings": []})
    assert (await client.get(GOALS)).json()["total"] == 0


async def test_each_fault_of_each_goal_is_named_by_its_index(client: httpx.AsyncClient) -> None:
    goals = [TAG, {"goal_type": "form_submitted", "criteria": {}, "name": 1}, 7, TAG, {"goal_type": "sale"}]
    answer = await client.post(f"{GOALS}/validate", json={"goals": goals})
    found = answer.json()
    assert (answer.status_code, found["valid"]) == (200, False)
    assert [(error["index"], error["pointer"]) for error in found["errors"]] == [
        (1, "/criteria"),
        (1, "/name"),
        (2, ""),
        (3, ""),
        (3, ""),
        (4, "/goal_type"),
    ]
    assert {error["detail"] for error in found["errors"]} >= {
        "Goal criteria cannot be empty",
        "A goal must be an object",
        "Goal 0 already has the same goal_type and criteria",
        str(goal_store.TooManyGoalsError(3)),
    }


async def test_without_goals_the_stored_ones_are_checked(client: httpx.AsyncClient) -> None:
    await create(client)
    for content, kind in ((b"", None), (b"{}", "application/json"), (b'{"goals": null}', "application/json")):
        answer = await client.post(
            f"{GOALS}/validate", content=content, headers={"content-type": kind} if kind else None
        )
        assert (answer.status_code, answer.json()) == (200, {"valid": True, "errors": [], "warnings": []})
    found = problem(await client.post(f"{GOALS}/validate", json={"goals": 1, "x": 1}), 400, "invalid-request")
    assert pointers(found) == ["/goals", "/x"]


# --- addresses ---


async def test_any_other_address_is_not_found(client: httpx.AsyncClient) -> None:
    for path in (
        "/",
        f"{GOALS}/",
        f"{GOALS}/no-uuid",
        f"{GOALS}/no-uuid/audit",
        f"{GOALS}/{UNKNOWN}/x",
        "/api/v1/workflows//goals",
        "/api/v1/workflows/a%2Fb/goals",
        f"/api/v1/workflows/{'w' * 256}/goals",
        "/api/v1/workflows/%C2%85/goals",
        "/api/v1/workflows/%00/goals",
        f"/api/v1/enrollments/{'%C3%A4' * 128}",
    ):
        problem(await client.get(path), 404, "not-found")


async def test_a_wrong_method_is_answered_with_the_allowed_ones(client: httpx.AsyncClient) -> None:
    for method, path, allowed in (
        ("PUT", GOALS, "GET, POST"),
        ("POST", f"{GOALS}/{UNKNOWN}", "DELETE, GET, PATCH"),
        ("GET", f"{GOALS}/validate", "POST"),
        ("DELETE", f"{PATH}/goal-settings", "GET, PUT"),
        ("BREW", GOALS, "GET, POST"),
    ):
        answer = await client.request(method, path)
        assert answer.headers["allow"] == allowed
        problem(answer, 405, "method-not-allowed", f"{method} is not allowed here; allowed: {allowed}")
    answer = await client.head(GOALS)
    assert (answer.status_code, answer.content) == (405, b"")


async def test_a_goal_of_another_workflow_is_not_found(client: httpx.AsyncClient) -> None:
    goal = await create(client)
    elsewhere = f"/api/v1/workflows/another/goals/{goal['id']}"
    for answer in (
        await client.get(elsewhere),
        await client.patch(elsewhere, json={"name": "x"}),
        await client.delete(elsewhere),
        await client.get(f"{elsewhere}/audit"),
    ):
        problem(answer, 404, "not-found", f"Goal {goal['id']} not found")


async def test_an_id_with_anything_but_a_slash_works_in_a_path(client: httpx.AsyncClient) -> None:
    path = "/api/v1/workflows/%C3%A4%20%3F%23%25:%22/goals"
    goal = await create(client, path=path)
    assert goal["workflow_id"] == 'ä ?#%:"'
    assert (await client.get(path)).json()["goals"] == [goal]
    assert (await client.get(f"{path}/{goal['id']}")).json() == goal
