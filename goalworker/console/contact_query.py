"""Reading of a contact's page: one transaction, whose statements and rows do not grow with the contact's history."""

from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.console import contact_view
from goalworker.domain import explanations, timelines
from goalworker.postgres import connections
from goalworker.stores import contact_facts, contact_timeline, enrollments, goal_store, history

# Workflows whose goals stand beside the contact's events, at most: those that it entered last.
_GOALS_OF_WORKFLOWS_MAX = 10


class Filters(Struct, frozen=True):
    """Choice of entries: of one workflow or all, of some kinds, behind a cursor."""

    workflow_id: str | None = None
    kinds: tuple[str, ...] = contact_timeline.KINDS
    cursor: str | None = None

    @property
    def are_set(self) -> bool:
        """True where entries may be left out."""
        return self.workflow_id is not None or self.cursor is not None or set(self.kinds) != {*contact_timeline.KINDS}


class Known(Struct, frozen=True):
    """Facts for the page of a contact; keeps_all says that events of contacts without an enrollment are kept, too."""

    workflows: contact_timeline.Workflows
    page: timelines.Page
    goals: tuple[contact_view.NamedGoal, ...]
    coverage: explanations.Coverage
    keeps_all: bool
    is_known: bool


async def read(
    pool: sa_async.AsyncEngine, tenant_id: str, contact_id: str, filters: Filters, lateness: timedelta
) -> Known:
    """Return a page of a contact's timeline with its surroundings; CursorError."""
    async with connections.tenant_transaction(pool, tenant_id, "timeline") as connection:
        driver = await connections.driver_of(connection)
        # Before the facts: read later, these times could be ahead of them.
        fresh_as_of = await enrollments.fresh_as_of(connection)
        kept = await history.coverage(driver, tenant_id)
        now: datetime = await driver.fetchval("SELECT clock_timestamp()")
        workflows = await contact_timeline.workflows_of(driver, tenant_id, contact_id)
        asked = _asked(tenant_id, contact_id, workflows, filters)
        page = await contact_timeline.read(driver, asked)
        is_known = bool(workflows.entered or page.entries)
        if not is_known and filters.are_set:
            anything = contact_timeline.Asked(tenant_id, contact_id, workflows.searched)
            is_known = bool((await contact_timeline.read(driver, anything, 1)).entries)
        goals = await _goals(driver, tenant_id, workflows, filters, page)
    coverage = contact_facts.coverage_of(kept, (), fresh_as_of, now, now - lateness)
    return Known(workflows, page, goals, coverage, kept.keep == "all", is_known)


async def goal_names(pool: sa_async.AsyncEngine, tenant_id: str, workflow_id: str) -> dict[UUID, str]:
    """Return the names of a workflow's goals that have one."""
    async with connections.tenant_transaction(pool, tenant_id, "timeline") as connection:
        driver = await connections.driver_of(connection)
        found = await goal_store.load_named(driver, tenant_id, [workflow_id], ())
    return {goal.goal_id: name for goal, name in found if name}


def _asked(
    tenant_id: str, contact_id: str, workflows: contact_timeline.Workflows, filters: Filters
) -> contact_timeline.Asked:
    before = None if filters.cursor is None else contact_timeline.position_of(filters.cursor)
    of = (filters.workflow_id, filters.kinds, before)
    return contact_timeline.Asked(tenant_id, contact_id, workflows.searched, *of)


async def _goals(
    driver: connections.Connection,
    tenant_id: str,
    workflows: contact_timeline.Workflows,
    filters: Filters,
    page: timelines.Page,
) -> tuple[contact_view.NamedGoal, ...]:
    """Return the goals of the contact's workflows, or of the chosen one, and those that entries name."""
    entered = [one.workflow_id for one in workflows.entered[:_GOALS_OF_WORKFLOWS_MAX]]
    chosen = entered if filters.workflow_id is None else [filters.workflow_id]
    named = {goal_id for entry in page.entries for goal_id in contact_view.goal_ids(entry.fact)}
    found = await goal_store.load_named(driver, tenant_id, chosen, named)
    return tuple([contact_view.NamedGoal(goal, name) for goal, name in found])
