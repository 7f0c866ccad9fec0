"""Messages and changes by others than the demo, and the enrollments of the demo that they may have altered."""

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
from goalworker.stores import audit

POLL_MS: Final = 500

Workflow = tuple[str, str]
"""(tenant, workflow)."""
Contact = tuple[str, str]
"""(tenant, contact)."""

_CHANGED_WORKFLOWS: Final = """
SELECT DISTINCT tenant_id, workflow_id FROM audit_log
WHERE tenant_id = ANY($1) AND at >= $2 AND action <> ALL($3)
"""

_ENROLLMENTS: Final = "SELECT workflow_id, enrollment_id FROM enrollments WHERE tenant_id = $1"


class ForeignChanges(Struct, frozen=True):
    """Workflows, contacts and enrollments that other senders changed or sent messages about."""

    workflows: frozenset[Workflow] = frozenset()
    contacts: frozenset[Contact] = frozenset()
    enrollments: frozenset[plans.EnrollmentKey] = frozenset()

    def concerns(self, enrollment: plans.Enrollment) -> bool:
        """Say whether these changes may have altered the outcome of an enrollment."""
        tenant_id = enrollment.tenant_id
        return (
            (tenant_id, enrollment.workflow_id) in self.workflows
            or (tenant_id, enrollment.contact_id) in self.contacts
            or enrollment.key in self.enrollments
        )


class Scope:
    """The enrollments to check: the demo's own, except those that foreign changes may have altered."""

    def __init__(self, own: Iterable[plans.Enrollment], changes: ForeignChanges) -> None:
        by_key: dict[plans.EnrollmentKey, list[plans.Enrollment]] = {}
        for enrollment in own:
            by_key.setdefault(enrollment.key, []).append(enrollment)
        self.own_keys: Set[plans.EnrollmentKey] = by_key.keys()
        self._altered = {key for key, enrollments in by_key.items() if any(map(changes.concerns, enrollments))}
        self._altered_keys = {
            ids.joined(":", enrollment.tenant_id, enrollment.contact_id).encode()
            for key in self._altered
            for enrollment in by_key[key]
        }
        self.altered_workflows = Counter((key[0], by_key[key][0].workflow_id) for key in self._altered)

    def covers(self, key: plans.EnrollmentKey) -> bool:
        """Say whether the outcome of an enrollment must be exactly the expected one."""
        return key in self.own_keys and key not in self._altered

    def covers_dead_letter(self, letter: plans.DeadLetter) -> bool:
        """Say whether a dead letter must be exactly the expected one."""
        return letter.key not in self._altered_keys


def changes_by(found: Iterable[events.Event]) -> ForeignChanges:
    """Return what these foreign events may have altered."""
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
    """Return the valid events among records; the others alter nothing."""
    decoder = Decoder(records.TOPICS.event_types, Limits(max_bytes=malformed.MAX_BYTES))
    now = datetime.now(UTC)
    decoded = [decoder.decode(record.topic, record.value, record.headers, record.timestamp, now) for record in found]
    return [event for event in decoded if isinstance(event, events.Event)]


async def find(
    database_url: str, setup: tenant_setup.TenantSetup, consumer: AIOKafkaConsumer, own_offsets: OwnOffsets
) -> ForeignChanges:
    """Return all foreign changes since the demo started: events in the topics, and goals changed by API or command."""
    by_events = changes_by(decoded_events(await _records(consumer, own_offsets)))
    connection = await asyncpg.connect(database_url)
    try:
        changed = await connection.fetch(_CHANGED_WORKFLOWS, setup.tenants, setup.since, list(audit.QUESTIONS))
    finally:
        await connection.close()
    workflows = by_events.workflows | {(row["tenant_id"], row["workflow_id"]) for row in changed}
    return ForeignChanges(workflows, by_events.contacts, by_events.enrollments)


async def shared_workflows(database_url: str, tenant_id: str, scope: Scope) -> set[str]:
    """Return the tenant's workflows with a foreign enrollment, or with a foreign change to one of the demo's."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(_ENROLLMENTS, tenant_id)
    finally:
        await connection.close()
    altered = {workflow_id for tenant, workflow_id in scope.altered_workflows if tenant == tenant_id}
    return altered | {row["workflow_id"] for row in rows if (tenant_id, row["enrollment_id"]) not in scope.own_keys}


async def _records(consumer: AIOKafkaConsumer, own_offsets: OwnOffsets) -> list[ConsumerRecord]:
    """Return the foreign records among the demo's own; read only the ranges that hold any."""
    partitions = own_offsets.partitions
    spans = own_offsets.gaps(await consumer.end_offsets(partitions))
    consumer.assign(list(spans))
    for partition, span in spans.items():
        consumer.seek(partition, span.start)
    found = []
    unread = dict(spans)
    while unread:
        for batch in (await consumer.getmany(*unread, timeout_ms=POLL_MS)).values():
            found += [record for record in batch if not own_offsets.is_own(_partition(record), record.offset)]
        unread = {
            partition: span for partition, span in unread.items() if await consumer.position(partition) < span.stop
        }
    return found


def _partition(record: ConsumerRecord) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
