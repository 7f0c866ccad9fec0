"""Reader of the worker's messages that behaves as consumers should: drop repeats, keep the highest revision."""

import dataclasses
from collections import Counter, deque
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from msgspec import Raw, Struct, json, structs

from goalworker.demo import plans, records
from goalworker.demo.traffic import Traffic
from goalworker.domain import ids

RECENT: Final = 60
"""Exits kept to show; older ones are dropped."""

GoalKey = tuple[str, str, UUID]
"""(tenant, enrollment, goal)."""
Origin = tuple[TopicPartition, int]
"""Partition and offset of the record that became a dead letter."""


class FoundExit(Struct, frozen=True):
    """An exit message; `of` makes the one that an expected exit must have."""

    tenant_id: str
    exit_id: UUID
    workflow_id: str
    enrollment_id: str
    contact_id: str
    exit_reason: str
    logic: str
    goal_id: UUID
    achievement_ids: tuple[UUID, ...]
    achieved_at: datetime

    @property
    def key(self) -> plans.EnrollmentKey:
        return (self.tenant_id, self.enrollment_id)

    @classmethod
    def of(cls, expected: plans.Exit) -> "FoundExit":
        tenant_id, enrollment_id = expected.key
        return cls(
            tenant_id,
            ids.exit_id(tenant_id, enrollment_id),
            expected.workflow_id,
            enrollment_id,
            expected.contact_id,
            "goal_achieved",
            expected.logic,
            expected.goal_id,
            tuple(ids.achievement_id(tenant_id, enrollment_id, goal_id) for goal_id in expected.goal_ids),
            expected.achieved_at,
        )


class LatestRevision(Struct, frozen=True):
    """The highest revision of an achievement; `achieved` is None if it is revoked."""

    revision: int
    achieved: plans.Achievement | None


class RecentExit(Struct, frozen=True):
    """An exit to show."""

    tenant_id: str
    contact_id: str
    workflow_id: str
    goal_id: UUID
    goal_type: str
    latency_seconds: float | None = None


Subject = plans.EnrollmentKey | Origin | UUID | None
"""The enrollment, record or goal that a message is about, None if it names none of them."""


class Anomaly(Struct, frozen=True):
    """A violation of the contract, described in a sentence."""

    sentence: str
    subject: Subject = None


class _Envelope(Struct):
    id: UUID
    type: str
    tenantid: str
    data: Raw


class _SubjectFields(Struct):
    enrollment_id: str | None = None
    goal_id: UUID | None = None


class _Trigger(Struct):
    id: str
    source: str


class _Achievement(Struct):
    revision: int
    enrollment_id: str
    goal_id: UUID
    goal_type: str
    achieved_at: datetime | None = None
    trigger_event: _Trigger | None = None
    occurrences: int | None = None
    total_amount: Decimal | None = None
    evidence_complete: bool | None = None
    reason: str = ""


class _Exit(Struct):
    exit_id: UUID
    workflow_id: str
    enrollment_id: str
    contact_id: str
    exit_reason: str
    logic: str
    goal_id: UUID
    achievement_ids: tuple[UUID, ...]
    achieved_at: datetime


class _GoalType(Struct):
    goal_type: str


class _Configured(Struct):
    goal_id: UUID


@dataclasses.dataclass(slots=True)
class Received:
    """Messages read so far, foreign ones included; `standing` counts achievements in force by goal type."""

    exits: dict[UUID, FoundExit] = dataclasses.field(default_factory=dict)
    achievements: dict[GoalKey, LatestRevision] = dataclasses.field(default_factory=dict)
    revocations: list[plans.Revocation] = dataclasses.field(default_factory=list)
    configured: set[UUID] = dataclasses.field(default_factory=set)
    dead_letters: dict[Origin, plans.DeadLetter] = dataclasses.field(default_factory=dict)
    standing: Counter[str] = dataclasses.field(default_factory=Counter)
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)
    kinds: Counter[str] = dataclasses.field(default_factory=Counter)
    repeats: int = 0
    anomalies: list[Anomaly] = dataclasses.field(default_factory=list)
    recent: deque[RecentExit] = dataclasses.field(default_factory=lambda: deque(maxlen=RECENT))


class Listener:
    """Receiver of messages about this run's tenants, which ignores those of earlier runs on the same data."""

    def __init__(self, consumer: AIOKafkaConsumer, tenants: tuple[str, ...], traffic: Traffic) -> None:
        self.received = Received()
        self._consumer = consumer
        self._tenants = tenants
        self._keys = tuple(f"{ids.joined(':', tenant_id)}:".encode() for tenant_id in tenants)
        self._traffic = traffic
        self._digests: dict[UUID, int] = {}
        self._handlers = {
            records.TOPICS.goal_achieved: self._achievement,
            records.TOPICS.workflow_exit: self._exit,
            records.TOPICS.goal_configured: self._configured,
        }

    async def listen(self) -> None:
        """Receive every record, until cancelled."""
        while True:
            for batch in (await self._consumer.getmany(timeout_ms=200)).values():
                for record in batch:
                    self.receive(record)

    async def is_caught_up(self) -> bool:
        """Say whether every record up to the present end has been received."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        return all([await self._consumer.position(partition) >= end for partition, end in ends.items()])

    def receive(self, record: ConsumerRecord) -> None:
        """Receive one record of any topic and content."""
        if record.topic == records.TOPICS.dead_letters:
            self._dead_letter(record)
            return
        try:
            envelope = json.decode(record.value or b"", type=_Envelope)
            if envelope.tenantid not in self._tenants or self._is_repeat(envelope, record):
                return
            self._handlers[record.topic](envelope)
        except (
            msgspec.MsgspecError,
            ValueError,
            RecursionError,
        ) as error:  # other senders may write anything to these topics
            self.received.anomalies.append(
                Anomaly(f"{record.topic} {record.partition}:{record.offset} cannot be read: {error}")
            )

    def _is_repeat(self, envelope: _Envelope, record: ConsumerRecord) -> bool:
        digest = hash(record.value)
        earlier = self._digests.get(envelope.id)
        if earlier is None:
            self._digests[envelope.id] = digest
        elif earlier == digest:
            self.received.repeats += 1
        else:
            sentence = f"{record.topic}: two different messages have the id {envelope.id}"
            self.received.anomalies.append(Anomaly(sentence, _subject(envelope)))
        return earlier is not None

    def _achievement(self, envelope: _Envelope) -> None:
        data = json.decode(envelope.data, type=_Achievement)
        key = (envelope.tenantid, data.enrollment_id, data.goal_id)
        before = self.received.achievements.get(key)
        achieved, kind, make_id = None, "revoked", ids.revoked_message_id
        if envelope.type == "workflow.goal.achieved" and data.trigger_event and data.achieved_at:
            trigger = data.trigger_event
            count = plans.Count(data.occurrences, data.total_amount, data.evidence_complete)
            achieved = plans.Achievement(*key, data.achieved_at, trigger.source, trigger.id, *count)
            kind, make_id = "achieved" if data.revision == 1 else "revised", ids.achieved_message_id
        else:
            self.received.revocations.append(plans.Revocation(*key, data.reason))
        if envelope.id != make_id(*key, data.revision):
            self.received.anomalies.append(
                Anomaly(f"{envelope.type} of {' '.join(map(str, key))} has the id {envelope.id}", key[:2])
            )
        if before is None or data.revision > before.revision:
            self.received.achievements[key] = LatestRevision(data.revision, achieved)
            was_standing = before is not None and before.achieved is not None
            self.received.standing[data.goal_type] += (achieved is not None) - was_standing
        self.received.kinds[kind] += 1

    def _exit(self, envelope: _Envelope) -> None:
        data = json.decode(envelope.data, type=_Exit)
        command = FoundExit(envelope.tenantid, **structs.asdict(data))
        if envelope.id != data.exit_id:
            sentence = f"the exit {data.exit_id} has the message id {envelope.id}"
            self.received.anomalies.append(Anomaly(sentence, (envelope.tenantid, data.enrollment_id)))
        self.received.exits[envelope.id] = command
        latency_seconds = self._traffic.record_exit((envelope.tenantid, data.enrollment_id))
        self.received.recent.append(
            RecentExit(
                envelope.tenantid,
                data.contact_id,
                data.workflow_id,
                data.goal_id,
                json.decode(envelope.data, type=_GoalType).goal_type,
                latency_seconds,
            )
        )

    def _configured(self, envelope: _Envelope) -> None:
        self.received.configured.add(json.decode(envelope.data, type=_Configured).goal_id)

    def _dead_letter(self, record: ConsumerRecord) -> None:
        if not (record.key or b"").startswith(self._keys):
            return
        headers = {name: str(value or b"", "utf-8", "replace") for name, value in record.headers}
        topic, partition, offset, reason = (headers.get(name, "") for name in _ORIGIN)
        if not (partition.isdecimal() and offset.isdecimal()):
            return
        origin = (TopicPartition(topic, int(partition)), int(offset))
        letter = plans.DeadLetter(topic, record.key, reason)
        if origin not in self.received.dead_letters:
            self.received.reasons[reason] += 1
        first = self.received.dead_letters.setdefault(origin, letter)
        if first != letter:
            sentence = f"{topic} {partition}:{offset} was dead-lettered as {first.reason} and as {reason}"
            self.received.anomalies.append(Anomaly(sentence, origin))


def subject_of(value: bytes) -> Subject:
    """Return the subject of a message that goalworker sends."""
    try:
        return _subject(json.decode(value, type=_Envelope))
    except msgspec.MsgspecError:
        return None


def _subject(envelope: _Envelope) -> Subject:
    data = json.decode(envelope.data, type=_SubjectFields)
    return (envelope.tenantid, data.enrollment_id) if data.enrollment_id is not None else data.goal_id


_ORIGIN: Final = ("x-original-topic", "x-original-partition", "x-original-offset", "x-error-reason")
