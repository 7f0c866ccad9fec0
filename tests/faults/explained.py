"""Explanations of enrollments drawn at random, compared with the outcome that the records must have."""

import random
from collections.abc import Collection, Iterator
from typing import Final

from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.domain import explaining
from goalworker.domain.explanations import Explanation
from goalworker.postgres import connections, tables
from goalworker.stores import contact_facts
from tests.faults import outcomes
from tests.kit import worker_process
from tests.kit.naive_judge import EnrollmentKey

DRAWN: Final = 1_000

_DRAWN = "SELECT tenant_id, workflow_id, contact_id, enrollment_id FROM enrollments WHERE enrolled_at IS NOT NULL"


async def problems(
    installation: worker_process.Installation,
    expected: outcomes.Expected,
    exits: Collection[EnrollmentKey],
    chance: random.Random,
) -> list[str]:
    """Return where the explanation of a contact differs from what has to be; exits are the stored ones."""
    settings = config.load(installation.environment(), env_file=None, secrets_dir=None)
    pool = connections.engine(
        installation.database_url, pool_size=1, statement_timeout_seconds=30, application="goalworker-test"
    )
    try:
        async with connections.transaction(pool, tables.WORKER_ROLE, "cli") as connection:
            enrollments = sorted(tuple(row) for row in await connection.fetch(_DRAWN))
        wrong: list[str] = []
        for ids in chance.sample(enrollments, min(DRAWN, len(enrollments))):
            explanations = await _explanations(pool, settings, *ids)
            # A goal that was deleted before the enrollment began is explained only where somebody asks for it.
            told = {(ids[0], ids[3], one.goal_id) for one in explanations}
            achieved = {key for key in expected.achieved if key[:2] == (ids[0], ids[3])}
            wrong += [f"lost: {key} is achieved and not explained" for key in achieved - told]
            for one in explanations:
                wrong += _differences((ids[0], ids[3]), one, expected, exits)
        return wrong
    finally:
        await pool.dispose()


async def _explanations(
    pool: sa_async.AsyncEngine,
    settings: config.Settings,
    tenant_id: str,
    workflow_id: str,
    contact_id: str,
    enrollment_id: str,
) -> tuple[Explanation, ...]:
    async with connections.tenant_transaction(pool, tenant_id, "explain") as connection:
        known = await contact_facts.read(
            connection,
            tenant_id,
            workflow_id,
            contact_id,
            enrollment_id=enrollment_id,
            lateness=settings.events.lateness,
            tracking=settings.enrollments.tracking,
        )
    return explaining.answer(known).explanations


def _differences(
    enrollment: EnrollmentKey, one: Explanation, expected: outcomes.Expected, exits: Collection[EnrollmentKey]
) -> Iterator[str]:
    key = (*enrollment, one.goal_id)
    if (one.answer == "achieved") != (key in expected.achieved):
        yield f"altered: the explanation of {key} says {one.answer}: {one.summary}"
    if (one.exit.sent_at is not None) != (enrollment in exits):
        yield f"altered: the explanation of {key} says of its exit {one.exit}"
