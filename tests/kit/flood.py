"""A flood of events whose results are known beforehand, whatever happens (design, the three laws)."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.kit import clients, messages_in

MALFORMED_EVERY = 20


@dataclass(frozen=True, slots=True)
class Flood:
    """Enrollments that each achieve one goal once, and their records, shuffled."""

    workflow_id: str
    enrollments: Sequence[messages_in.Enrollment]
    records: Sequence[messages_in.Record]
    malformed: Sequence[messages_in.Record]

    async def is_judged(self, client: clients.Client, share: float) -> bool:
        """Say whether that share of the goals is achieved."""
        return await _count(client, "achievements", self.workflow_id) >= share * len(self.enrollments)

    async def check(self, client: clients.Client) -> None:
        """Assert that every enrollment is judged exactly once; `messages` asserts that repeats are the same bytes."""
        await client.settle()
        await client.wait_until_published()
        expected = {enrollment.enrollment_id for enrollment in self.enrollments}
        for table in ("achievements", "exits", "goal_hits"):
            assert await _count(client, table, self.workflow_id) == len(expected), table
        for topic in ("goal_achieved", "workflow_exit"):
            messages = [each for each in await client.messages(topic) if each.data["workflow_id"] == self.workflow_id]
            assert Counter(message.data["enrollment_id"] for message in messages) == Counter(expected), topic
            assert {message.data.get("revision", 1) for message in messages} == {1}
        values = {record.value for record in self.malformed}
        letters = [letter for letter in await client.dead_letters() if letter.value in values]
        # A dead letter may be sent twice, with the same headers.
        assert {letter.value for letter in letters} == values
        assert len({tuple(letter.headers) for letter in letters}) == len(values)


async def flood(client: clients.Client, workflow_id: str, count: int) -> Flood:
    """Create the goal and the records."""
    goal = await client.create_goal(workflow_id, "form_submitted", form_id="f")
    chance = random.Random(count)
    enrollments = [messages_in.new_enrollment(workflow_id) for _ in range(count)]
    records = [record for enrollment in enrollments for record in _about(enrollment, goal.created_at)]
    malformed = [
        messages_in.Record("form_submitted", f"{{{workflow_id} {number}".encode())
        for number in range(count // MALFORMED_EVERY)
    ]
    chance.shuffle(records := records + malformed)
    return Flood(workflow_id, enrollments, records, malformed)


def _about(enrollment: messages_in.Enrollment, at: datetime) -> list[messages_in.Record]:
    hit, other = enrollment.submits("f", messages_in.later(at, 2)), enrollment.submits("g", messages_in.later(at, 1))
    return [enrollment.started(at), enrollment.started(at), hit, hit, other]


async def _count(client: clients.Client, table: str, workflow_id: str) -> int:
    count: int = await client.sql(f"SELECT count(*) FROM {table} WHERE workflow_id = $1", workflow_id)
    return count
