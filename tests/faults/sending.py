"""Records that are planned and sent, and the outcome that they must have, whatever their order and repetition.

Every enrollment has a contact of its own, so that the records of one cannot change the results of another.
"""

import contextlib
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import uuid4

from aiokafka import errors as kafka_errors

from goalworker.domain import events
from goalworker.stores import goal_store
from tests.faults import outcomes
from tests.kit import clients, messages_in
from tests.kit.messages_in import TENANT
from tests.kit.naive.money import Payment
from tests.kit.naive_judge import Achieved, EnrollmentKey, Walked

SENT_AT_ONCE: Final = 500
# Part of ids, payloads, keys and headers; no log line may contain it (workers.leaks).
PLANTED: Final = "LEAK"
MALFORMED: Final = {
    "invalid_json": b"{" + PLANTED.encode() * 10,
    "invalid_envelope": b'{"specversion": "1.0"}',
    "unsupported_wire_format": b"\x00\x00\x00\x00\x01" + PLANTED.encode(),
}


@dataclass(slots=True)
class Sending:
    """Records that are planned and sent, and the outcome that they must have in the end."""

    client: clients.Client
    name: str
    goals: dict[str, goal_store.StoredGoal]
    since: datetime
    chance: random.Random
    sent: dict[bytes, outcomes.SentRecord] = field(default_factory=dict)
    expected: outcomes.Expected = field(default_factory=outcomes.Expected)
    unsent: list[messages_in.Record] = field(default_factory=list)
    _marks: Iterator[int] = field(default_factory=itertools.count)

    # --- records ---

    def enrollment(self, workflow: str) -> messages_in.Enrollment:
        """Return an enrollment of a new contact in a workflow of this traffic."""
        number = next(self._marks)
        return messages_in.Enrollment(
            f"{self.name}-{workflow}", f"{PLANTED}-run-{number}", f"{PLANTED}-contact-{number}"
        )

    def at(self, milliseconds: float) -> datetime:
        """Return a moment after the goals were created."""
        return messages_in.later(self.since, milliseconds)

    def started(self, enrollment: messages_in.Enrollment, at: datetime, **others: object) -> None:
        """Plan the start of an enrollment, with optional fields."""
        record = messages_in.event(events.ENROLLMENT_STARTED, {**enrollment.ids, **others}, at)
        self.record(record, outcomes.Fact("started", TENANT, enrollment.enrollment_id, at))

    def ended(self, enrollment: messages_in.Enrollment, at: datetime) -> None:
        self.record(enrollment.ended(at), outcomes.Fact("ended", TENANT, enrollment.enrollment_id, at))

    def changes(self, event_type: str, workflow: str, at: datetime) -> None:
        """Plan the activation or deactivation of a workflow, at most one of each."""
        workflow_id = f"{self.name}-{workflow}"
        fact = outcomes.Fact(event_type.removeprefix("workflow."), TENANT, workflow_id, at)
        self.record(messages_in.event(event_type, {"workflow_id": workflow_id}, at), fact)

    def submits(
        self, enrollment: messages_in.Enrollment, goal: str, at: datetime, partition: int | None = None
    ) -> Walked:
        """Plan a submission of the form that a goal asks for."""
        form_id = self.goals[goal].criteria["form_id"]
        return self.hits(enrollment, "form.submitted", at, {"form_id": form_id}, partition)

    def hits(
        self,
        enrollment: messages_in.Enrollment,
        event_type: str,
        at: datetime,
        data: Mapping[str, object],
        partition: int | None = None,
    ) -> Walked:
        """Plan an event that some goal asks for at that moment."""
        event_id = uuid4().hex
        record = messages_in.event(event_type, {"contact_id": enrollment.contact_id, **data}, at, id=event_id)
        self.record(replace(record, partition=partition), outcomes.Fact("hit", TENANT, event_id, at))
        return Walked(at, "/crm", event_id)

    def pays(self, enrollment: messages_in.Enrollment, amount: str, at: datetime, payment_id: str) -> Walked:
        """Plan a payment in EUR."""
        paid = {"payment_id": payment_id, "amount": amount, "currency": "EUR"}
        return self.hits(enrollment, "payment.completed", at, paid)

    def undoes(
        self, enrollment: messages_in.Enrollment, event_type: str, at: datetime, data: Mapping[str, object]
    ) -> None:
        """Plan a reversal."""
        event_id = uuid4().hex
        record = messages_in.event(event_type, {"contact_id": enrollment.contact_id, **data}, at, id=event_id)
        self.record(record, outcomes.Fact("reversal", TENANT, event_id, at))

    def malformed(self, topic: str | None = None) -> None:
        """Plan a record that cannot be decoded, with a key and headers that must not be logged."""
        reason, value = self.chance.choice(list(MALFORMED.items()))
        headers = (("trace", self.chance.randbytes(4)), ("empty", None), ("trace", PLANTED.encode()))
        topic = topic or self.chance.choice(("tag_added", "form_submitted", "workflow_lifecycle"))
        value += b" " * self.chance.randrange(3)
        self.record(
            messages_in.Record(topic, value, PLANTED.encode() + self.chance.randbytes(5), headers), reason=reason
        )

    def record(
        self, record: messages_in.Record, fact: outcomes.Fact | None = None, *, reason: str | None = None
    ) -> None:
        """Plan a record; one without a fact or a reason has no effect by itself."""
        # One in four is sent twice, which must have no effect.
        for _ in range(self.chance.choice((1, 1, 1, 2))):
            mark = b"%d" % next(self._marks)
            marked = record.with_headers((outcomes.MARK, mark))
            self.sent[mark] = outcomes.SentRecord(marked, fact, reason)
            self.unsent.append(marked)

    # --- outcomes ---

    def achieves(self, enrollment: messages_in.Enrollment, **achieved: Walked | Achieved) -> None:
        """Expect an achievement for each goal, by an event or by all that is told of it."""
        for goal, found in achieved.items():
            key = (TENANT, enrollment.enrollment_id, self.goals[goal].id)
            self.expected.achieved[key] = found if isinstance(found, Achieved) else Achieved(found, 1)

    def exits(self, enrollment: messages_in.Enrollment) -> None:
        """Expect an exit, and that the last of the achievements satisfies the workflow."""
        self.expected.exits.add(self._satisfied(enrollment))

    def may_exit(self, enrollment: messages_in.Enrollment, *, is_satisfied: bool = False) -> None:
        """Expect an exit or none, as the order of the records has it."""
        self.expected.may_exit.add(self._satisfied(enrollment) if is_satisfied else _key(enrollment))

    def waits(self, enrollment: messages_in.Enrollment) -> None:
        """Expect an exit that waits for an activation, unless it was sent before the pause was known."""
        self.expected.waiting.add(self._satisfied(enrollment))

    def converts(self, enrollment: messages_in.Enrollment) -> None:
        """Expect that the enrollment is converted by its last achievement."""
        self.expected.converted[_key(enrollment)] = self._last_achieved_at(enrollment)

    def may_be_revoked(self, enrollment: messages_in.Enrollment, goal: str, *reasons: str) -> None:
        """Expect that the achievement may be revoked, for one of these reasons, in the end or for a while."""
        key = (TENANT, enrollment.enrollment_id, self.goals[goal].id)
        self.expected.may_be_revoked[key] = frozenset(reasons)

    def earns(
        self, enrollment: messages_in.Enrollment, goal: str, payment_id: str, at: Walked, amount: str, back: str = "0"
    ) -> None:
        """Expect a payment among the revenue, and that this much of it was taken back."""
        key = (TENANT, enrollment.enrollment_id, self.goals[goal].id, payment_id)
        self.expected.payments[key] = Payment(at, Decimal(amount), "EUR", Decimal(back))

    def _satisfied(self, enrollment: messages_in.Enrollment) -> EnrollmentKey:
        self.converts(enrollment)
        self.expected.satisfied[_key(enrollment)] = self._last_achieved_at(enrollment)
        return _key(enrollment)

    def _last_achieved_at(self, enrollment: messages_in.Enrollment) -> datetime:
        own = [(*_key(enrollment), goal.id) for goal in self.goals.values()]
        return max(self.expected.achieved[key].at.time for key in own if key in self.expected.achieved)

    # --- sending ---

    async def send(self, share: float = 1.0) -> None:
        """Send this share of the unsent records, and send again what is not acknowledged."""
        number = round(len(self.unsent) * share)
        for start in range(0, number, SENT_AT_ONCE):
            await self._send(self.unsent[start : min(start + SENT_AT_ONCE, number)])
        del self.unsent[:number]

    async def _send(self, records: Sequence[messages_in.Record]) -> None:
        for _ in range(20):
            with contextlib.suppress(kafka_errors.KafkaError):
                await self.client.send(*records)
                return
        raise AssertionError("the test itself cannot send")


def _key(enrollment: messages_in.Enrollment) -> EnrollmentKey:
    return (TENANT, enrollment.enrollment_id)
