"""Migrations by alembic, creation of the roles, and checks that a database fits this build."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command, config, migration, script
from sqlalchemy.ext import asyncio as sa_async

import goalworker
from goalworker import outages
from goalworker.errors import RefusedError
from goalworker.postgres import advisory_locks, connections, database_errors, pooler, tables

PROBE_TIMEOUT_SECONDS: Final = 5.0
_MIGRATION_LOCK: Final = 0x6D696772
_LOCK_POLL_SECONDS: Final = 0.1


def upgrade(url: str, revision: str = "head") -> str:
    """Create the roles if this login may, upgrade the schema to a revision, and return the revision it has then.

    Several processes may do so at once. A newer schema, as after the rollback of a release, is left as it is.
    RefusedError where advisory locks do not lock.
    """
    asyncio.run(_require_locks(url))
    return str(asyncio.run(_with_connection(url, lambda connection: _migrate(connection, revision, command.upgrade))))


def downgrade(url: str, revision: str = "base") -> None:
    """Downgrade the schema to a revision; the roles stay, since other databases may use them."""
    asyncio.run(_with_connection(url, lambda connection: _migrate(connection, revision, command.downgrade)))


@cache
def head() -> str:
    """Return the newest revision that this build knows."""
    return script.ScriptDirectory(str(_folder())).get_current_head() or ""


@cache
def is_known(revision: str) -> bool:
    """Say whether this build knows a revision; an unknown one is from a newer build, which is fine."""
    return revision in {known.revision for known in script.ScriptDirectory(str(_folder())).walk_revisions()}


async def current(pool: sa_async.AsyncEngine) -> str | None:
    """Return the revision of a database's schema, None if it was never migrated.

    RefusedError if the login sees no schema, so that the revision is unknown, or if the database is not UTF8.
    """
    async with pool.connect() as connection:
        await connection.run_sync(_require_utf8)
        found = await connection.run_sync(_current)
        if found is None:
            await _require_schema(connection)
        return found


def _require_utf8(connection: sa.Connection) -> None:
    name, encoding = connection.execute(sa.text("SELECT current_database(), current_setting('server_encoding')")).one()
    if encoding != "UTF8":
        raise RefusedError(
            f"the database {name} cannot store every text of events: its encoding is {encoding}. Create another "
            "one, with CREATE DATABASE ... TEMPLATE template0 ENCODING 'UTF8'."
        )


async def _require_schema(connection: sa_async.AsyncConnection) -> None:
    result = await connection.execute(
        sa.text("SELECT current_schema(), current_setting('search_path'), current_user, current_database()")
    )
    schema, search_path, user, name = result.one()
    if schema is None:
        raise database_errors.missing_schema(f"{name} (as {user})", search_path)


async def problem(pool: sa_async.AsyncEngine) -> str | None:
    """Return a sentence if the schema is older than this build, otherwise None."""
    found = await current(pool)
    if found == head() or (found is not None and not is_known(found)):
        return None
    return f"the database's schema is at {found or 'nothing'}, this build needs {head()}: run `goalworker db upgrade`"


async def probe(pool: sa_async.AsyncEngine, url: str, report: outages.Report) -> BaseException | None:
    """Report the checks `database` and `migrations`, and return the error if the database cannot be used."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
            await connections.ping(pool)
            behind = await problem(pool)
    except Exception as error:
        if not (database_errors.is_transient(error) or database_errors.is_permanent(error)):
            raise
        report("database", database_errors.summarize(url, error), database_errors.kind_of_outage(error))
        return error
    report("database", None)
    report("migrations", behind, "behind")
    return None


def roles_sql(*, migrate: str, worker: str, api: str) -> str:
    """Return the SQL with which an administrator creates the roles and grants them; the logins may be the same."""
    return "\n".join(
        [
            "-- In goalworker's database. Create a missing login with: CREATE ROLE name LOGIN PASSWORD '...';",
            *(f"CREATE ROLE {role} NOLOGIN;" for role in _ROLES),
            f"GRANT {tables.WORKER_ROLE} TO {_quoted(worker)};",
            f"GRANT {tables.API_ROLE} TO {_quoted(api)};",
            f"GRANT USAGE, CREATE ON SCHEMA public TO {_quoted(migrate)};",
        ]
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_ROLES: Final = (tables.WORKER_ROLE, tables.API_ROLE)


def _migrate(connection: sa.Connection, revision: str, step: object) -> str | None:
    if pooler.is_pooled(connection.connection.driver_connection):
        # One transaction: the next one may run on another connection, and a session's lock would stay behind.
        _lock(connection, "pg_try_advisory_xact_lock")
        return _migrate_locked(connection, revision, step)
    _lock(connection, "pg_try_advisory_lock")
    connection.commit()
    try:
        return _migrate_locked(connection, revision, step, commit=connection.commit)
    finally:
        connection.rollback()
        connection.execute(sa.text(f"SELECT pg_advisory_unlock({_MIGRATION_LOCK})"))
        connection.commit()


def _lock(connection: sa.Connection, function: str) -> None:
    """Wait for the lock without a snapshot: CREATE INDEX CONCURRENTLY, under the lock, waits for every older one."""
    while not connection.execute(sa.text(f"SELECT {function}({_MIGRATION_LOCK})")).scalar_one():
        connection.rollback()
        time.sleep(_LOCK_POLL_SECONDS)


def _migrate_locked(
    connection: sa.Connection, revision: str, step: object, commit: Callable[[], object] = lambda: None
) -> str | None:
    if step is command.upgrade:
        _require_utf8(connection)
        _ensure_roles(connection)
        commit()
        found = _current(connection)
        if found is not None and not is_known(found):
            return found
        commit()  # each migration is a transaction of its own
    settings = config.Config()
    settings.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    settings.attributes["connection"] = connection
    settings.attributes["is_one_transaction"] = connection.in_transaction()
    step(settings, revision)  # type: ignore[operator]
    found = _current(connection)
    connection.commit()
    return found


def _ensure_roles(connection: sa.Connection) -> None:
    user = connection.execute(sa.text("SELECT current_user")).scalar_one()
    for role in _ROLES:
        try:
            _ensure_role(connection, role)
        except sa.exc.ProgrammingError as error:
            raise RefusedError(
                f"the user {user} may not create the role {role}. Ask an administrator to run what "
                "`goalworker db roles` prints, then run `goalworker db upgrade` again."
            ) from error
        _take_role(connection, role)


def _ensure_role(connection: sa.Connection, role: str) -> None:
    # Roles belong to the whole server: another process may create the same one at the same moment.
    connection.execute(
        sa.text(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN "
            f"CREATE ROLE {role} NOLOGIN; END IF; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
    )


def _take_role(connection: sa.Connection, role: str) -> None:
    """Grant a role to this login if it may; worker and API may have logins of their own."""
    # Since PostgreSQL 16 a member may lack the right to SET ROLE, even the creator of the role.
    version = connection.dialect.server_version_info or (0,)
    privilege = "SET" if version >= (16,) else "MEMBER"
    if not connection.execute(sa.text(f"SELECT pg_has_role(current_user, '{role}', '{privilege}')")).scalar_one():
        connection.execute(
            sa.text(
                f"DO $$ BEGIN GRANT {role} TO CURRENT_USER; EXCEPTION WHEN insufficient_privilege THEN NULL; END $$"
            )
        )


def _current(connection: sa.Connection) -> str | None:
    return migration.MigrationContext.configure(connection).get_current_revision()


def _folder() -> Path:
    """Return the folder of migrations: inside an installed package, beside the package in a checkout."""
    package = Path(goalworker.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


async def _require_locks(url: str) -> None:
    async with _pool(url, 2) as pool:
        await advisory_locks.require(pool)


async def _with_connection(url: str, run: object) -> object:
    async with _pool(url, 1) as pool, pool.connect() as connection:
        return await connection.run_sync(run)  # type: ignore[arg-type]


@asynccontextmanager
async def _pool(url: str, size: int) -> AsyncIterator[sa_async.AsyncEngine]:
    pool = connections.engine(url, pool_size=size, statement_timeout_seconds=600, application="goalworker-migrate")
    try:
        with database_errors.explain_errors(url):
            yield pool
    finally:
        await pool.dispose()
