"""A stream of events of which it is known what must come of it, whatever happens (design, the three laws)."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.kit import conversation, messages_in

MALFORMED_EVERY = 20


@dataclass(frozen=True, slots=True)
class Flood:
    """Runs that each achieve one goal once, and the records that say so, in no order."""

    workflow_id: str
    runs: Sequence[messages_in.Run]
    records: Sequence[messages_in.Record]
    malformed: Sequence[messages_in.Record]

    async def is_judged(self, talk: conversation.Talk, share: float) -> bool:
        """Say whether that share of the goals is achieved."""
        return await _count(talk, "achievements", self.workflow_id) >= share * len(self.runs)

    async def check(self, talk: conversation.Talk) -> None:
        """All is judged and nothing twice; messages that come twice are the same bytes, which `messages` asserts."""
        await talk.settled()
        await talk.published()
        expected = {run.enrollment_id for run in self.runs}
        for table in ("achievements", "exits", "goal_hits"):
            assert await _count(talk, table, self.workflow_id) == len(expected), table
        for topic in ("goal_achieved", "workflow_exit"):
            messages = [each for each in await talk.messages(topic) if each.data["workflow_id"] == self.workflow_id]
            assert Counter(message.data["enrollment_id"] for message in messages) == Counter(expected), topic
            assert {message.data.get("revision", 1) for message in messages} == {1}
        values = {record.value for record in self.malformed}
        letters = [letter for letter in await talk.dead_letters() if letter.value in values]
        # A dead letter may be sent twice, and says then where it came from in the same words.
        assert {letter.value for letter in letters} == values
        assert len({tuple(letter.headers) for letter in letters}) == len(values)


async def flood(talk: conversation.Talk, workflow_id: str, runs: int) -> Flood:
    """Create the goal, and everything to be said about it."""
    goal = await talk.goal(workflow_id, "form_submitted", form_id="f")
    chance = random.Random(runs)
    all_runs = [messages_in.a_run(workflow_id) for _ in range(runs)]
    records = [record for run in all_runs for record in _about(run, goal.created_at)]
    malformed = [
        messages_in.Record("form_submitted", f"{{{workflow_id} {number}".encode())
        for number in range(runs // MALFORMED_EVERY)
    ]
    chance.shuffle(records := records + malformed)
    return Flood(workflow_id, all_runs, records, malformed)


def _about(run: messages_in.Run, at: datetime) -> list[messages_in.Record]:
    hit, other = run.submits("f", messages_in.later(at, 2)), run.submits("g", messages_in.later(at, 1))
    return [run.started(at), run.started(at), hit, hit, other]


async def _count(talk: conversation.Talk, table: str, workflow_id: str) -> int:
    count: int = await talk.sql(f"SELECT count(*) FROM {table} WHERE workflow_id = $1", workflow_id)
    return count
