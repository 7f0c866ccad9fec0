"""Deletion of the oldest hits of a goal and contact where there are more than count (contract rule 3.6)."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from goalworker.domain import goals, judging
from goalworker.domain.facts import ContactKey, Hit
from goalworker.goal_index import index
from goalworker.postgres import arrays, connections

# Hits deleted in one transaction, at most; the next judgement of the contact deletes more.
_DELETED_MAX: Final = 2_000

_HITS: Final[arrays.Columns[Hit]] = arrays.Columns(
    arrays.plain("tenant_id", "text", lambda hits: [hit.tenant_id for hit in hits]),
    arrays.plain("workflow_id", "text", lambda hits: [hit.workflow_id for hit in hits]),
    arrays.plain("contact_id", "text", lambda hits: [hit.contact_id for hit in hits]),
    arrays.plain("goal_id", "uuid", lambda hits: [hit.goal_id for hit in hits]),
    arrays.plain("event_source", "text", lambda hits: [hit.trigger.source for hit in hits]),
    arrays.plain("event_id", "text", lambda hits: [hit.trigger.id for hit in hits]),
)
_KEY: Final = _HITS.names.split(", ")
# Those of days are left: they are from before the goal counted, and soon go with their day.
#
# A sweep may delete them at this moment, in another order: whoever waited for it could deadlock.
_DELETE: Final = f"""
WITH locked AS MATERIALIZED (
    SELECT {_HITS.names} FROM {_HITS.unnested("excess")}
    JOIN goal_hits_kept h USING ({_HITS.names})
    FOR UPDATE OF h SKIP LOCKED
)
DELETE FROM goal_hits_kept USING {arrays.rows_of("locked", _KEY, "excess")}
WHERE {arrays.same("goal_hits_kept", "excess", _KEY)}
"""


async def delete(
    connection: connections.Connection, hits: Mapping[ContactKey, Collection[Hit]], goal_index: index.Index
) -> None:
    """Delete hits beyond the newest of each goal that counts occurrences, in the caller's transaction."""
    for (tenant_id, workflow_id, _), of_contact in hits.items():
        if len(of_contact) > judging.COUNTED_HITS_MAX:
            excess = _excess(of_contact, goal_index.workflow(tenant_id, workflow_id))[:_DELETED_MAX]
            if excess:
                await connection.execute(_DELETE, *_HITS.arguments(excess))


def _excess(hits: Iterable[Hit], workflow: goals.Workflow) -> list[Hit]:
    known = workflow.goals_by_id
    return [
        hit
        for of_goal in judging.hits_by_goal(hits)
        if (goal := known.get(of_goal[0].goal_id)) is not None
        for hit in judging.excess_of(goal, of_goal)
    ]
