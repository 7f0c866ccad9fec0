"""Facts about a contact for an explanation, as a caller may read them; each reading is an entry of the audit."""

from uuid import UUID

from goalworker.api import auth, parameters
from goalworker.domain.explanations import ContactFacts
from goalworker.postgres import connections
from goalworker.stores import audit, contact_facts


async def known_of(
    caller: auth.Caller,
    context: parameters.Context,
    workflow_id: str,
    contact_id: str,
    *,
    goal_id: UUID | None = None,
    enrollment_id: str | None = None,
) -> ContactFacts:
    """Return the facts about a contact in a workflow; UnknownWorkflowError, NothingKnownError."""
    settings = context.settings
    async with connections.tenant_transaction(context.pool, caller.tenant_id, "explain") as connection:
        known = await contact_facts.read(
            connection,
            caller.tenant_id,
            workflow_id,
            contact_id,
            goal_id=goal_id,
            enrollment_id=enrollment_id,
            lateness=settings.events.lateness,
            tracking=settings.enrollments.tracking,
        )
        await audit.record_explanation(connection, caller.tenant_id, workflow_id, contact_id, actor=caller.actor)
    return known
