"""Data of the console's pages: a usual workflow, and some whose every text is hostile."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib import parse
from uuid import UUID

from goalworker.console import addresses
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs
from tests.integration import job_runs, kept_events
from tests.integration.console.test_workflow_page import enroll
from tests.kit import running_api

HOSTILE: Final = "\"><script>document.title='x'</script><img src=x onerror=alert(1)>\u202e%2F& ..\U0001f600"
LONG: Final = "ü" * 127 + "x"
"""255 bytes, without a place at which a line may end."""
CONTACTS: Final = 40


@dataclass(frozen=True, slots=True)
class Site:
    """Running console, a superuser's connection to its database, and a key for it."""

    api: running_api.Api
    administrator: connections.Connection
    key: str
    goal_id: UUID
    plan_id: UUID
    backfill_id: UUID

    def pages(self) -> dict[str, str]:
        """Return the paths of all pages by their names."""
        workflow = "/console/workflows/onboarding"
        hostile = f"/console/workflows/{addresses.segment(HOSTILE)}"
        return {
            "overview": "/console",
            "workflow": workflow,
            "whole workflow": f"{workflow}?from=&whole=1",
            "enrollments": f"{workflow}/enrollments",
            "achievements": f"{workflow}/achievements",
            "goal": f"{workflow}/goals/{self.goal_id}",
            "new goal": f"{workflow}/goals/new",
            "edited goal": f"{workflow}/goals/{self.goal_id}/edit",
            "contact": contact("contact-0003"),
            "health": "/console/health",
            "hostile workflow": f"{hostile}?from=&whole=1",
            "hostile contact": contact(HOSTILE),
            "long workflow": f"/console/workflows/{addresses.segment(LONG)}",
        }

    def further_pages(self) -> dict[str, tuple[str, int]]:
        """Return the paths of pages that are shown more seldom, by their names, and the status of each."""
        workflow = "/console/workflows/onboarding"
        return {
            "plan": (f"{workflow}/plans/{self.plan_id}", 200),
            "backfill": (f"{workflow}/goals/{self.goal_id}/backfills/{self.backfill_id}", 200),
            "goal form": (f"{workflow}/goals/new?goal_type=purchase_made", 200),
            "dead letters": ("/console/health/dead-letters", 200),
            "redrive": ("/console/health/redrive", 200),
            "refused redrive": ("/console/health/redrive?topic=x&reason=x", 400),
            "lag": ("/console/health/lag", 200),
            "contact search": ("/console/contacts", 200),
            "unknown contact": (contact("nobody"), 404),
            "refused search": ("/console?search=%07", 400),
            "unknown page": ("/console/workflows/nowhere", 404),
        }


def contact(contact_id: str) -> str:
    """Return an address that leads to a contact's page."""
    return f"/console/contacts?{parse.urlencode({'contact_id': contact_id})}"


async def write(api: running_api.Api, administrator: connections.Connection, key: str) -> Site:
    """Write the data; return the site."""
    now = datetime.now(UTC)
    usual = await _goal(api, "onboarding", "Bought")
    hostile = await _goal(api, HOSTILE, HOSTILE)
    await _goal(api, LONG, LONG)
    for number in range(CONTACTS):
        began = now - timedelta(days=2 * number + 1)
        goal = usual if number % 3 == 0 else None
        await enroll(administrator, f"run-{number}", began, goal=goal, contact_id=f"contact-{number:04}")
    await enroll(administrator, HOSTILE, now - timedelta(days=3), goal=hostile, workflow_id=HOSTILE, contact_id=HOSTILE)
    await enroll(administrator, LONG, now - timedelta(days=3), workflow_id=LONG, contact_id=LONG)
    plan_id, backfill_id = await _jobs(api, usual, now - timedelta(days=1))
    return Site(api, administrator, key, usual, plan_id, backfill_id)


async def _jobs(api: running_api.Api, goal_id: UUID, since: datetime) -> tuple[UUID, UUID]:
    """Run a plan, and queue a backfill."""
    await kept_events.cover(api.pool, since)
    async with api.holder() as client:
        answer = await client.post("/api/v1/workflows/onboarding/plans", json={})
    assert answer.status_code == 202, answer.text
    assert await job_runs.runner(api.pool).run_next(jobs.PLAN)
    backfill_id = await goal_store.begin_backfill(
        api.pool, running_api.TENANT, "onboarding", goal_id, since, exits=False, actor="ann"
    )
    return UUID(answer.json()["plan_id"]), backfill_id


async def _goal(api: running_api.Api, workflow_id: str, name: str) -> UUID:
    draft = goal_store.parse_draft({"goal_type": "purchase_made", "criteria": {"any_purchase": True}, "name": name})
    created = await goal_store.create(api.pool, running_api.TENANT, workflow_id, draft, actor="ann", maximum=3)
    return created.id


async def exited(site: Site, name: str, workflow_id: str = "onboarding", contact_id: str = "contact-0002") -> None:
    """Write an exit, as a worker does."""
    await site.administrator.execute(
        "INSERT INTO exits VALUES ('acme', $1, $2, $3, $4, 'purchase_made', 'any', $5, now())",
        *(name, workflow_id, contact_id, site.goal_id, [site.goal_id]),
    )
