"""Expected against found, in PostgreSQL and in the topics, for the enrollments and records that are the demo's own."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
from msgspec import Struct, structs

from goalworker.demo import foreign_changes, listener, plans, tenant_setup
from goalworker.demo.own_offsets import OwnOffsets

T = TypeVar("T", bound=Hashable)

SAMPLES: Final = 3
_OUTBOX_ROWS_MAX: Final = 10_000


class Row(Struct, frozen=True):
    """One line of the table; mismatch is empty where all matches, differences are samples in sentences."""

    what: str
    expected: int
    found: int
    mismatch: str = ""
    differences: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        return not self.mismatch


class Verdict(Struct, frozen=True):
    """The table, and in sentences what is not part of it since others sent or changed it."""

    rows: list[Row]
    not_checked: list[str]


_ACHIEVEMENTS: Final = """
SELECT tenant_id, enrollment_id, goal_id, achieved_at, event_source, event_id, revision, revoked_at IS NULL AS stands
FROM achievements WHERE tenant_id = ANY($1)
"""

_EXITS: Final = """
SELECT tenant_id, enrollment_id, workflow_id, contact_id, logic, goal_id, goal_ids, achieved_at
FROM exits WHERE tenant_id = ANY($1)
"""

_OUTBOX: Final = f"SELECT value FROM outbox ORDER BY id LIMIT {_OUTBOX_ROWS_MAX}"
_PAUSED: Final = "SELECT topic, reason FROM paused_topics WHERE is_paused ORDER BY topic"


class _Stored(Struct, frozen=True):
    achievements: list[asyncpg.Record]
    exits: list[plans.Exit]
    paused: list[tuple[str, str]]


async def compare(
    database_url: str,
    setup: tenant_setup.TenantSetup,
    expected: plans.Outcome,
    found: listener.Received,
    scope: foreign_changes.Scope,
    own_offsets: OwnOffsets,
    lag_records: int,
) -> Verdict:
    """Return the table of expected and found, and what is left out of it."""
    stored = await _stored(database_url, setup)
    letters = [letter for origin, letter in found.dead_letters.items() if own_offsets.is_own(*origin)]
    odd = [each for each in found.anomalies if is_own(each.subject, scope, own_offsets, setup)]
    rows = [
        *_achievements(expected, found, stored, scope),
        *_exits(expected, found, stored, scope),
        compare_items(
            "goals by goal-configured messages", setup.goal_ids.values(), found.configured & {*setup.goal_ids.values()}
        ),
        *_dead_letters(_covered(expected.dead_letters, scope.covers_letter), _covered(letters, scope.covers_letter)),
        compare_counts("own messages left in the outbox", 0, await count_unsent(database_url, scope, setup)),
        compare_counts("own records not yet committed", 0, lag_records),
        compare_counts("anything else", 0, len(odd), [each.sentence for each in odd]),
    ]
    return Verdict(rows, [*_left_out(found, scope, own_offsets, setup), *map(_paused, stored.paused)])


async def count_unsent(database_url: str, scope: foreign_changes.Scope, setup: tenant_setup.TenantSetup) -> int:
    """Return how many messages about own enrollments and goals wait in the outbox."""
    connection = await asyncpg.connect(database_url)
    try:
        values = [each["value"] for each in await connection.fetch(_OUTBOX)]
    finally:
        await connection.close()
    owners = [listener.subject_of(value) for value in values]
    goal_ids = {*setup.goal_ids.values()}
    return sum(1 for subject in owners if subject in goal_ids or subject in scope.own_keys)


async def _stored(database_url: str, setup: tenant_setup.TenantSetup) -> _Stored:
    connection = await asyncpg.connect(database_url)
    try:
        achievements = await connection.fetch(_ACHIEVEMENTS, setup.tenants)
        exits = await connection.fetch(_EXITS, setup.tenants)
        paused = await connection.fetch(_PAUSED)
    finally:
        await connection.close()
    return _Stored(achievements, [_exited(each) for each in exits], [tuple(each) for each in paused])


def _achievements(
    expected: plans.Outcome, found: listener.Received, stored: _Stored, scope: foreign_changes.Scope
) -> list[Row]:
    achieved = _covered(expected.achieved, lambda each: scope.covers(each.key))
    rows = _covered(stored.achievements, lambda each: scope.covers((each["tenant_id"], each["enrollment_id"])))
    folded = {key: last for key, last in found.achievements.items() if scope.covers(key[:2])}
    return [
        compare_items(
            "achievements in PostgreSQL",
            achieved,
            [plans.Achievement(*tuple(each)[:6]) for each in rows if each["stands"]],
            _goal_key,
        ),
        compare_items(
            "achievements by goal-achieved messages",
            achieved,
            [last.achieved for last in folded.values() if last.achieved is not None],
            _goal_key,
        ),
        compare_items(
            "revisions, each message as its row",
            [(*tuple(each)[:3], each["revision"], each["stands"]) for each in rows],
            [(*key, last.revision, last.achieved is not None) for key, last in folded.items()],
            lambda each: each[:3],
        ),
    ]


def _exits(
    expected: plans.Outcome, found: listener.Received, stored: _Stored, scope: foreign_changes.Scope
) -> list[Row]:
    exited = _covered(expected.exited, lambda each: scope.covers(each.key))
    return [
        compare_items(
            "exits in PostgreSQL",
            exited,
            _covered(stored.exits, lambda each: scope.covers(each.key)),
            lambda each: each.key,
        ),
        compare_items(
            "exits by workflow-exit messages",
            [listener.FoundExit.of(each) for each in exited],
            _covered(found.exits.values(), lambda each: scope.covers(each.key)),
            lambda each: each.key,
        ),
    ]


def _goal_key(achieved: plans.Achievement) -> Hashable:
    return (*achieved.key, achieved.goal_id)


def _dead_letters(expected: Collection[plans.DeadLetter], found: Collection[plans.DeadLetter]) -> list[Row]:
    reasons = sorted({letter.reason for letter in (*expected, *found)})
    return [
        compare_items(
            f"dead letters, {reason}",
            [letter for letter in expected if letter.reason == reason],
            [letter for letter in found if letter.reason == reason],
        )
        for reason in reasons
    ]


def _covered(things: Iterable[T], is_covered: Callable[[T], bool]) -> list[T]:
    return [each for each in things if is_covered(each)]


def is_own(
    subject: listener.Subject, scope: foreign_changes.Scope, own_offsets: OwnOffsets, setup: tenant_setup.TenantSetup
) -> bool:
    """Say whether an odd message is about something of the demo's own that nobody else touched."""
    match subject:
        case UUID():
            return subject in setup.goal_ids.values()
        case (str() as tenant_id, str() as enrollment_id):
            return scope.covers((tenant_id, enrollment_id))
        case (partition, int() as offset):
            return own_offsets.is_own(partition, offset)
        case _:
            return False  # if it was to be one of ours, that one is missing


# --- what is left out ---


def _left_out(
    found: listener.Received, scope: foreign_changes.Scope, own_offsets: OwnOffsets, setup: tenant_setup.TenantSetup
) -> list[str]:
    """Say what came of messages and changes that others made, and which of our enrollments they touched."""
    foreign: dict[str, Sequence[object]] = {
        "achievement": [
            key
            for key, last in found.achievements.items()
            if last.achieved is not None and key[:2] not in scope.own_keys
        ],
        "exit": [each for each in found.exits.values() if each.key not in scope.own_keys],
        "dead letter": [
            at for at in found.dead_letters if not own_offsets.is_own(*at) and not own_offsets.is_older(*at)
        ],
        "odd message": [each for each in found.anomalies if not is_own(each.subject, scope, own_offsets, setup)],
    }
    counted = [f"{len(each):,} {what}{'s' * (len(each) != 1)}" for what, each in foreign.items() if each]
    sentences = [f"{', '.join(counted)}: of messages that the demo did not send"] if counted else []
    return sentences + [
        f"{number:,} enrollment{'s' * (number != 1)} of {workflow_id} of {tenant_id}: somebody changed its goals or "
        "sent messages about the same contacts"
        for (tenant_id, workflow_id), number in sorted(scope.touched_workflows.items())
    ]


def _paused(topic: tuple[str, str]) -> str:
    name, reason = topic
    return f"{name} is paused, for most of it was {reason}: its records wait until `goalworker topics resume {name}`"


# --- a line of the table ---


def compare_items(
    what: str,
    expected: Collection[T],
    found: Collection[T],
    identity: Callable[[T], Hashable] = lambda each: each,
) -> Row:
    """Compare two bags of things; what has the identity of something expected and is not the same was altered."""
    missing, more = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    wanted, known = {identity(each): each for each in missing}, set(expected)
    twice = [each for each in more if each in known]
    altered = [each for each in more if each not in known and identity(each) in wanted]
    unexpected = [each for each in more if each not in known and identity(each) not in wanted]
    changed = {identity(each) for each in altered}
    lost = [each for each in missing if identity(each) not in changed]
    kinds = {
        "expected and not found": [spell_out(each) for each in lost],
        "found twice": [spell_out(each) for each in twice],
        "altered": [f"{spell_out(each)}, expected {spell_out(wanted[identity(each)])}" for each in altered],
        "found and not expected": [spell_out(each) for each in unexpected],
    }
    verdict = ", ".join(f"{len(each):,} {kind}" for kind, each in kinds.items() if each)
    differences = [f"{kind}: {text}" for kind, each in kinds.items() for text in each[:SAMPLES]]
    return Row(what, len(expected), len(found), verdict, tuple(differences))


def compare_counts(what: str, expected: int, found: int, differences: Collection[str] = ()) -> Row:
    """Compare two numbers."""
    verdict = "" if expected == found else f"{abs(found - expected):,} too {'many' if found > expected else 'few'}"
    return Row(what, expected, found, verdict, tuple(differences)[:SAMPLES])


def spell_out(value: object) -> str:
    """Spell out ids and fields as a person would look them up, without Python's notation."""
    match value:
        case Struct():
            return " ".join(f"{name}={spell_out(field)}" for name, field in structs.asdict(value).items())
        case tuple() | list():
            return " ".join(map(spell_out, value))
        case datetime():
            return value.isoformat()
        case bytes():
            return value.decode(errors="backslashreplace")
        case _:
            return str(value)


def _exited(row: asyncpg.Record) -> plans.Exit:
    return plans.Exit(**{**row, "goal_ids": tuple(row["goal_ids"])})
