"""Traffic of which it is known what must come of it, in whatever order and however often it is read.

Every run has a contact of its own, so that nothing that is said about one changes what comes of another.
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
from tests.kit import conversation, messages_in

SENT_AT_ONCE: Final = 500
# In ids, payloads, keys and headers, and in no line of a log (workers.leaks).
PLANTED: Final = "LEAK"
MALFORMED: Final = {
    "invalid_json": b"{" + PLANTED.encode() * 10,
    "invalid_envelope": b'{"specversion": "1.0"}',
    "unsupported_wire_format": b"\x00\x00\x00\x00\x01" + PLANTED.encode(),
}


@dataclass(slots=True)
class Story:
    """What has been told so far, and what must have come of it in the end."""

    talk: conversation.Talk
    name: str
    goals: dict[str, goal_store.StoredGoal]
    since: datetime
    chance: random.Random
    tellings: dict[bytes, history.Telling] = field(default_factory=dict)
    expected: history.Expected = field(default_factory=history.Expected)
    untold: list[messages_in.Record] = field(default_factory=list)
    _marks: Iterator[int] = field(default_factory=itertools.count)

    # --- to plan ---

    def plan(self, runs: int, malformed: int = 0) -> None:
        """Think of so many runs and malformed records, to be told in no order."""
        for _ in range(runs):
            (scene,) = self.chance.choices(list(SCENES), list(SCENES.values()))
            scene(self)
        for _ in range(malformed):
            self.garbage()
        self.chance.shuffle(self.untold)

    def run(self, workflow: str) -> messages_in.Run:
        """The run of another contact through a workflow of this story."""
        number = next(self._marks)
        return messages_in.Run(f"{self.name}-{workflow}", f"{PLANTED}-run-{number}", f"{PLANTED}-contact-{number}")

    def at(self, milliseconds: float) -> datetime:
        """A moment after the goals were made."""
        return messages_in.later(self.since, milliseconds)

    def started(self, run: messages_in.Run, at: datetime) -> None:
        fact = history.Fact("started", messages_in.TENANT, run.enrollment_id, at)
        self._tell(history.Telling(run.started(at), fact))

    def ended(self, run: messages_in.Run, at: datetime) -> None:
        fact = history.Fact("ended", messages_in.TENANT, run.enrollment_id, at)
        self._tell(history.Telling(run.ended(at), fact))

    def submits(self, run: messages_in.Run, goal: str, at: datetime, partition: int | None = None) -> history.Trigger:
        """The form that a goal asks for."""
        return self.hits(run, self.goals[goal].criteria["form_id"], at, partition)

    def hits(self, run: messages_in.Run, form_id: str, at: datetime, partition: int | None = None) -> history.Trigger:
        """A form that some goal asks for at that moment."""
        event_id = uuid4().hex
        record = replace(run.submits(form_id, at, id=event_id), partition=partition)
        self._tell(history.Telling(record, history.Fact("hit", messages_in.TENANT, event_id, at)))
        return history.Trigger(at, "/crm", event_id)

    def garbage(self, topic: str | None = None) -> None:
        """What can't work, with a key and headers that are nobody's business."""
        reason, value = self.chance.choice(list(MALFORMED.items()))
        headers = (("trace", self.chance.randbytes(4)), ("empty", None), ("trace", PLANTED.encode()))
        topic = topic or self.chance.choice(("tag_added", "form_submitted", "workflow_lifecycle"))
        value += b" " * self.chance.randrange(3)
        self._tell(
            history.Telling(
                messages_in.Record(topic, value, PLANTED.encode() + self.chance.randbytes(5), headers), reason=reason
            )
        )

    def says(self, record: messages_in.Record) -> None:
        """What nothing comes of by itself."""
        self._tell(history.Telling(record))

    def achieves(self, run: messages_in.Run, **triggers: history.Trigger) -> None:
        """Expect an achievement for each goal."""
        for goal, trigger in triggers.items():
            self.expected.achieved[messages_in.TENANT, run.enrollment_id, self.goals[goal].id] = trigger

    def exits(self, run: messages_in.Run) -> None:
        self.expected.exits.add((messages_in.TENANT, run.enrollment_id))

    def may_exit(self, run: messages_in.Run) -> None:
        self.expected.may_exit.add((messages_in.TENANT, run.enrollment_id))

    def _tell(self, telling: history.Telling) -> None:
        # Sometimes twice: the same event again is the same event.
        for _ in range(self.chance.choice((1, 1, 1, 2))):
            mark = b"%d" % next(self._marks)
            record = telling.record.with_headers((history.MARK, mark))
            self.tellings[mark] = replace(telling, record=record)
            self.untold.append(record)

    # --- to tell ---

    async def tell(self, share: float = 1.0) -> None:
        """Send that share of what was planned and is still untold; what was not acknowledged is sent again."""
        number = round(len(self.untold) * share)
        for start in range(0, number, SENT_AT_ONCE):
            await self._send(self.untold[start : min(start + SENT_AT_ONCE, number)])
        del self.untold[:number]

    async def _send(self, records: Sequence[messages_in.Record]) -> None:
        for _ in range(20):
            with contextlib.suppress(kafka_errors.KafkaError):
                await self.talk.send(*records)
                return
        raise AssertionError("the test itself cannot send")


async def begin(talk: conversation.Talk, name: str, seed: int = 0) -> Story:
    """Make the goals of a story."""
    await talk.logic(f"{name}-all", "all")
    await talk.logic(f"{name}-never", "never")
    goals = {
        goal: await talk.goal(f"{name}-{workflow}", "form_submitted", form_id=f"{PLANTED}-{name}-{goal}")
        for goal, workflow in {"one": "any", "first": "all", "second": "all", "counted": "never"}.items()
    }
    since = max(goal.created_at for goal in goals.values())
    return Story(talk, name, goals, since, random.Random(f"{name} {seed}"))


# --- scenes ---


def signs_up(story: Story) -> None:
    run = story.run("any")
    story.started(run, story.at(0))
    story.says(run.submits("another form", story.at(1)))
    story.achieves(run, one=story.submits(run, "one", story.at(story.chance.randrange(1_000))))
    story.exits(run)


def signs_up_twice(story: Story) -> None:
    """The earlier one counts, whichever comes first: a correction where it comes second."""
    run = story.run("any")
    story.started(run, story.at(0))
    story.achieves(run, one=story.submits(run, "one", story.at(3)))
    story.submits(run, "one", story.at(7))
    story.exits(run)


def does_both(story: Story) -> None:
    run = story.run("all")
    story.started(run, story.at(0))
    first, second = (story.submits(run, goal, story.at(story.chance.randrange(9))) for goal in ("first", "second"))
    story.achieves(run, first=first, second=second)
    story.exits(run)


def does_half(story: Story) -> None:
    run = story.run("all")
    story.started(run, story.at(0))
    story.achieves(run, first=story.submits(run, "first", story.at(4)))


def is_counted(story: Story) -> None:
    run = story.run("never")
    story.started(run, story.at(0))
    story.achieves(run, counted=story.submits(run, "counted", story.at(4)))


def had_ended(story: Story) -> None:
    """The end may come after the achievement that it revokes, and after the exit, which stands."""
    run = story.run("any")
    story.started(run, story.at(0))
    story.submits(run, "one", story.at(5))
    story.ended(run, story.at(3))
    story.may_exit(run)


def ends_later(story: Story) -> None:
    """Achieved in any order; an exit only where the end was not known before."""
    run = story.run("any")
    story.started(run, story.at(0))
    story.achieves(run, one=story.submits(run, "one", story.at(5)))
    story.ended(run, story.at(9))
    story.may_exit(run)


def stranger(story: Story) -> None:
    story.submits(story.run("any"), "one", story.at(5))


def too_early(story: Story) -> None:
    run = story.run("any")
    story.started(run, story.at(5))
    story.submits(run, "one", story.at(4))


SCENES: Final[dict[Callable[[Story], None], int]] = {
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
