"""Messages and changes that did not come from the demo, and which of its own enrollments they may have altered."""

from collections import Counter
from collections.abc import Iterable, Set
from datetime import UTC, datetime
from typing import Final

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from msgspec import Struct

from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.demo import malformed, plans, records, tenant_setup
from goalworker.demo.own_offsets import OwnOffsets
from goalworker.domain import events, ids

POLL_MS: Final = 500

Workflow = tuple[str, str]
"""(tenant, workflow)."""
Contact = tuple[str, str]
"""(tenant, contact)."""

# Whoever explains or plans is audited too, without a before and an after.
_CHANGED_WORKFLOWS: Final = """
SELECT DISTINCT tenant_id, workflow_id FROM audit_log
WHERE tenant_id = ANY($1) AND at >= $2 AND (before IS NOT NULL OR after IS NOT NULL)
"""


_ENROLLMENTS: Final = "SELECT workflow_id, enrollment_id FROM enrollments WHERE tenant_id = $1"


class ForeignChanges(Struct, frozen=True):
    """Workflows, contacts and enrollments that somebody else changed or sent messages about."""

    workflows: frozenset[Workflow] = frozenset()
    contacts: frozenset[Contact] = frozenset()
    enrollments: frozenset[plans.EnrollmentKey] = frozenset()

    def concerns(self, enrollment: plans.Enrollment) -> bool:
        """Say whether this enrollment may have another outcome than the demo alone would have given it."""
        tenant_id = enrollment.tenant_id
        return (
            (tenant_id, enrollment.workflow_id) in self.workflows
            or (tenant_id, enrollment.contact_id) in self.contacts
            or enrollment.key in self.enrollments
        )


class Scope:
    """The enrollments that the verdict is about: the demo's own, without those that others touched."""

    def __init__(self, own: Iterable[plans.Enrollment], touched: ForeignChanges) -> None:
        by_key: dict[plans.EnrollmentKey, list[plans.Enrollment]] = {}
        for enrollment in own:
            by_key.setdefault(enrollment.key, []).append(enrollment)
        self.own_keys: Set[plans.EnrollmentKey] = by_key.keys()
        self._touched = {key for key, each in by_key.items() if any(map(touched.concerns, each))}
        self._touched_keys = {
            ids.joined(":", each.tenant_id, each.contact_id).encode() for key in self._touched for each in by_key[key]
        }
        self.touched_workflows = Counter((key[0], by_key[key][0].workflow_id) for key in self._touched)

    def covers(self, key: plans.EnrollmentKey) -> bool:
        """Say whether what is known of an enrollment must be exactly what the plans say."""
        return key in self.own_keys and key not in self._touched

    def covers_letter(self, letter: plans.DeadLetter) -> bool:
        """Say whether a dead letter of an own record must be exactly what the plans say."""
        return letter.key not in self._touched_keys


def changes_by(found: Iterable[events.Event]) -> ForeignChanges:
    """Return what these events of others may have altered."""
    workflows, contacts, enrollments = set(), set(), set()
    for event in found:
        data = event.data
        if isinstance(data, events.WorkflowChanged):
            workflows.add((event.tenant_id, data.workflow_id))
            continue
        contacts.add((event.tenant_id, data.contact_id))
        if isinstance(data, events.EnrollmentChanged):
            enrollments.add((event.tenant_id, data.enrollment_id))
    return ForeignChanges(frozenset(workflows), frozenset(contacts), frozenset(enrollments))


def decoded_events(found: Iterable[ConsumerRecord]) -> list[events.Event]:
    """Return the events among records; what is none of the worker's events alters nothing."""
    decoder = Decoder(records.TOPICS.event_types, Limits(max_bytes=malformed.MAX_BYTES))
    now = datetime.now(UTC)
    decoded = [decoder.decode(each.topic, each.value, each.headers, each.timestamp, now) for each in found]
    return [each for each in decoded if isinstance(each, events.Event)]


async def find(
    database_url: str, setup: tenant_setup.TenantSetup, consumer: AIOKafkaConsumer, own_offsets: OwnOffsets
) -> ForeignChanges:
    """Return what others touched since the demo began: in the topics, and by API or shell in the goals."""
    by_events = changes_by(decoded_events(await _records(consumer, own_offsets)))
    connection = await asyncpg.connect(database_url)
    try:
        changed = await connection.fetch(_CHANGED_WORKFLOWS, setup.tenants, setup.since)
    finally:
        await connection.close()
    workflows = by_events.workflows | {(each["tenant_id"], each["workflow_id"]) for each in changed}
    return ForeignChanges(workflows, by_events.contacts, by_events.enrollments)


async def shared_workflows(database_url: str, tenant_id: str, scope: Scope) -> set[str]:
    """Return the tenant's workflows in which others have an enrollment or touched one of the demo's."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(_ENROLLMENTS, tenant_id)
    finally:
        await connection.close()
    touched = {workflow_id for tenant, workflow_id in scope.touched_workflows if tenant == tenant_id}
    return touched | {each["workflow_id"] for each in rows if (tenant_id, each["enrollment_id"]) not in scope.own_keys}


async def _records(consumer: AIOKafkaConsumer, own_offsets: OwnOffsets) -> list[ConsumerRecord]:
    """Read again where others sent anything between the demo's own records; nothing at all where nobody did."""
    partitions = own_offsets.partitions
    spans = own_offsets.gaps(await consumer.end_offsets(partitions))
    consumer.assign(list(spans))
    for partition, span in spans.items():
        consumer.seek(partition, span.start)
    found = []
    unread = dict(spans)
    while unread:
        for batch in (await consumer.getmany(*unread, timeout_ms=POLL_MS)).values():
            found += [each for each in batch if not own_offsets.is_own(_partition(each), each.offset)]
        unread = {each: span for each, span in unread.items() if await consumer.position(each) < span.stop}
    return found


def _partition(record: ConsumerRecord) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
