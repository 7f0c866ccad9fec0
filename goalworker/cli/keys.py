"""`goalworker keys`: the API keys of tenants."""

from typing import Annotated
from uuid import UUID

import typer
from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker.admin import database_connection
from goalworker.cli import common
from goalworker.stores import api_keys

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True, add_completion=False)

SomeTenant = Annotated[
    str | None,
    typer.Option(
        "--tenant", help="The tenant of the keys; without it, keys of all tenants, which only the schema's owner sees."
    ),
]


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="The tenant that the key acts for.")],
    scope: Annotated[str, typer.Option(help=f"Scopes, separated by commas: {', '.join(api_keys.SCOPES)}.")],
    name: Annotated[str, typer.Option(help="The name of the key's holder in the audit log.")],
    as_json: common.Json = False,
) -> None:
    """Create a key and print it. Only its hash is stored, so it cannot be shown again."""
    scopes = [name.strip() for name in scope.split(",") if name.strip()]
    key, stored = database_connection.run(
        common.load(), lambda pool: api_keys.create(pool, tenant, name, scopes), tenant=tenant
    )
    if as_json:
        shown = {"id": stored.id, "key": key, "tenant_id": tenant, "name": name, "scopes": stored.scopes}
        common.show_json(shown)
    else:
        common.say(f"{key}\n\nIts id is {stored.id}. Keep the key: it cannot be shown again.")


@app.command("list")
def list_(tenant: SomeTenant = None, as_json: common.Json = False) -> None:
    """List keys, including revoked ones; the keys themselves are not stored."""
    found = database_connection.run(common.load(), lambda pool: _keys(pool, tenant))
    rows = [structs.asdict(key) for key in found]
    if not as_json:
        rows = [row | {"scopes": ",".join(row["scopes"])} for row in rows]
    common.show(rows, as_json=as_json, empty="no keys")


@app.command()
def revoke(
    key_id: Annotated[UUID, typer.Argument(help="The key's id, as `keys list` shows it.")],
    tenant: SomeTenant = None,
    as_json: common.Json = False,
) -> None:
    """Revoke a key, at once and for ever."""
    database_connection.run(common.load(), lambda pool: _revoke(pool, tenant, key_id))
    common.report({"id": key_id, "revoked": True}, f"revoked {key_id}", as_json=as_json)


async def _revoke(pool: sa_async.AsyncEngine, tenant: str | None, key_id: UUID) -> None:
    tenants = {key.id: key.tenant_id for key in await _keys(pool, tenant)}
    if key_id not in tenants:
        raise api_keys.UnknownKeyError(key_id)
    await api_keys.revoke(pool, tenants[key_id], key_id)


async def _keys(pool: sa_async.AsyncEngine, tenant: str | None) -> list[api_keys.StoredKey]:
    return await (api_keys.list_all(pool) if tenant is None else api_keys.list_of_tenant(pool, tenant))
