"""Records that a test sent, the outcome that they must have, and the records, rows and messages that were found."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from tests.kit import messages_in, naive_judge, stored
from tests.kit.naive.money import Payment
from tests.kit.naive_judge import AchievementKey, EnrollmentKey

MARK: Final = "x-sent"
ACHIEVED: Final = "workflow.goal.achieved"
REVOKED: Final = "workflow.goal.revoked"

Position = tuple[str, int, int]  # topic, partition, offset


class Copy(NamedTuple):
    """Record as a topic holds it."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


class Fact(NamedTuple):
    """Fact to be stored once a record is committed.

    It is a `hit`, a `reversal`, a state of a workflow, `activated` or `deactivated`, or that an enrollment has
    `started` or `ended`.
    """

    kind: str
    tenant_id: str
    name: str
    time: datetime


@dataclass(frozen=True, slots=True)
class SentRecord:
    """Record that a test sends, and the fact or the dead letter's reason that it leads to, if any."""

    record: messages_in.Record
    fact: Fact | None = None
    reason: str | None = None


@dataclass(slots=True)
class Expected:
    """Results that are right whatever the order of the records.

    An exit is a command and is never revoked, so some of them depend on the order: `may_exit`. An exit that waits in
    the end may have been sent before its pause was known. `may_be_revoked` has the possible reasons of revocations.
    """

    achieved: dict[AchievementKey, naive_judge.Achieved] = field(default_factory=dict)
    may_be_revoked: dict[AchievementKey, frozenset[str]] = field(default_factory=dict)
    exits: set[EnrollmentKey] = field(default_factory=set)
    may_exit: set[EnrollmentKey] = field(default_factory=set)
    waiting: set[EnrollmentKey] = field(default_factory=set)
    satisfied: dict[EnrollmentKey, datetime] = field(default_factory=dict)
    converted: dict[EnrollmentKey, datetime] = field(default_factory=dict)
    payments: dict[stored.PaymentKey, Payment] = field(default_factory=dict)


class Row(NamedTuple):
    """Stored achievement; a revoked one is compared without its evidence, which no message tells."""

    revision: int
    achieved: naive_judge.Achieved | None


@dataclass(slots=True)
class Found:
    """Offsets, rows and records, read in this order, so that the results of committed records are among them."""

    group_id: str
    committed: Mapping[tuple[str, int], int]
    facts: Mapping[tuple[str, str, str], datetime]
    achievements: Mapping[AchievementKey, Row]
    exits: Sequence[EnrollmentKey]
    waiting_exits: frozenset[EnrollmentKey]
    satisfied: Mapping[EnrollmentKey, datetime]
    converted: Mapping[EnrollmentKey, datetime]
    payments: Mapping[stored.PaymentKey, Payment]
    unsent: int
    inputs: Sequence[Copy]
    achieved_topic: Sequence[Copy]
    exit_topic: Sequence[Copy]
    dead_letters: Sequence[Copy]


class Message(NamedTuple):
    """Outgoing message without its repeats, with the time of the first copy."""

    id: str
    type: str
    tenant_id: str
    data: dict[str, Any]
    timestamp_ms: int

    @property
    def enrollment(self) -> EnrollmentKey:
        return (self.tenant_id, self.data["enrollment_id"])

    @property
    def achievement(self) -> AchievementKey:
        return (*self.enrollment, UUID(self.data["goal_id"]))


def messages(topic: Iterable[Copy]) -> list[Message]:
    """Return the messages of a topic without their repeats."""
    firsts: dict[str, Message] = {}
    for copy in topic:
        body = msgspec.json.decode(copy.value or b"{}")
        message = Message(body["id"], body["type"], body["tenantid"], body["data"], copy.timestamp_ms)
        known = firsts.setdefault(message.id, message)
        if copy.timestamp_ms < known.timestamp_ms:
            firsts[message.id] = message
    return list(firsts.values())
