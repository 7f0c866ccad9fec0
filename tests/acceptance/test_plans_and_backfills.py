"""A plan and a backfill by real processes give what a goal gives that was made before the same traffic."""

import random
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections, tables
from goalworker.stores import goal_store, jobs, plan_requests
from tests.kit import messages_in, shells, support, worker_process
from tests.kit.forker import Forker
from tests.kit.worker_process import Installation

SETTINGS = {"HISTORY__DELAY_SECONDS": 0}
BEFORE, AFTER = "first", "second"
DRAFT = {"goal_type": "purchase_made", "criteria": {"total_amount": "100", "currency": "EUR", "within": "PT1H"}}
CONTACTS = 40


@pytest.fixture
def installed(
    bootstrap_servers: str, postgres_url: str, template_database: str, forker: Forker, tmp_path: Path
) -> Iterator[Installation]:
    with worker_process.installation(
        bootstrap_servers, postgres_url, template_database, tmp_path, forker=forker, settings=SETTINGS
    ) as made:
        yield made


@pytest.fixture
async def pool(installed: Installation) -> AsyncIterator[sa_async.AsyncEngine]:
    pool = connections.engine(installed.database_url, pool_size=4, statement_timeout_seconds=30, application="test")
    yield pool
    await pool.dispose()


def traffic(since: datetime, tenant_id: str) -> list[messages_in.Record]:
    """Return enrollments and payments, the same ones for every tenant."""
    source, sent = random.Random(7), []
    for number in range(CONTACTS):
        run = {"workflow_id": "w", "enrollment_id": f"e{number}", "contact_id": f"c{number}"}
        sent.append(messages_in.event("workflow.enrollment.started", run, since, id=f"s{number}", tenantid=tenant_id))
        for payment in range(source.randint(0, 4)):
            amount = {"payment_id": f"p{number}-{payment}", "amount": source.choice((30, 60)), "currency": "EUR"}
            time = since + timedelta(microseconds=source.randint(1, 1_000))
            paid = {"contact_id": f"c{number}", **amount}
            id_ = f"pay-{number}-{payment}"
            sent.append(messages_in.event("payment.completed", paid, time, id=id_, tenantid=tenant_id))
    return sent


async def send(installed: Installation, records: list[messages_in.Record]) -> None:
    async with shells.producing(installed.bootstrap_servers) as producer:
        for record in records:
            await producer.send(installed.topics[record.topic], record.value, headers=list(record.headers))
        await producer.flush()


async def rows(pool: sa_async.AsyncEngine, sql: str, *values: object) -> list[tuple[Any, ...]]:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        return [tuple(row) for row in await connection.fetch(sql, *values)]


async def achieved(pool: sa_async.AsyncEngine, tenant_id: str) -> dict[str, datetime]:
    found = await rows(
        pool,
        "SELECT enrollment_id, achieved_at FROM achievements WHERE tenant_id = $1 AND revoked_at IS NULL",
        tenant_id,
    )
    return dict(found)


async def create(pool: sa_async.AsyncEngine, tenant_id: str) -> goal_store.StoredGoal:
    return await goal_store.create(pool, tenant_id, "w", goal_store.parse_draft(DRAFT), actor="ann", maximum=3)


async def ended(pool: sa_async.AsyncEngine, kind: str, job_id: UUID) -> jobs.Status:
    """Wait for the end of a job."""
    found: list[jobs.Status] = []

    async def is_done() -> bool:
        async with connections.tenant_transaction(pool, AFTER, "jobs") as connection:
            found.append(await jobs.find(connection, jobs.JobKey(AFTER, kind, "w", job_id)))
        return found[-1].state not in (jobs.QUEUED, jobs.RUNNING)

    await support.until(is_done)
    return found[-1]


async def test_a_plan_and_a_backfill_give_what_a_goal_gives_that_was_made_before(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    async with (
        installed.worker(),
        worker_process.stopping(installed.launch("insight", **{"HISTORY__KEEP": "all"})) as insight,
    ):
        await insight.said("insight_ready")
        await support.until(lambda: _is_covered(pool))
        since = (await create(pool, BEFORE)).created_at
        first, second = traffic(since, BEFORE), traffic(since, AFTER)
        await send(installed, [*first, *second])
        events = len(first) + len(second) - 2 * CONTACTS

        async def are_all_taken() -> bool:
            kept = await rows(pool, "SELECT count(*) FROM history_events")
            seen = await rows(pool, "SELECT count(*) FROM enrollments")
            hits = await rows(pool, "SELECT count(*) FROM goal_hits")
            return (*kept, *seen, *hits) == ((events,), (2 * CONTACTS,), (events // 2,))

        await support.until(are_all_taken)
        await support.until(lambda: _is_settled(pool))
        expected = await achieved(pool, BEFORE)
        assert 0 < len(expected) < CONTACTS

        asked = plan_requests.parse({"goals": [DRAFT], "from": messages_in.rfc3339(since)}, (), 3)
        async with connections.tenant_transaction(pool, AFTER, "jobs") as connection:
            plan_id = await plan_requests.insert(connection, AFTER, "w", asked, actor="ann")
        planned = (await ended(pool, jobs.PLAN, plan_id)).result
        assert planned is not None
        assert planned["compared"]["only_planned"] == planned["would_exit"] == len(expected)
        assert planned["enrollments"] == CONTACTS

        goal = await create(pool, AFTER)
        job_id = await goal_store.begin_backfill(pool, AFTER, "w", goal.id, since, exits=True, actor="ann")
        assert (await ended(pool, jobs.BACKFILL, job_id)).state == jobs.DONE
        assert await achieved(pool, AFTER) == expected
        exits = "SELECT enrollment_id FROM exits WHERE tenant_id = $1 ORDER BY 1"
        assert await rows(pool, exits, AFTER) == await rows(pool, exits, BEFORE)
        await support.until(lambda: _is_settled(pool))


async def _is_covered(pool: sa_async.AsyncEngine) -> bool:
    """Say whether the history of every partition has begun: of five goal topics, redrive and exits."""
    return await rows(pool, "SELECT count(*) FROM history_positions") == [(7 * support.PARTITIONS,)]


async def _is_settled(pool: sa_async.AsyncEngine) -> bool:
    """Say whether all messages are published."""
    return await rows(pool, "SELECT count(*) FROM outbox") == [(0,)]
