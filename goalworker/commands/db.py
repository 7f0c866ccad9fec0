"""`goalworker db`: the schema and the roles."""

from typing import Annotated
from urllib import parse

import typer

from goalworker import errors, migrate
from goalworker.commands import common, database_connection

app = typer.Typer(
    help="Bring the database's schema up to date, or look at it.", no_args_is_help=True, add_completion=False
)


@app.command()
def upgrade() -> None:
    """Create the roles where that is allowed, and bring the schema up to date; several at once is fine."""
    url = common.load().database_url()
    with database_connection.explained(url):
        revision = migrate.upgrade(url)
    newer = "" if migrate.knows(revision) else ", which is newer than this build: that is fine, nothing was changed"
    common.say(f"the database's schema is at {revision}{newer}")


@app.command()
def current() -> None:
    """Print the revision that the database's schema is at."""
    common.say(common.run(_current()) or "nothing: it was never migrated")


@app.command()
def check() -> None:
    """Exit with 5 if the schema is older than this build needs; a newer one is fine."""
    common.run(_check())
    common.say("the database's schema fits this build")


@app.command()
def roles(
    migrate_user: Annotated[str | None, typer.Option(help="The login of `db upgrade`; by default the URL's.")] = None,
    worker_user: Annotated[str | None, typer.Option(help="The login of `run`; by default the URL's.")] = None,
    api_user: Annotated[str | None, typer.Option(help="The login of `api`; by default the URL's.")] = None,
) -> None:
    """Print the SQL with which an administrator makes the roles and says which login may take which."""
    given = (migrate_user, worker_user, api_user)
    by_default = "" if all(given) else _user(common.load().database_url())
    of_migration, of_worker, of_api = (user or by_default for user in given)
    common.say(migrate.roles_sql(migrate=of_migration, worker=of_worker, api=of_api))


async def _current() -> str | None:
    async with database_connection.pool(common.load(), migrated=False) as pool:
        return await migrate.current(pool)


async def _check() -> None:
    async with database_connection.pool(common.load()):
        pass


def _user(url: str) -> str:
    user = parse.urlsplit(url).username
    if user is None:
        raise errors.SettingsError(
            "GOALWORKER_DATABASE__URL names no user; say which with --migrate-user, --worker-user and --api-user"
        )
    return parse.unquote(user)
