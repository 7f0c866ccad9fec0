"""Preparations before the traffic: schema, topics, goals and logics."""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import asyncpg

from goalworker import errors
from goalworker.demo import tenant_setup
from goalworker.embedded import machine
from goalworker.postgres import connections, migrations
from goalworker.stores import goal_store

PARTITIONS: Final = 4
ACTOR: Final = "demo"


async def prepare(database_url: str, environment: Mapping[str, str]) -> None:
    """Migrate the database and create the topics, in parallel."""
    await asyncio.gather(asyncio.to_thread(migrations.upgrade, database_url), _make_topics(environment))


async def _make_topics(environment: Mapping[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "goalworker", "topics", "create", "--partitions", str(PARTITIONS),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
        start_new_session=True,  # Ctrl-C must reach only the demo
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise errors.DependencyError(f"The topics could not be created. {machine.log_end(output.decode())}")


_TENANT_KNOWN: Final = "SELECT exists(SELECT FROM goals WHERE tenant_id = $1)"


async def unused_tenant_names(database_url: str, count: int) -> tuple[str, ...]:
    """Return names of tenants without goals in the database, which may be kept from earlier runs."""
    connection = await asyncpg.connect(database_url)
    try:
        run = 1
        names = tenant_setup.tenant_names(count)
        while await connection.fetchval(_TENANT_KNOWN, names[0]):
            run += 1
            names = tenant_setup.tenant_names(count, f"-{run}")
        return names
    finally:
        await connection.close()


async def seed(database_url: str, names: tuple[str, ...]) -> tenant_setup.TenantSetup:
    """Set the logics of each tenant, and then create its goals in order."""
    pool = connections.engine(database_url, pool_size=1, statement_timeout_seconds=30, application="goalworker-demo")
    try:
        created = {}
        for tenant_id in names:
            for workflow_id, logic in tenant_setup.LOGICS.items():
                await goal_store.set_logic(pool, tenant_id, workflow_id, logic, actor=ACTOR)
            for goal in tenant_setup.GOALS:
                draft = goal_store.parse_draft(
                    {"goal_type": goal.goal_type, "criteria": goal.criteria, "name": goal.key}
                )
                created[tenant_id, goal.key] = await goal_store.create(
                    pool, tenant_id, goal.workflow_id, draft, actor=ACTOR, maximum=3
                )
    finally:
        await pool.dispose()
    since = max(goal.created_at for goal in created.values()) + timedelta(microseconds=1)
    return tenant_setup.TenantSetup(names, {key: goal.id for key, goal in created.items()}, since)
