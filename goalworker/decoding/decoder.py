"""Decoder of Kafka records: each becomes an Event, or a Malformed that says what is wrong with it (contract section 2).

A record can be decoded in two ways. The fast way handles a well-formed record in a microsecond or two and explains
nothing. The careful way handles every record that the fast way leaves: field by field, it decodes the few that are
valid after all, and names the fault of the others.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from goalworker.decoding import careful, envelope, skipping
from goalworker.decoding.fast import ANY_WANTED, FastDecode, fast_decode
from goalworker.decoding.limits import Limits
from goalworker.decoding.record import FetchedRecord
from goalworker.decoding.skipping import Skipped
from goalworker.decoding.tenant_filter import TenantFilter
from goalworker.decoding.wire import InvalidFieldError, Reader
from goalworker.domain import events
from goalworker.domain.cells import Cell

PartitionOffset = tuple[int, int]
"""The partition and the offset of a record in its topic."""


class Malformed(Struct, frozen=True):
    """The fault of a record: its reason (contract section 4), its location, and a sentence that quotes no data.

    pointer is a JSON pointer into the value, or names a header, such as `header ce_id`. tenant_id is None
    unless the envelope is well-formed.
    """

    reason: str
    pointer: str
    detail: str
    tenant_id: str | None = None


Outcome = events.Event | Malformed | Skipped


class Decoder:
    """Decoder for the topics in event_types, which maps each topic to the CloudEvents types that it may carry.

    without_time collects, by topic, the offsets of records whose timestamp stands in for a missing time; the caller
    empties it. ahead is how far the database's clock, which decides what is in the future, is ahead of this machine's;
    clock names it in errors. The records of tenants that are not the cell's are Skipped.
    """

    def __init__(self, event_types: Mapping[str, frozenset[str]], limits: Limits, cell: Cell | None = None) -> None:
        self.without_time: defaultdict[str, list[int]] = defaultdict(list)
        self.ahead = timedelta(0)
        self.clock = "the database's clock"
        self._limits = limits
        self._settle = skipping.settling(count_tests=limits.test_events == "count")
        self._attributes = envelope.attribute_headers(limits.tenant_from)
        self._tenant_elsewhere = envelope.tenant_lookup(limits.tenant_from, limits.default_tenant)
        self._fast = {
            topic: fast_decode(topic, types, limits, self.without_time) for topic, types in event_types.items()
        }
        self._readers = {topic: {type_: _READERS[type_] for type_ in types} for topic, types in event_types.items()}
        # Values without an envelope are of the primary type; the lifecycle topic takes none.
        self._plain_types = {topic: events.primary_type(types) for topic, types in event_types.items()}
        self._set_cell(cell or Cell())

    @property
    def cell(self) -> Cell:
        """The tenants whose records are decoded; it stays the same object until they change."""
        return self._cell

    @cell.setter
    def cell(self, cell: Cell) -> None:
        if cell != self._cell:
            self._set_cell(cell)

    def _set_cell(self, cell: Cell) -> None:
        self._cell = cell
        self._filter = None if cell.owns_all else TenantFilter(cell, trust_keys=self._limits.trust_keys)

    def is_foreign(self, tenant_id: str) -> bool:
        """Say whether a tenant is another cell's."""
        return self._filter is not None and self._filter.foreign[tenant_id]

    def tenant_of_key(self, key: bytes | None) -> str | None:
        """Return the tenant that a record's key names, None where keys are not trusted."""
        return None if self._filter is None else self._filter.tenant_of_key(key)

    def knows(self, topic: str) -> bool:
        """Say whether this decoder decodes the records of a topic."""
        return topic in self._fast

    def decode(
        self,
        topic: str,
        value: bytes | None,
        headers: envelope.Pairs,
        timestamp_ms: int,
        now: datetime,
        offset: int = -1,
        *,
        key: bytes | None = None,
        position: PartitionOffset | None = None,
    ) -> Outcome | None:
        """Return the event of a record, its fault, or None for a tombstone; no value makes this raise.

        A well-formed event that does not count is Skipped. The last of several headers with one name counts, as the
        last of several JSON keys does. position is where the record was first read from its topic; it makes the id of a
        value that has no other. Raises KeyError for a topic that the decoder does not know.
        """
        return self.decode_record(topic, _Record(value, headers, timestamp_ms, offset, key=key), now, position)

    def decode_record(
        self, topic: str, record: FetchedRecord, now: datetime, position: PartitionOffset | None = None
    ) -> Outcome | None:
        """Return what decode() does for a record that was fetched."""
        if self._filter is not None and (by_key := self._filter.skipped_by_key(record.key)):
            return by_key
        taken, _, skipped = self._filtered(topic)([record], self.latest(now), ANY_WANTED)
        if taken:
            return taken[0][1]
        if skipped:
            return skipped[0][1]
        return self.decode_left(topic, record, now, position)

    def fast(self, topic: str) -> FastDecode:
        """Return the fast decoder of a topic.

        It returns the well-formed records that are wanted, with their events, then the records that it leaves to
        decode_left(), tombstones included, and those that are skipped.
        """
        return self._filtered(topic)

    def _filtered(self, topic: str) -> FastDecode:
        return self._fast[topic] if self._filter is None else self._filter.filtering(self._fast[topic])

    def latest(self, now: datetime) -> datetime:
        """Return the last moment that an event read now may be dated."""
        return now + self._limits.max_future

    def decode_left(
        self, topic: str, record: FetchedRecord, now: datetime, position: PartitionOffset | None = None
    ) -> Outcome | None:
        """Return what decode() does for a record that fast() left."""
        outcome, has_time = self._decode_carefully(topic, record, now, position)
        if self._filter is not None and outcome is not None:
            outcome = self._of_cell(outcome, record.key, self._filter)
        if not has_time and isinstance(outcome, events.Event):
            self.without_time[topic].append(record.offset)
        return outcome

    def of_no_topic(self, record: FetchedRecord, fault: Malformed) -> Outcome:
        """Return the fault of a record that belongs to no topic, or Skipped if it is another cell's."""
        return fault if self._filter is None else self._of_cell(fault, record.key, self._filter)

    def _of_cell(self, outcome: Outcome, key: bytes | None, tenants: TenantFilter) -> Outcome:
        """Return an outcome as it is in this cell: skipped for a tenant of another one."""
        tenant_id = outcome.tenant_id
        if not (tenants.foreign[tenant_id] if tenant_id is not None else not tenants.owns_unknown(key)):
            return outcome
        if tenant_id is not None and (keyed := tenants.tenant_of_key(key)) is not None:
            return Malformed("invalid_envelope", "key", "`key` names a tenant of another cell than the event", keyed)
        return Skipped(skipping.FOREIGN_TENANT, "" if isinstance(outcome, Malformed) else outcome.type, tenant_id)

    def _decode_carefully(
        self, topic: str, record: FetchedRecord, now: datetime, position: PartitionOffset | None
    ) -> tuple[Outcome | None, bool]:
        """Return the outcome of a record, and whether it says a time itself."""
        value, tenant_id = record.value, None
        if value is None:
            return None, True
        headers, form = envelope.headers_of(record.headers), careful.Form("structured", value)
        plain_type = self._plain_types[topic]
        plain: careful.PlainJson = (
            "impossible" if plain_type is None else "enabled" if self._limits.plain_json else "disabled"
        )
        try:
            form = careful.form_of(value, headers, self._limits.max_bytes, plain)
            if form.mode == "plain" and plain_type is not None:
                id_ = envelope.text_header(headers, envelope.canonical(self._limits.plain_id))
                found = careful.plain_envelope_of(form, plain_type, topic, id_, position)
            else:
                found, form = careful.envelope_of(form, headers, self._attributes)
            # Together: a record whose time is wrong has a faulty envelope, and so no tenant.
            tenant_id, time = self._tenant_of(found, headers, record.key), envelope.moment(found.time, record.timestamp)
            outcome = self._outcome(self._readers[topic], found, tenant_id, time, headers, now)
        except InvalidFieldError as error:
            return Malformed(error.reason, form.pointer(error.path), str(error), tenant_id), True
        except RecursionError:
            return Malformed("invalid_json", "", "the value is nested too deep"), True
        return outcome, found.time is not None

    def _outcome(
        self,
        readers: Mapping[str, Reader],
        found: careful.Envelope,
        tenant_id: str,
        time: datetime,
        headers: envelope.Headers,
        now: datetime,
    ) -> events.Event | Skipped:
        read = readers.get(found.type)
        if read is None and self._limits.foreign_types == "ignore":
            return Skipped(skipping.FOREIGN_TYPE, found.type, tenant_id)
        if read is None:
            rule = f"must be one of {', '.join(sorted(readers))} in this topic"
            raise InvalidFieldError("unexpected_type", "type", rule)
        data = read(careful.data_of(found))
        if time - now > self._limits.max_future:
            seconds = self._limits.max_future.total_seconds()
            raise InvalidFieldError("future_time", "time", f"is more than {seconds:g} s ahead of {self.clock}")
        if isinstance(data, skipping.Testable):
            data, outcome = self._settle(data)
            if outcome is not None:
                return Skipped(outcome, found.type, tenant_id)
        trace = envelope.trace_of(headers, found.traceparent, found.tracestate)
        return events.Event(tenant_id, found.source, found.id, found.type, time, data, *trace)

    def _tenant_of(self, found: careful.Envelope, headers: envelope.Headers, key: bytes | None) -> str:
        if found.tenantid:
            return found.tenantid
        tenant_from = self._limits.tenant_from
        subject = careful.text_of(found.subject, "subject") if tenant_from == "subject" else None
        tenant_id = self._tenant_elsewhere(subject, headers, key)
        if tenant_id is None:
            other = "" if tenant_from == "tenantid" else f", {_NO_TENANT[tenant_from.partition(':')[0]]}"
            rule = f"is missing{other}, and no default tenant is set"
            raise InvalidFieldError("invalid_envelope", "tenantid", rule)
        return tenant_id


class _Record(Struct, frozen=True, gc=False):
    """A record that was handed in, not fetched."""

    value: bytes | None
    headers: envelope.Pairs
    timestamp: int
    offset: int = -1
    timestamp_type: int = 0
    key: bytes | None = None


_READERS: Final = {event_type: careful.reader(event_type) for event_type in events.DATA_OF_TYPE}
_NO_TENANT: Final = {
    "subject": "so is `subject`",
    "header": "so is the header that EVENTS__TENANT_FROM names",
    "key-prefix": "the key does not begin with a tenant and a colon",
}
