"""Walk through the enrollments of a workflow, contact by contact, or through a sample of them (contract section 7)."""

from itertools import groupby
from operator import attrgetter
from typing import Final

from goalworker.domain import facts, ids
from goalworker.postgres import connections

_FIELDS: Final = facts.Enrollment.__struct_fields__
_COLUMNS: Final = ", ".join(_FIELDS)
_OF_WORKFLOW: Final = "tenant_id = $1 AND workflow_id = $2"

_COUNT: Final = f"SELECT count(*) FROM enrollments WHERE {_OF_WORKFLOW}"
# All enrollments of a contact are in one slice, which ends with the contact of its last enrollment.
_SLICE: Final = f"""
SELECT {_COLUMNS} FROM enrollments
WHERE {_OF_WORKFLOW} AND contact_id > $3 AND contact_id <= (
    SELECT max(contact_id) FROM (
        SELECT contact_id FROM enrollments WHERE {_OF_WORKFLOW} AND contact_id > $3 ORDER BY contact_id LIMIT $4
    ) AS next)
ORDER BY contact_id, enrollment_id
"""
# Hashes are spread evenly over enrollments of any age, and the same ones are drawn again.
_SAMPLE: Final = f"""
SELECT {_COLUMNS} FROM enrollments WHERE {_OF_WORKFLOW} ORDER BY hashtextextended(enrollment_id, 0) LIMIT $3
"""

# Without tracking, every contact is enrolled, with a row only once a goal was hit (contract rule 3.8).
_CONTACTS: Final = f"""
SELECT contact_id FROM enrollments WHERE {_OF_WORKFLOW} AND contact_id > $3
UNION
SELECT contact_id FROM history_events WHERE tenant_id = $1 AND contact_id > $3
"""
_COUNT_CONTACTS: Final = f"SELECT count(*) FROM ({_CONTACTS}) AS known"
# Each part is limited by itself, or every slice would read all contacts that are left.
_NEXT_CONTACTS: Final = f"""
(SELECT DISTINCT contact_id FROM enrollments WHERE {_OF_WORKFLOW} AND contact_id > $3 ORDER BY contact_id LIMIT $4)
UNION
(SELECT DISTINCT contact_id FROM history_events WHERE tenant_id = $1 AND contact_id > $3 ORDER BY contact_id LIMIT $4)
ORDER BY contact_id LIMIT $4
"""
_SAMPLED_CONTACTS: Final = (
    f"SELECT contact_id FROM ({_CONTACTS}) AS known ORDER BY hashtextextended(contact_id, 0) LIMIT $4"
)
# Only the index that begins with the contact serves, as where judgements lock enrollments: by the other one, every
# slice would read the whole workflow.
_OF_CONTACTS: Final = f"""
SELECT {", ".join(f"e.{name}" for name in _FIELDS)}
FROM unnest($3::text[]) AS wanted (contact_id)
JOIN enrollments e ON e.tenant_id = $1 AND e.contact_id = wanted.contact_id
    AND (e.contact_id, e.workflow_id) >= (wanted.contact_id, $2)
    AND (e.contact_id, e.workflow_id) <= (wanted.contact_id, $2)
"""

Contacts = list[list[facts.Enrollment]]
"""Enrollments by contact, in the order of the contacts."""


class Walk:
    """Enrollments of one workflow as a connection sees them; without tracking, every known contact has one."""

    def __init__(self, connection: connections.Connection, key: facts.WorkflowKey, *, tracking: bool) -> None:
        self._connection, self._key, self._tracking = connection, key, tracking

    async def count(self) -> int:
        """Return the number of enrollments."""
        if self._tracking:
            return int(await self._connection.fetchval(_COUNT, *self._key))
        return int(await self._connection.fetchval(_COUNT_CONTACTS, *self._key, ""))

    async def after(self, contact_id: str, limit: int) -> Contacts:
        """Return the next enrollments after a contact, somewhat more than the limit where a contact has several."""
        if self._tracking:
            rows = await self._connection.fetch(_SLICE, *self._key, contact_id, limit)
            return _by_contact([facts.Enrollment(*row) for row in rows])
        return await self._untracked(_NEXT_CONTACTS, contact_id, limit)

    async def sample(self, size: int) -> Contacts:
        """Return a number of enrollments, drawn evenly."""
        if self._tracking:
            rows = await self._connection.fetch(_SAMPLE, *self._key, size)
            return _by_contact([facts.Enrollment(*row) for row in rows])
        return await self._untracked(_SAMPLED_CONTACTS, "", size)

    async def _untracked(self, sql: str, after: str, limit: int) -> Contacts:
        contacts = [row[0] for row in await self._connection.fetch(sql, *self._key, after, limit)]
        rows = await self._connection.fetch(_OF_CONTACTS, *self._key, contacts)
        stored = [facts.Enrollment(*row) for row in rows]
        known = {enrollment.contact_id for enrollment in stored}
        tenant_id, workflow_id = self._key
        new = [
            facts.Enrollment(tenant_id, ids.contact_enrollment_id(workflow_id, one), workflow_id, one)
            for one in contacts
            if one not in known
        ]
        return _by_contact(stored + new)


def _by_contact(enrollments: list[facts.Enrollment]) -> Contacts:
    enrollments.sort(key=attrgetter("contact_id", "enrollment_id"))
    return [list(own) for _, own in groupby(enrollments, attrgetter("contact_id"))]
