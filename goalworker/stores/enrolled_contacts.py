"""Contacts with an enrollment, and whether all enrollments up to a time are known (contract section 7)."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from goalworker.domain import facts
from goalworker.postgres import arrays, connections

_CONTACTS: Final = arrays.keys("tenant_id", "contact_id")

# OFFSET 0 keeps it a look into the index for each contact: a join might read all enrollments.
_ENROLLED: Final = f"""
SELECT wanted.tenant_id, wanted.contact_id
FROM {_CONTACTS.unnested("wanted")}
WHERE EXISTS (SELECT FROM enrollments AS e
    WHERE e.tenant_id = wanted.tenant_id AND e.contact_id = wanted.contact_id
        AND (e.ended_at IS NULL OR e.ended_at > ${_CONTACTS.next}::timestamptz) OFFSET 0)
"""


async def enrolled(
    connection: connections.Connection, contacts: Collection[facts.PersonKey], ended_after: datetime
) -> set[facts.PersonKey]:
    """Return the contacts with an enrollment that is open or ended after a time."""
    if not contacts:
        return set()
    rows = await connection.fetch(_ENROLLED, *_CONTACTS.arguments(list(contacts)), ended_after)
    return {(row[0], row[1]) for row in rows}


# Without progress of the topic, as while no worker has ever run, all enrollments count as known.
_ARE_KNOWN: Final = """
SELECT coalesce(bool_and(coalesce(judged_until >= least($2::timestamptz, clock_timestamp()), false)), true)
FROM progress WHERE topic = $1
"""


async def are_known(connection: connections.Connection, lifecycle_topic: str, until: datetime) -> bool:
    """Say whether workers have judged every lifecycle message that reached Kafka before a time."""
    return bool(await connection.fetchval(_ARE_KNOWN, lifecycle_topic, until))
