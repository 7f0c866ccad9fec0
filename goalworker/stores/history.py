"""Reading of history: the kept events of contacts, and what history covers (contract section 7)."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from msgspec import Struct, json, structs

from goalworker.domain import events
from goalworker.postgres import connections

# History is read some seconds late on purpose; beyond this it is behind.
_LAG_MAX: Final = timedelta(minutes=1)


class KeptEvent(Struct, frozen=True, gc=False):
    """An event of history, and where its record is in Kafka."""

    event: events.Event
    topic: str
    partition: int
    offset: int

    @property
    def order(self) -> tuple[datetime, str, str]:
        """Key by which judgement walks through events (contract rule 3.3)."""
        return (self.event.time, self.event.source, self.event.id)


class Coverage(Struct, frozen=True, gc=False):
    """The events that history covers: those that arrived from history_from on; None where no process keeps events.

    They arrived before history_until, which is None where some partition was never read to its end. keep says whose
    events: of contacts with an enrollment, or of everyone, as they arrived from all_since on. Of a tenant that was
    moved here, history begins where what was copied of it begins, as long as nothing is missing since.
    """

    history_from: datetime | None
    keep: Literal["enrolled", "all"] | None = None
    all_since: datetime | None = None
    retention: timedelta = timedelta(0)
    history_until: datetime | None = None

    def missing_from(self, now: datetime) -> datetime | None:
        """Return the time from which on events that arrived are not kept yet, None while they are within a minute."""
        until = self.history_until
        if self.history_from is None or (until is not None and until >= now - _LAG_MAX):
            return None
        return until or self.history_from


# By contact, since a repeated event has the same one. The index of each day holds this order but for the identity.
_EVENTS: Final = """
SELECT contact_id, event_source, event_id, type, event_time, data, topic, partition, "offset", recorded_on
FROM history_events
WHERE tenant_id = $1 AND contact_id = ANY ($2::text[])
"""


async def events_of_contacts(
    connection: connections.Connection,
    tenant_id: str,
    contact_ids: Collection[str],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, list[KeptEvent]]:
    """Return the kept events of contacts, by contact, in the order in which judgement walks through them.

    since is inclusive and until exclusive; both are times of events. A repeated event is returned once, as it was
    recorded first. The connection is one of the worker's role, or of the API's with its tenant.
    """
    rows = await connection.fetch(_EVENTS, tenant_id, sorted(contact_ids))
    found: dict[str, list[KeptEvent]] = {contact_id: [] for contact_id in contact_ids}
    # A repetition may have another time than the event that was recorded first, so that only one of them is within.
    for row in _first_of_each(rows):
        if (since is None or row["event_time"] >= since) and (until is None or row["event_time"] < until):
            found[row[0]].append(_kept_event(tenant_id, row))
    for kept in found.values():
        kept.sort(key=lambda one: one.order)
    return found


_NEWEST: Final = f"{_EVENTS} ORDER BY event_time DESC LIMIT $3"


async def newest_events(
    connection: connections.Connection, tenant_id: str, contact_id: str, limit: int
) -> tuple[list[KeptEvent], bool]:
    """Return the newest kept events of a contact as events_of_contacts() does, and whether these are all of them."""
    rows = await connection.fetch(_NEWEST, tenant_id, [contact_id], limit + 1)
    found = [_kept_event(tenant_id, row) for row in _first_of_each(rows[:limit])]
    return sorted(found, key=lambda one: one.order), len(rows) <= limit


def _first_of_each(rows: Iterable[Any]) -> Iterable[Any]:
    """Return of each identity the row that was recorded first: what is once recorded stands (contract section 2)."""
    first: dict[tuple[str, str], Any] = {}
    for row in rows:
        identity = (row["event_source"], row["event_id"])
        if identity not in first or _recorded(row) < _recorded(first[identity]):
            first[identity] = row
    return first.values()


def _recorded(row: Any) -> tuple[Any, ...]:
    return (row["recorded_on"], row["topic"], row["partition"], row["offset"])


_DECODERS: Final[Mapping[str, json.Decoder[Any]]] = {
    event_type: json.Decoder(data) for event_type, data in events.DATA_OF_TYPE.items()
}


def _kept_event(tenant_id: str, row: Any) -> KeptEvent:
    # Unpacked in the order of the columns of _EVENTS.
    _, source, id_, event_type, time, data, topic, partition, offset, _ = row
    event = events.Event(tenant_id, source, id_, event_type, time, _DECODERS[event_type].decode(data))
    return KeptEvent(event, topic, partition, offset)


class Arrived(Struct, frozen=True, gc=False):
    """History that a tenant brought along: events from history_from on, of everyone from all_since on.

    What arrived from kept_since on, this database keeps by itself.
    """

    history_from: datetime
    all_since: datetime
    kept_since: datetime


# A partition that is not read yet has no row, and one of an idle topic begins with the first look at it. Those of exits
# begin at no time.
_COVERAGE: Final = """
SELECT c.keep, c.all_since, c.retention_seconds, max(p.history_from) AS history_from,
    CASE WHEN bool_and(p.history_until IS NOT NULL) THEN min(p.history_until) END AS history_until,
    c.dropped_before::timestamp AT TIME ZONE 'UTC' AS dropped_before
FROM history_coverage AS c JOIN history_positions AS p ON c.retention_seconds > 0 AND isfinite(p.history_from)
GROUP BY c.id
"""
# While events of a move are still to be kept, nothing before now is whole. A mover of a release before this one wrote
# no times, and began when the row was changed.
_ARRIVED: Final = """
SELECT CASE WHEN keep_from IS NULL THEN coalesce(history_from, changed_at) ELSE clock_timestamp() END,
    CASE WHEN keep_from IS NULL THEN coalesce(all_since, changed_at) ELSE clock_timestamp() END,
    CASE WHEN keep_from IS NULL THEN coalesce(kept_since, changed_at) ELSE clock_timestamp() END
FROM moved_tenants WHERE tenant_id = $1 AND (state = 'here' OR kept_since IS NOT NULL)
"""


async def coverage(connection: connections.Connection, tenant_id: str) -> Coverage:
    """Return what history covers of a tenant."""
    row = await connection.fetchrow(_COVERAGE)
    if row is None:
        return Coverage(None)
    keep, all_since, retention, history_from, history_until, dropped_before = row
    arrived = await connection.fetchrow(_ARRIVED, tenant_id)
    own = Coverage(history_from, keep, all_since, timedelta(seconds=retention), history_until)
    covered = own if arrived is None else joined(own, Arrived(*arrived))
    if dropped_before is None:
        return covered
    return structs.replace(covered, history_from=max(covered.history_from or dropped_before, dropped_before))


def joined(own: Coverage, arrived: Arrived) -> Coverage:
    """Return what history covers of a tenant that was moved here, from what it covers of the others."""
    if own.history_from is None or own.history_from > arrived.kept_since:  # nothing before that is whole
        return own
    all_since = None if own.all_since is None else max(own.all_since, arrived.all_since)
    return structs.replace(own, history_from=arrived.history_from, all_since=all_since)
