"""Part of `goalworker doctor` in PostgreSQL: version, clocks, limits, locks, rights, schema, outbox, exits, pauses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config, errors
from goalworker.admin import database_connection, findings
from goalworker.inspection import outbox_report
from goalworker.pipeline import clock_skew, outbox, paused_topics, refused_messages
from goalworker.postgres import advisory_locks, connections, database_errors, migrations, pooler, tables
from goalworker.stores import enrollments

POSTGRESQL_MIN: Final = 15
# Workflows with waiting exits that are named: those with most of them.
WORKFLOWS_MAX: Final = 5


async def examine(settings: config.Settings) -> findings.Findings:
    """Yield the findings about PostgreSQL; DependencyError where it does not answer."""
    async with database_connection.pool(settings, migrated=False) as pool:
        yield await _version(settings, pool)
        yield await _skew(pool)
        yield await _limits(settings, pool)
        yield await _locks(pool)
        refusals = {role: await _refusal(pool, role) for role in (tables.WORKER_ROLE, tables.API_ROLE)}
        for finding in _rights(refusals):
            yield finding
        if behind := await migrations.problem(pool):
            yield findings.problem("migrations", behind)
            return
        yield findings.ok("migrations", f"the schema is at {await migrations.current(pool)}")
        if refusals[tables.WORKER_ROLE] is None:
            for finding in await _content(settings, pool):
                yield finding


async def _version(settings: config.Settings, pool: sa_async.AsyncEngine) -> findings.Finding:
    async with pool.connect() as connection:
        version = (await connection.exec_driver_sql("SHOW server_version")).scalar_one()
    where = database_errors.mask_password(settings.database_url())
    if int(str(version).partition(".")[0]) < POSTGRESQL_MIN:
        needed = f"goalworker needs {POSTGRESQL_MIN} or later: upgrade it"
        return findings.problem("database", f"{where} is PostgreSQL {version}; {needed}")
    return findings.ok("database", f"{where} answers; PostgreSQL {version}")


async def _limits(settings: config.Settings, pool: sa_async.AsyncEngine) -> findings.Finding:
    """Read back the limits that every transaction relies on, which a pooler may have dropped."""
    async with pool.connect() as connection:
        rows = await connection.exec_driver_sql(
            "SELECT lower(name) AS name, lower(setting) AS setting FROM pg_settings"
        )
        found = {row["name"]: row["setting"] for row in rows.mappings()}
        is_pooled = pooler.is_pooled((await connection.get_raw_connection()).driver_connection)
    unmet = unmet_limits(connections.session_settings(settings.database.statement_timeout_seconds), found)
    if unmet:
        remedy = "connect without a pooler, or let it pass `SET LOCAL` through"
        return findings.problem("limits", f"the database does not hold {', '.join(unmet)}: {remedy}")
    how = "set in each transaction, because of a pooler" if is_pooled else "set for each connection"
    return findings.ok("limits", f"timeouts, time zone and isolation hold; {how}")


async def _locks(pool: sa_async.AsyncEngine) -> findings.Finding:
    if sentence := await advisory_locks.problem(pool):
        return findings.problem("locks", sentence)
    return findings.ok("locks", "advisory locks keep two connections apart")


def unmet_limits(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Return the settings that differ from the wanted ones, each with both values."""
    names = {name: name.removeprefix("default_") for name in wanted}
    return [
        f"{names[name]} ({found.get(names[name], 'unknown')} instead of {value})"
        for name, value in wanted.items()
        if found.get(names[name]) != value.lower()
    ]


async def _skew(pool: sa_async.AsyncEngine) -> findings.Finding:
    skew_seconds = await clock_skew.skew_seconds(pool)
    detail = f"the database's clock is {abs(skew_seconds):.3f} s {'ahead of' if skew_seconds > 0 else 'behind'} ours"
    if clock_skew.is_large(skew_seconds):
        return findings.warn("clocks", f"{detail}: let both follow the same time servers")
    return findings.ok("clocks", detail)


async def _refusal(pool: sa_async.AsyncEngine, role: str) -> str | None:
    """Return why this login cannot take a role, or None if it can."""
    try:
        async with connections.transaction(pool, role, "cli"):
            return None
    except asyncpg.InsufficientPrivilegeError as error:
        return findings.first_line(error)
    except errors.RefusedError as error:
        return error.sentence


def _rights(refusals: Mapping[str, str | None]) -> Iterable[findings.Finding]:
    for role, refusal in refusals.items():
        if refusal is None:
            yield findings.ok("rights", f"the role {role} can be taken")
        elif None in refusals.values():
            yield findings.ok("rights", f"the role {role} is for another login: {refusal}")
        else:
            yield findings.problem("rights", f"{refusal}: let an administrator run what `goalworker db roles` prints")


async def _content(settings: config.Settings, pool: sa_async.AsyncEngine) -> Iterable[findings.Finding]:
    async with connections.transaction(pool, tables.WORKER_ROLE, "cli") as sql:
        tracking = await sql.fetchval("SELECT enrollment_tracking FROM installation")
        now = await sql.fetchval(connections.SELECT_NOW_SECONDS)
        waiting = await outbox.status(sql)
        held = await refused_messages.status(sql)
        waiting_exits = await enrollments.waiting_exits(sql)
        paused = await sql.fetch(paused_topics.PAUSED)
    names = settings.topics.model_dump()
    return [
        _mode(settings, tracking),
        _outbox(waiting, now),
        *(findings.problem("outbox", outbox_report.sentence(refused, names[refused.topic])) for refused in held),
        exits(waiting_exits),
        *map(_paused, paused),
    ]


def _mode(settings: config.Settings, tracking: bool | None) -> findings.Finding:
    wanted = settings.enrollments.tracking
    if tracking in (None, wanted):
        return findings.ok("tracking", f"enrollments are {'' if wanted else 'not '}tracked")
    right = f"GOALWORKER_ENROLLMENTS__TRACKING={str(tracking).lower()}"
    return findings.problem(
        "tracking", f"this database was set up with {right}, which cannot be changed later: set that"
    )


def _outbox(waiting: Sequence[outbox.Pending], now: float) -> findings.Finding:
    age_seconds = max((now - pending.oldest_timestamp_seconds for pending in waiting), default=0.0)
    records = sum(pending.records for pending in waiting)
    detail = f"{records} messages wait to be published, the oldest for {age_seconds:.0f} s"
    if age_seconds > outbox_report.AGE_MAX_SECONDS:
        return findings.warn("outbox", f"{detail}: is a worker running, and may it write to the topics?")
    return findings.ok("outbox", detail)


def exits(waiting: Sequence[enrollments.WaitingExits]) -> findings.Finding:
    """Return the finding about exits that wait, which is as it should be while their workflows are paused."""
    if not waiting:
        return findings.ok("exits", "no exit waits for an activation of its workflow")
    total = sum(workflow.exits for workflow in waiting)
    waits = "1 exit waits for an activation of its workflow" if total == 1 else f"{total} exits wait for an activation"
    named = [
        f"{workflow.exits} in {workflow.workflow_id} of {workflow.tenant_id}, deactivated at "
        f"{workflow.deactivated_at:%Y-%m-%dT%H:%M:%SZ}"
        for workflow in waiting[:WORKFLOWS_MAX]
    ]
    if more := len(waiting[WORKFLOWS_MAX:]):
        named.append(f"workflows not named here: {more}")
    remedy = "a workflow that runs again needs a `workflow.activated` of its engine"
    return findings.ok("exits", f"{waits} ({'; '.join(named)}): {remedy}")


def _paused(row: Any) -> findings.Finding:
    return findings.problem(
        "paused",
        f"{row['topic']} is paused ({row['reason']}): look at `goalworker dlq list --topic {row['topic']}`, then run "
        f"`goalworker topics resume {row['topic']}`",
    )
