"""`goalworker goals explain`: why a contact achieved a goal or did not (contract section 7)."""

import sys
from typing import Annotated
from uuid import UUID

import typer
from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.admin import database_connection
from goalworker.cli import common, explanation_view
from goalworker.domain import explaining
from goalworker.domain.explanations import ContactFacts
from goalworker.inspection import contact_letters
from goalworker.postgres import connections
from goalworker.stores import contact_facts


def explain(
    tenant: common.Tenant,
    workflow: common.Workflow,
    contact: Annotated[str, typer.Option(callback=common.text, help="The contact's id.")],
    goal: Annotated[UUID | None, typer.Option(help="Only this goal.")] = None,
    enrollment: Annotated[str | None, typer.Option(callback=common.text, help="Only this enrollment.")] = None,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Also search the newest dead letters, which needs Kafka.")
    ] = False,
    as_json: common.Json = False,
) -> None:
    """Explain why a contact achieved a goal or did not: the gates that its events passed, and a sentence."""
    settings = common.load()

    async def read(pool: sa_async.AsyncEngine) -> ContactFacts:
        facts = await _read(pool, settings, tenant, workflow, contact, goal, enrollment)
        if not dead_letters:
            return facts
        return structs.replace(facts, dead_letters=await contact_letters.find(settings, tenant, contact))

    known = database_connection.run(settings, read, tenant=tenant)
    found = explaining.answer(known, goal)
    if as_json:
        common.show_json(found)
    else:
        marks = explanation_view.marks_for(sys.stdout.encoding)
        common.say(explanation_view.text_of(found, known, marks))


async def _read(
    pool: sa_async.AsyncEngine,
    settings: config.Settings,
    tenant: str,
    workflow: str,
    contact: str,
    goal_id: UUID | None,
    enrollment_id: str | None,
) -> ContactFacts:
    async with connections.tenant_transaction(pool, tenant, "explain") as connection:
        return await contact_facts.read(
            connection,
            tenant,
            workflow,
            contact,
            goal_id=goal_id,
            enrollment_id=enrollment_id,
            lateness=settings.events.lateness,
            tracking=settings.enrollments.tracking,
        )
