"""What must have come of the traffic, against what is there: PostgreSQL, the topics, and nothing else."""

from collections import Counter
from collections.abc import Collection, Hashable
from typing import Final, TypeVar

import asyncpg
from msgspec import Struct

from goalworker.demo import listener, plans, stage

T = TypeVar("T", bound=Hashable)

SAMPLES: Final = 3


class Row(Struct, frozen=True):
    """One line of the table; differences: some of what is missing or too much."""

    what: str
    expected: int
    found: int
    differences: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        return self.expected == self.found and not self.differences


_ACHIEVEMENTS: Final = """
SELECT tenant_id, enrollment_id, goal_id, achieved_at, event_source, event_id, revision, revoked_at IS NULL AS stands
FROM achievements WHERE tenant_id = ANY($1)
"""

_EXITS: Final = """
SELECT tenant_id, enrollment_id, workflow_id, contact_id, logic, goal_id, goal_ids, achieved_at
FROM exits WHERE tenant_id = ANY($1)
"""

_OUTBOX: Final = "SELECT count(*) FROM outbox"


async def compare(
    database_url: str, on: stage.Stage, expected: plans.Outcome, found: listener.Found, lag_records: int
) -> list[Row]:
    """Return the table of expected and found."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(_ACHIEVEMENTS, on.tenants)
        exits = await connection.fetch(_EXITS, on.tenants)
    finally:
        await connection.close()
    stored = {(each["tenant_id"], each["enrollment_id"], each["goal_id"]): each for each in rows}
    standing = [plans.Achieved(*tuple(each)[:6]) for each in rows if each["stands"]]
    folded = found.achievements
    return [
        row("achievements in PostgreSQL", expected.achieved, standing),
        row(
            "achievements by goal-achieved messages",
            expected.achieved,
            [last.achieved for last in folded.values() if last.achieved is not None],
        ),
        row(
            "revisions, each message as its row",
            [(*key, each["revision"], each["stands"]) for key, each in stored.items()],
            [(*key, last.revision, last.achieved is not None) for key, last in folded.items()],
        ),
        row("exits in PostgreSQL", expected.exited, [_exited(each) for each in exits]),
        row(
            "exits by workflow-exit messages",
            [listener.FoundExit.of(each) for each in expected.exited],
            list(found.exits.values()),
        ),
        row(
            "goals by goal-configured messages",
            list(on.goal_ids.values()),
            # Of others, whoever plays with the API knows.
            [goal_id for goal_id in found.configured if goal_id in set(on.goal_ids.values())],
        ),
        *_dead_letters(expected.dead_letters, list(found.dead_letters.values())),
        Row("messages left in the outbox", 0, await unsent(database_url)),
        Row("records not yet committed", 0, lag_records),
        Row("anything else", 0, len(found.odd), tuple(found.odd[:SAMPLES])),
    ]


async def unsent(database_url: str) -> int:
    """Return how many messages wait in the outbox."""
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval(_OUTBOX))
    finally:
        await connection.close()


def _dead_letters(expected: Collection[plans.DeadLetter], found: Collection[plans.DeadLetter]) -> list[Row]:
    reasons = sorted({letter.reason for letter in (*expected, *found)})
    return [
        row(
            f"dead letters, {reason}",
            [letter for letter in expected if letter.reason == reason],
            [letter for letter in found if letter.reason == reason],
        )
        for reason in reasons
    ]


def row(what: str, expected: Collection[T], found: Collection[T]) -> Row:
    """Compare two bags of things."""
    missing, more = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    differences = [f"missing: {each}" for each in list(missing)[:SAMPLES]]
    differences += [f"too much: {each}" for each in list(more)[:SAMPLES]]
    return Row(what, len(expected), len(found), tuple(differences))


def _exited(row: asyncpg.Record) -> plans.Exited:
    return plans.Exited(**{**row, "goal_ids": tuple(row["goal_ids"])})
