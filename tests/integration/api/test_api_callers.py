"""Callers: API keys, scopes, and the isolation of tenants."""

import json
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from goalworker.postgres import connections, tables
from goalworker.stores import api_keys
from tests.kit import running_api, shells
from tests.kit.running_api import FORM, GOALS, OTHER, PATH, TAG, TENANT, UNKNOWN, create, problem

RUN = {"enrollment_id": "e1", "contact_id": "c1", "enrolled_at": "2026-05-01T12:00:00Z"}
ASKED: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("goals:read", "GET", GOALS, None),
    ("goals:read", "GET", f"{GOALS}/{{goal}}", None),
    ("goals:read", "GET", f"{GOALS}/{{goal}}/audit", None),
    ("goals:read", "GET", f"{GOALS}/stats", None),
    ("goals:read", "POST", f"{GOALS}/validate", {"goals": [TAG]}),
    ("goals:read", "GET", f"{PATH}/goal-settings", None),
    ("goals:read", "GET", f"{PATH}/achievements", None),
    ("goals:read", "GET", f"{PATH}/explanations?contact_id=c1", None),
    ("goals:read", "GET", "/api/v1/audit", None),
    ("goals:read", "GET", "/api/v1/enrollments/e1", None),
    ("goals:write", "POST", GOALS, FORM),
    ("goals:write", "PATCH", f"{GOALS}/{{goal}}", {"name": "x"}),
    ("goals:write", "DELETE", f"{GOALS}/{{goal}}", None),
    ("goals:write", "PUT", f"{PATH}/goal-settings", {"logic": "any"}),
    ("enrollments:write", "POST", f"{PATH}/enrollments", {"enrollments": [RUN]}),
]


async def known(administrator: connections.Connection, tenant: str = TENANT) -> None:
    """Insert an enrollment e1 of a tenant."""
    values = f"('{tenant}', 'e1', 'onboarding', 'c1', '2026-05-01T12:00:00Z')"
    await administrator.execute(
        f"INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at) VALUES {values}"
    )


async def test_every_call_needs_its_scope_and_none_implies_another(
    api: running_api.Api, client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = (await create(client))["id"]
    await known(administrator)
    for needed, method, path, body in ASKED:
        wrong = " ".join(scope for scope in api_keys.SCOPES if scope != needed)
        async with api.holder(scope=wrong) as lacking, api.holder(scope=f"other {needed}") as having:
            answer = await lacking.request(method, path.format(goal=goal), json=body)
            problem(answer, 403, "missing-scope", f"The scope `{needed}` is required")
            assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
            assert (await having.request(method, path.format(goal=goal), json=body)).status_code < 300


async def test_a_missing_scope_is_a_403_whatever_the_body(api: running_api.Api) -> None:
    async with api.holder(scope=None) as client, api.client() as nobody:
        problem(await client.post(GOALS, content=b"nonsense"), 403, "missing-scope")
        problem(await nobody.post(GOALS, content=b"nonsense"), 401, "unauthenticated")


async def test_objects_of_another_tenant_are_not_found(
    client: httpx.AsyncClient, other: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = (await create(client))["id"]
    await client.put(f"{PATH}/goal-settings", json={"logic": "all"})
    await known(administrator)
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None), ("GET", "/audit")):
        tail = body if isinstance(body, str) else ""
        sent = body if isinstance(body, dict) else None
        theirs = await other.request(method, f"{GOALS}/{goal}{tail}", json=sent)
        nobodys = await client.request(method, f"{GOALS}/{UNKNOWN}{tail}", json=sent)
        assert problem(theirs, 404, "not-found") == json.loads(nobodys.text.replace(UNKNOWN, goal))
    assert (await other.get("/api/v1/enrollments/e1")).json() == (await other.get("/api/v1/enrollments/e2")).json()
    assert (await other.get(GOALS, params={"include_deleted": "true"})).json()["total"] == 0
    assert (await other.get(f"{PATH}/goal-settings")).json() == {"logic": "any"}
    for report in (f"{PATH}/achievements", f"{GOALS}/stats", f"{PATH}/explanations?contact_id=c1"):
        nobodys = await client.get(report.replace("onboarding", "unknown"))
        assert problem(await other.get(report), 404, "not-found") == nobodys.json()
    # Another tenant may use the same ids: the same goal, and the same enrollment's id with another contact.
    await create(other)
    answer = await other.post(f"{PATH}/enrollments", json={"enrollments": [{**RUN, "contact_id": "c2"}]})
    assert answer.status_code == 202
    assert (await client.get(f"{GOALS}/{goal}")).status_code == 200


async def test_a_query_without_a_tenant_filter_sees_one_tenant_only(
    api: running_api.Api, client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await create(client)
    await known(administrator)
    for table in tables.TENANT_TABLES:
        async with connections.tenant_transaction(api.pool, OTHER, "test") as connection:
            assert (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one() == 0
    async with connections.tenant_transaction(api.pool, TENANT, "test") as connection:
        assert (await connection.execute(sa.select(sa.func.count()).select_from(tables.goals))).scalar_one() == 1
        with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
            await connection.execute(
                sa.insert(tables.audit_log).values(
                    tenant_id=OTHER, workflow_id="w", at=sa.func.now(), actor="a", action="created"
                )
            )


# --- keys ---


async def test_a_key_authenticates_its_holder_and_is_stored_nowhere(
    api: running_api.Api, administrator: connections.Connection
) -> None:
    key, stored = await api_keys.create(api.pool, TENANT, "the shop", ["goals:write"])
    async with api.client(**{"X-API-Key": key}) as client:
        assert (await create(client))["created_by"] == "the shop"
        problem(await client.get(GOALS), 403, "missing-scope")
    row = await administrator.fetchval("SELECT row_to_json(k)::text FROM api_keys k")
    assert key.removeprefix("gw_") not in row
    assert (stored.tenant_id, stored.name, stored.scopes) == (TENANT, "the shop", ("goals:write",))


async def test_a_revoked_key_is_refused_from_the_next_request_on(api: running_api.Api) -> None:
    key, stored = await api_keys.create(api.pool, TENANT, "k", api_keys.SCOPES)
    async with api.client(**{"X-API-Key": key}) as client:
        assert (await client.get(GOALS)).status_code == 200
        await api_keys.revoke(api.pool, TENANT, stored.id)
        problem(await client.get(GOALS), 401, "unauthenticated", "The key is unknown or revoked")


async def test_malformed_and_unknown_keys_are_refused(api: running_api.Api) -> None:
    key, _ = await api_keys.create(api.pool, TENANT, "k", api_keys.SCOPES)
    for wrong in ("", "gw_", key[:-1], f"{key}x", key.swapcase(), "gw_" + "A" * 43, "x" * 10_000, "gw_\xe4"):
        async with api.client() as client:
            answer = await client.get(GOALS, headers=[(b"x-api-key", wrong.encode("latin-1"))])
        problem(answer, 401, "unauthenticated")


async def test_a_key_is_made_for_one_tenant_only_and_revoked_by_no_other(api: running_api.Api) -> None:
    _, stored = await api_keys.create(api.pool, TENANT, "k", ["goals:read"])
    with pytest.raises(api_keys.UnknownKeyError):
        await api_keys.revoke(api.pool, OTHER, stored.id)
    assert await api_keys.list_of_tenant(api.pool, OTHER) == []
    assert await api_keys.list_of_tenant(api.pool, TENANT) == [stored]


async def test_every_caller_is_the_insecure_tenant(database_url: str) -> None:
    async with running_api.running(database_url, {}, insecure_tenant=TENANT) as api, api.client() as client:
        assert (await create(client))["created_by"] == "insecure"
    async with running_api.running(database_url, {}) as api, api.client() as nobody, api.holder() as bearer:
        problem(await nobody.get(GOALS), 401, "unauthenticated")
        answer = await bearer.get(GOALS)
        problem(answer, 401, "unauthenticated", "Tokens are not accepted here; send `X-API-Key: <key>`")


async def test_a_key_with_an_invalid_field_is_not_created(api: running_api.Api) -> None:
    for tenant, scopes, name, words in (
        ("a", ["goals:read", "goals"], "n", "not 'goals'"),
        ("a", [], "n", "one or more of goals:read, goals:write, enrollments:write"),
        ("a\nb", ["goals:read"], "n", "tenant"),
        ("a", ["goals:read"], "", "name"),
    ):
        with pytest.raises(api_keys.InvalidKeyError, match=words):
            await api_keys.create(api.pool, tenant, name, scopes)


# --- the command ---


def test_keys_are_made_listed_and_revoked_from_the_shell(with_database: shells.Shell) -> None:
    words = ["keys", "create", "--scope", "goals:write,goals:read", "--name", "shop"]
    made = with_database(*words, "--tenant", TENANT, "--json").rows
    assert list(made) == ["id", "key", "tenant_id", "name", "scopes"]
    assert (made["tenant_id"], made["name"], made["scopes"]) == (TENANT, "shop", ["goals:read", "goals:write"])
    assert with_database(*words, "--tenant", OTHER).out.startswith("gw_")
    assert with_database("keys", "revoke", made["id"]).out == f"revoked {made['id']}\n"
    listed = with_database("keys", "list", "--json").rows
    assert [(key["tenant_id"], key["revoked_at"] is None) for key in listed] == [(TENANT, False), (OTHER, True)]
    (mine,) = with_database("keys", "list", "--tenant", TENANT, "--json").rows
    assert mine == listed[0]
    shells.assert_one_sentence(with_database("keys", "revoke", made["id"], "--tenant", TENANT), 1, made["id"])
