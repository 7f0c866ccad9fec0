"""Traffic whose results are known beforehand, whatever the order and however often its records are read.

Every enrollment has a contact of its own, so that the records of one cannot change the results of another.
"""

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import uuid4

from aiokafka import errors as kafka_errors

from goalworker.stores import goal_store
from tests.faults import history
from tests.kit import clients, messages_in

SENT_AT_ONCE: Final = 500
# Part of ids, payloads, keys and headers; no log line may contain it (workers.leaks).
PLANTED: Final = "LEAK"
MALFORMED: Final = {
    "invalid_json": b"{" + PLANTED.encode() * 10,
    "invalid_envelope": b'{"specversion": "1.0"}',
    "unsupported_wire_format": b"\x00\x00\x00\x00\x01" + PLANTED.encode(),
}


@dataclass(slots=True)
class Traffic:
    """Records that are planned and sent, and the results that they must have in the end."""

    client: clients.Client
    name: str
    goals: dict[str, goal_store.StoredGoal]
    since: datetime
    chance: random.Random
    sent: dict[bytes, history.SentRecord] = field(default_factory=dict)
    expected: history.Expected = field(default_factory=history.Expected)
    unsent: list[messages_in.Record] = field(default_factory=list)
    _marks: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    async def begin(cls, client: clients.Client, name: str, seed: int = 0) -> "Traffic":
        """Create the goals of the traffic."""
        await client.set_logic(f"{name}-all", "all")
        await client.set_logic(f"{name}-never", "never")
        goals = {
            goal: await client.create_goal(f"{name}-{workflow}", "form_submitted", form_id=f"{PLANTED}-{name}-{goal}")
            for goal, workflow in {"one": "any", "first": "all", "second": "all", "counted": "never"}.items()
        }
        since = max(goal.created_at for goal in goals.values())
        return cls(client, name, goals, since, random.Random(f"{name} {seed}"))

    # --- planning ---

    def plan(self, enrollments: int, malformed: int = 0) -> None:
        """Plan enrollments and malformed records, shuffled."""
        for _ in range(enrollments):
            (scene,) = self.chance.choices(list(SCENES), list(SCENES.values()))
            scene(self)
        for _ in range(malformed):
            self.malformed()
        self.chance.shuffle(self.unsent)

    def enrollment(self, workflow: str) -> messages_in.Enrollment:
        """Return an enrollment of a new contact in a workflow of this traffic."""
        number = next(self._marks)
        return messages_in.Enrollment(
            f"{self.name}-{workflow}", f"{PLANTED}-run-{number}", f"{PLANTED}-contact-{number}"
        )

    def at(self, milliseconds: float) -> datetime:
        """Return a moment after the goals were created."""
        return messages_in.later(self.since, milliseconds)

    def started(self, enrollment: messages_in.Enrollment, at: datetime) -> None:
        fact = history.Fact("started", messages_in.TENANT, enrollment.enrollment_id, at)
        self._plan(history.SentRecord(enrollment.started(at), fact))

    def ended(self, enrollment: messages_in.Enrollment, at: datetime) -> None:
        fact = history.Fact("ended", messages_in.TENANT, enrollment.enrollment_id, at)
        self._plan(history.SentRecord(enrollment.ended(at), fact))

    def submits(
        self, enrollment: messages_in.Enrollment, goal: str, at: datetime, partition: int | None = None
    ) -> history.Trigger:
        """Plan a submission of the form that a goal asks for."""
        return self.hits(enrollment, self.goals[goal].criteria["form_id"], at, partition)

    def hits(
        self, enrollment: messages_in.Enrollment, form_id: str, at: datetime, partition: int | None = None
    ) -> history.Trigger:
        """Plan a submission of a form that some goal asks for at that moment."""
        event_id = uuid4().hex
        record = replace(enrollment.submits(form_id, at, id=event_id), partition=partition)
        self._plan(history.SentRecord(record, history.Fact("hit", messages_in.TENANT, event_id, at)))
        return history.Trigger(at, "/crm", event_id)

    def malformed(self, topic: str | None = None) -> None:
        """Plan a record that cannot be decoded, with a key and headers that must not be logged."""
        reason, value = self.chance.choice(list(MALFORMED.items()))
        headers = (("trace", self.chance.randbytes(4)), ("empty", None), ("trace", PLANTED.encode()))
        topic = topic or self.chance.choice(("tag_added", "form_submitted", "workflow_lifecycle"))
        value += b" " * self.chance.randrange(3)
        self._plan(
            history.SentRecord(
                messages_in.Record(topic, value, PLANTED.encode() + self.chance.randbytes(5), headers), reason=reason
            )
        )

    def irrelevant(self, record: messages_in.Record) -> None:
        """Plan a record that has no effect by itself."""
        self._plan(history.SentRecord(record))

    def achieves(self, enrollment: messages_in.Enrollment, **triggers: history.Trigger) -> None:
        """Expect an achievement for each goal."""
        for goal, trigger in triggers.items():
            self.expected.achieved[messages_in.TENANT, enrollment.enrollment_id, self.goals[goal].id] = trigger

    def exits(self, enrollment: messages_in.Enrollment) -> None:
        self.expected.exits.add((messages_in.TENANT, enrollment.enrollment_id))

    def may_exit(self, enrollment: messages_in.Enrollment) -> None:
        self.expected.may_exit.add((messages_in.TENANT, enrollment.enrollment_id))

    def _plan(self, sent_record: history.SentRecord) -> None:
        # One in four is sent twice, which must have no effect.
        for _ in range(self.chance.choice((1, 1, 1, 2))):
            mark = b"%d" % next(self._marks)
            record = sent_record.record.with_headers((history.MARK, mark))
            self.sent[mark] = replace(sent_record, record=record)
            self.unsent.append(record)

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


# --- scenes ---


def signs_up(traffic: Traffic) -> None:
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(0))
    traffic.irrelevant(enrollment.submits("another form", traffic.at(1)))
    traffic.achieves(enrollment, one=traffic.submits(enrollment, "one", traffic.at(traffic.chance.randrange(1_000))))
    traffic.exits(enrollment)


def signs_up_twice(traffic: Traffic) -> None:
    """Submit twice: the earlier event counts, and corrects the achievement where it arrives second."""
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(0))
    traffic.achieves(enrollment, one=traffic.submits(enrollment, "one", traffic.at(3)))
    traffic.submits(enrollment, "one", traffic.at(7))
    traffic.exits(enrollment)


def does_both(traffic: Traffic) -> None:
    enrollment = traffic.enrollment("all")
    traffic.started(enrollment, traffic.at(0))
    first, second = (
        traffic.submits(enrollment, goal, traffic.at(traffic.chance.randrange(9))) for goal in ("first", "second")
    )
    traffic.achieves(enrollment, first=first, second=second)
    traffic.exits(enrollment)


def does_half(traffic: Traffic) -> None:
    enrollment = traffic.enrollment("all")
    traffic.started(enrollment, traffic.at(0))
    traffic.achieves(enrollment, first=traffic.submits(enrollment, "first", traffic.at(4)))


def is_counted(traffic: Traffic) -> None:
    enrollment = traffic.enrollment("never")
    traffic.started(enrollment, traffic.at(0))
    traffic.achieves(enrollment, counted=traffic.submits(enrollment, "counted", traffic.at(4)))


def had_ended(traffic: Traffic) -> None:
    """Submit after the end, which may arrive after the achievement, and then revokes it; an exit stands."""
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(0))
    traffic.submits(enrollment, "one", traffic.at(5))
    traffic.ended(enrollment, traffic.at(3))
    traffic.may_exit(enrollment)


def ends_later(traffic: Traffic) -> None:
    """Submit before the end: achieved in any order, with an exit only if the end arrives later."""
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(0))
    traffic.achieves(enrollment, one=traffic.submits(enrollment, "one", traffic.at(5)))
    traffic.ended(enrollment, traffic.at(9))
    traffic.may_exit(enrollment)


def stranger(traffic: Traffic) -> None:
    traffic.submits(traffic.enrollment("any"), "one", traffic.at(5))


def too_early(traffic: Traffic) -> None:
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(5))
    traffic.submits(enrollment, "one", traffic.at(4))


SCENES: Final[dict[Callable[[Traffic], None], int]] = {
    signs_up: 30,
    signs_up_twice: 10,
    does_both: 10,
    does_half: 5,
    is_counted: 5,
    had_ended: 8,
    ends_later: 6,
    stranger: 8,
    too_early: 4,
}
