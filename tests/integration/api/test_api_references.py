"""References of goals are checked with another system, which may be down."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib import parse

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from goalworker.api import references
from tests.kit import running_api
from tests.kit.running_api import FORM, GOALS, TENANT, create, problem

STAGE = {"goal_type": "pipeline_stage_reached", "criteria": {"pipeline_id": "sales", "stage_id": "won"}}
TIMEOUT_SECONDS = 0.3


@dataclass(slots=True)
class Crm:
    """A system with objects by (kind, id, tenant) that counts requests."""

    exists: set[tuple[str, str, str]] = field(default_factory=set)
    status: int = 200
    delay_seconds: float = 0.0
    asked: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        _, _, kind, id_ = scope["raw_path"].decode().split("/")
        wanted = (kind, parse.unquote(id_), parse.parse_qs(scope["query_string"].decode())["tenant"][0])
        self.asked[wanted] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.delay_seconds)
        self.at_once -= 1
        status = 404 if self.status == 200 and wanted not in self.exists else self.status
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def crm() -> Crm:
    return Crm({("form", "f1", TENANT), ("pipeline", "sales", TENANT), ("stage", "won", TENANT)})


@pytest.fixture
async def client(database_url: str, crm: Crm) -> AsyncIterator[httpx.AsyncClient]:
    async with running_api.serve(crm) as url:
        variables = {
            **running_api.TOKENS,
            "GOALWORKER_REFERENCES__URL": f"{url}/internal/{{kind}}/{{id}}?tenant={{tenant}}",
            "GOALWORKER_REFERENCES__TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
        }
        async with running_api.running(database_url, variables) as api, api.holder() as client:
            yield client


async def test_existing_references_are_accepted_and_cached(client: httpx.AsyncClient, crm: Crm) -> None:
    await create(client, STAGE)
    await create(client, STAGE, path="/api/v1/workflows/another/goals")
    assert crm.asked == {("pipeline", "sales", TENANT): 1, ("stage", "won", TENANT): 1}


async def test_a_missing_reference_is_refused_until_it_exists(client: httpx.AsyncClient, crm: Crm) -> None:
    crm.exists.clear()
    found = problem(await client.post(GOALS, json=FORM), 400, "reference-not-found", "Referenced form does not exist")
    assert found["errors"] == [{"pointer": "/criteria/form_id", "detail": "Referenced form does not exist"}]
    found = problem(await client.post(GOALS, json=STAGE), 400, "reference-not-found")
    assert [error["pointer"] for error in found["errors"]] == ["/criteria/pipeline_id", "/criteria/stage_id"]
    assert (await client.get(GOALS)).json()["total"] == 0
    crm.exists.add(("form", "f1", TENANT))
    await create(client, FORM)


async def test_each_id_of_a_list_is_asked_for_and_the_missing_ones_are_named(
    client: httpx.AsyncClient, crm: Crm
) -> None:
    goal = {**FORM, "criteria": {"form_id": ["f3", "f2", "f1"]}}
    found = problem(await client.post(GOALS, json=goal), 400, "reference-not-found")
    assert found["errors"] == [
        {"pointer": "/criteria/form_id", "detail": 'Referenced form does not exist: "f2"'},
        {"pointer": "/criteria/form_id", "detail": 'Referenced form does not exist: "f3"'},
    ]
    assert set(crm.asked) == {("form", id_, TENANT) for id_ in ("f1", "f2", "f3")}
    crm.exists |= set(crm.asked)
    await create(client, goal)


async def test_each_kind_is_requested_by_its_name(client: httpx.AsyncClient, crm: Crm) -> None:
    goals = [
        {"goal_type": "tag_added", "criteria": {"tag_id": "1", "tag_name": "n"}},
        {"goal_type": "purchase_made", "criteria": {"product_id": "2", "min_amount": 5, "currency": "EUR"}},
        {"goal_type": "appointment_booked", "criteria": {"calendar_id": "3", "service_id": "4"}},
        {"goal_type": "purchase_made", "criteria": {"any_purchase": True}},
    ]
    found = (await client.post(f"{GOALS}/validate", json={"goals": goals})).json()
    assert [(error["index"], error["pointer"], error["detail"]) for error in found["errors"] if error["pointer"]] == [
        (0, "/criteria/tag_id", "Referenced tag does not exist"),
        (1, "/criteria/product_id", "Referenced product does not exist"),
        (2, "/criteria/calendar_id", "Referenced calendar does not exist"),
        (2, "/criteria/service_id", "Referenced service does not exist"),
    ]
    assert crm.most_at_once > 1


async def test_any_id_arrives_as_it_is(client: httpx.AsyncClient, crm: Crm) -> None:
    for number, id_ in enumerate(("..", ".", "a/b", "a%2Fb", "?tenant=other", "{tenant}", "ä #&", "\\")):
        crm.exists.add(("form", id_, TENANT))
        goal = {"goal_type": "form_submitted", "criteria": {"form_id": id_}}
        await create(client, goal, path=f"/api/v1/workflows/{number}/goals")


async def test_new_criteria_are_checked_and_other_changes_are_not(client: httpx.AsyncClient, crm: Crm) -> None:
    address = f"{GOALS}/{(await create(client, FORM))['id']}"
    crm.status = 500
    assert (await client.patch(address, json={"name": "n", "is_active": False})).status_code == 200
    crm.status = 200
    refused = await client.patch(address, json={"criteria": {"form_id": "f2"}})
    problem(refused, 400, "reference-not-found", "Referenced form does not exist")
    problem(await client.patch(address, json={"criteria": {}}), 400, "invalid-request", "Goal criteria cannot be empty")
    found = problem(await client.patch(address, json={"criteria": {"x": 1}, "name": 1}), 400, "invalid-request")
    assert len(found["errors"]) == 2
    crm.exists.add(("form", "f2", TENANT))
    assert (await client.patch(address, json={"criteria": {"form_id": "f2"}})).json()["version"] == 3


async def test_stored_goals_are_validated_with_what_they_refer_to(
    client: httpx.AsyncClient, crm: Crm, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, lost = await create(client, STAGE), await create(client, FORM)
    assert (await client.post(f"{GOALS}/validate")).json() == {"valid": True, "errors": [], "warnings": []}
    crm.exists.discard(("form", "f1", TENANT))
    assert (await client.post(f"{GOALS}/validate")).json()["valid"]  # existing references are cached for a few seconds
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + references.CACHE_SECONDS)
    found = (await client.post(f"{GOALS}/validate")).json()
    assert found["errors"] == [
        {"goal_id": lost["id"], "pointer": "/criteria/form_id", "detail": "Referenced form does not exist"}
    ]
    assert kept["id"] not in str(found)


async def test_an_outage_of_the_other_system_is_a_503(client: httpx.AsyncClient, crm: Crm) -> None:
    for crm.status, crm.delay_seconds in ((500, 0), (301, 0), (204, 0), (403, 0), (200, 30)):
        for answer in (
            await client.post(GOALS, json=FORM),
            await client.post(f"{GOALS}/validate", json={"goals": [FORM]}),
        ):
            problem(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "2"
            assert answer.elapsed.total_seconds() < 3
    assert (await client.get(GOALS)).json()["total"] == 0


async def test_a_refused_connection_is_a_503(database_url: str) -> None:
    variables = {**running_api.TOKENS, "GOALWORKER_REFERENCES__URL": "http://127.0.0.1:1/{kind}/{id}"}
    async with running_api.running(database_url, variables) as api, api.holder() as client:
        problem(await client.post(GOALS, json=FORM), 503, "unavailable")
        await create(client, {"goal_type": "purchase_made", "criteria": {"any_purchase": True}})
