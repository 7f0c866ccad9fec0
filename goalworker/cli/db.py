"""`goalworker db`: the schema and the roles."""

from typing import Annotated
from urllib import parse

import typer

from goalworker import errors
from goalworker.admin import database_connection
from goalworker.cli import common
from goalworker.postgres import migrations

app = typer.Typer(help="Upgrade or inspect the database schema.", no_args_is_help=True, add_completion=False)


@app.command()
def upgrade(as_json: common.Json = False) -> None:
    """Create the roles if this login may, and upgrade the schema; several processes may do so at once."""
    url = common.load().database_url()
    revision = migrations.upgrade(url)
    is_newer = not migrations.is_known(revision)
    newer = ", which is newer than this build: that is fine, nothing was changed" if is_newer else ""
    facts = {"revision": revision, "newer_than_build": is_newer}
    common.report(facts, f"the database's schema is at {revision}{newer}", as_json=as_json)


@app.command()
def current(as_json: common.Json = False) -> None:
    """Print the revision of the database's schema."""
    revision = common.run(_current())
    common.report({"revision": revision}, revision or "nothing: it was never migrated", as_json=as_json)


@app.command()
def check(as_json: common.Json = False) -> None:
    """Exit with 5 if the schema is older than this build needs; a newer schema is fine."""
    common.run(_check())
    common.report({"fits": True}, "the database's schema fits this build", as_json=as_json)


@app.command()
def roles(
    migrate_user: Annotated[str | None, typer.Option(help="The login of `db upgrade`; by default the URL's.")] = None,
    worker_user: Annotated[str | None, typer.Option(help="The login of `run`; by default the URL's.")] = None,
    api_user: Annotated[str | None, typer.Option(help="The login of `api`; by default the URL's.")] = None,
    as_json: common.Json = False,
) -> None:
    """Print the SQL with which an administrator creates the roles and grants them to the logins."""
    given = (migrate_user, worker_user, api_user)
    by_default = "" if all(given) else _user(common.load().database_url())
    migrate, worker, api = (user or by_default for user in given)
    sql = migrations.roles_sql(migrate=migrate, worker=worker, api=api)
    common.report({"sql": sql}, sql, as_json=as_json)


async def _current() -> str | None:
    async with database_connection.pool(common.load(), migrated=False) as pool:
        return await migrations.current(pool)


async def _check() -> None:
    async with database_connection.pool(common.load()):
        pass


def _user(url: str) -> str:
    user = parse.urlsplit(url).username
    if user is None:
        raise errors.SettingsError(
            "GOALWORKER_DATABASE__URL has no user; give --migrate-user, --worker-user and --api-user"
        )
    return parse.unquote(user)
