"""What happened against what had to happen: lost, doubled, altered, out of order (design, the three laws).

Pure: what was sent, what is stored and what was published come in, and sentences about what is wrong come out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from goalworker.domain import ids
from tests.kit import messages_in

MARK: Final = "x-telling"
ACHIEVED: Final = "workflow.goal.achieved"
REVOKED: Final = "workflow.goal.revoked"

Place = tuple[str, int, int]
"""(topic, partition, offset) of a record."""
EnrollmentKey = tuple[str, str]
AchievementKey = tuple[str, str, UUID]


class Copy(NamedTuple):
    """A record as it stands in a topic."""

    place: Place
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


class Fact(NamedTuple):
    """What must be stored once a record is judged: a `hit` by its event, or when a run `started` or `ended`."""

    kind: str
    tenant_id: str
    name: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Telling:
    """One thing that a test says: the record, and the fact or the reason of the dead letter that comes of it."""

    record: messages_in.Record
    fact: Fact | None = None
    reason: str | None = None


class Trigger(NamedTuple):
    """The event that an achievement rests on."""

    time: datetime
    source: str
    event_id: str


@dataclass(slots=True)
class Expected:
    """What must have come of everything, in whatever order it was read: known by construction.

    An exit is a command and stands, so that with some stories it depends on the order: `may_exit`.
    """

    achieved: dict[AchievementKey, Trigger] = field(default_factory=dict)
    exits: set[EnrollmentKey] = field(default_factory=set)
    may_exit: set[EnrollmentKey] = field(default_factory=set)


class Row(NamedTuple):
    """A stored achievement."""

    revision: int
    revoked: bool
    trigger: Trigger


@dataclass(slots=True)
class Found:
    """What is there, read in this order: offsets, tables, topics. What is committed must then be in the others."""

    group_id: str
    committed: Mapping[tuple[str, int], int]
    facts: Mapping[tuple[str, str, str], datetime]
    achievements: Mapping[AchievementKey, Row]
    exits: Sequence[EnrollmentKey]
    waiting: int
    inputs: Sequence[Copy]
    achieved_topic: Sequence[Copy]
    exit_topic: Sequence[Copy]
    dead_letters: Sequence[Copy]


class Message(NamedTuple):
    """An outgoing message, once, with the time of its first copy."""

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


def problems(tellings: Mapping[bytes, Telling], expected: Expected, found: Found) -> list[str]:
    """Say everything that is wrong at the end, when all is committed and published."""
    return [
        *problems_so_far(tellings, found),
        *_unfinished(tellings, found),
        *_against_expected(expected, found),
        *_rows_against_messages(found),
    ]


def problems_so_far(tellings: Mapping[bytes, Telling], found: Found) -> list[str]:
    """Say everything that is wrong whatever is still under way: this holds at every moment."""
    return [
        *_committed_for_nothing(tellings, found),
        *_altered_letters(tellings, found),
        *_altered_messages(found),
        *_doubled(found),
        *_exits_before_achieved(found),
    ]


# --- nothing disappears ---


def _telling(tellings: Mapping[bytes, Telling], copy: Copy) -> Telling:
    return tellings[next(value for name, value in copy.headers if name == MARK and value is not None)]


def _committed_for_nothing(tellings: Mapping[bytes, Telling], found: Found) -> Iterator[str]:
    letters = {_origin(letter) for letter in found.dead_letters}
    for copy in found.inputs:
        topic, partition, offset = copy.place
        if offset >= found.committed.get((topic, partition), 0):
            continue
        telling = _telling(tellings, copy)
        if telling.reason is not None and copy.place not in letters:
            yield f"lost: {copy.place} is committed and was not dead-lettered ({telling.reason})"
        if telling.fact is not None and not _is_stored(telling.fact, found):
            yield f"lost: {copy.place} is committed and its fact is not stored: {telling.fact}"


def _is_stored(fact: Fact, found: Found) -> bool:
    stored = found.facts.get(fact[:3])
    return stored is not None and (stored == fact.time if fact.kind == "hit" else stored <= fact.time)


def _unfinished(tellings: Mapping[bytes, Telling], found: Found) -> Iterator[str]:
    sent = {value for copy in found.inputs for name, value in copy.headers if name == MARK}
    for mark in tellings.keys() - sent:
        yield f"the test itself did not send {mark!r}"
    ends = {copy.place[:2]: copy.place[2] + 1 for copy in sorted(found.inputs, key=lambda copy: copy.place)}
    for (topic, partition), end in ends.items():
        committed = found.committed.get((topic, partition), 0)
        if committed < end:
            yield f"unfinished: {topic}[{partition}] is committed up to {committed} of {end}"
    if found.waiting:
        yield f"unfinished: {found.waiting} messages wait in the outbox"


# --- dead letters ---


def _origin(letter: Copy) -> Place:
    texts = _texts(letter)
    return (
        texts.get("x-original-topic", "?"),
        int(texts.get("x-original-partition", -1)),
        int(texts.get("x-original-offset", -1)),
    )


def _texts(copy: Copy) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in copy.headers if value is not None}


def _altered_letters(tellings: Mapping[bytes, Telling], found: Found) -> Iterator[str]:
    inputs = {copy.place: copy for copy in found.inputs}
    seen: dict[Place, Copy] = {}
    for letter in found.dead_letters:
        origin = inputs.get(_origin(letter))
        if origin is None:
            yield f"altered: the dead letter {letter.place} is of no record: {_origin(letter)}"
            continue
        telling = _telling(tellings, origin)
        if telling.reason is None:
            yield f"lost: the good record {origin.place} was dead-lettered: {_texts(letter).get('x-error-reason')}"
        elif difference := _difference(origin, letter, telling.reason, found.group_id):
            yield f"altered: the dead letter of {origin.place} has another {difference}"
        if letter[1:4] != seen.setdefault(origin.place, letter)[1:4]:
            yield f"altered: two dead letters of {origin.place} differ"


def _difference(origin: Copy, letter: Copy, reason: str, group_id: str) -> str:
    topic, partition, offset = origin.place
    ours = {
        "x-original-topic": topic,
        "x-original-partition": str(partition),
        "x-original-offset": str(offset),
        "x-original-timestamp": str(origin.timestamp_ms),
        "x-original-group": group_id,
        "x-error-reason": reason,
        "x-redrive-count": "0",
    }
    texts = _texts(letter)
    of_sender = tuple(each for each in letter.headers if each[0] not in ours and each[0] != "x-error-message")
    parts = {
        "key": letter.key == origin.key,
        "value": letter.value == origin.value,
        "headers": of_sender == origin.headers,
        "x-error-message": bool(texts.get("x-error-message")),
        **{name: texts.get(name) == text for name, text in ours.items()},
    }
    return ", ".join(name for name, is_right in parts.items() if not is_right)


# --- effect once: messages ---


def _altered_messages(found: Found) -> Iterator[str]:
    for topic in (found.achieved_topic, found.exit_topic):
        seen: dict[str, Copy] = {}
        for copy in topic:
            if copy[1:4] != seen.setdefault(_id(copy), copy)[1:4]:
                yield f"altered: {copy.place} has the id {_id(copy)} of {seen[_id(copy)].place} and other bytes"


def _id(copy: Copy) -> str:
    return str(msgspec.json.decode(copy.value or b"{}").get("id"))


def messages(topic: Iterable[Copy]) -> list[Message]:
    """Return the messages of a topic as a consumer that drops what it has seen has them."""
    firsts: dict[str, Message] = {}
    for copy in topic:
        body = msgspec.json.decode(copy.value or b"{}")
        message = Message(body["id"], body["type"], body["tenantid"], body["data"], copy.timestamp_ms)
        known = firsts.setdefault(message.id, message)
        if copy.timestamp_ms < known.timestamp_ms:
            firsts[message.id] = message
    return list(firsts.values())


def _doubled(found: Found) -> Iterator[str]:
    exits = Counter(message.enrollment for message in messages(found.exit_topic))
    yield from (f"doubled: {number} exits of {key} were published" for key, number in exits.items() if number > 1)
    rows = Counter(found.exits)
    yield from (f"doubled: {number} exits of {key} are stored" for key, number in rows.items() if number > 1)
    revisions = Counter((message.achievement, message.data["revision"]) for message in messages(found.achieved_topic))
    yield from (f"doubled: {number} messages of revision {key}" for key, number in revisions.items() if number > 1)


def _exits_before_achieved(found: Found) -> Iterator[str]:
    """Where an exit rests on one achievement both are of one judgement, and the achievement comes first (section 4)."""
    first: dict[str, int] = {}
    for message in messages(found.achieved_topic):
        if message.type == ACHIEVED and message.data["revision"] == 1:
            first[message.data["achievement_id"]] = message.timestamp_ms
    for message in messages(found.exit_topic):
        rests_on = message.data["achievement_ids"]
        if len(rests_on) == 1 and message.timestamp_ms < first.get(rests_on[0], message.timestamp_ms):
            yield f"out of order: the exit of {message.enrollment} was sent before its achievement"


# --- effect once: rows, messages and what was expected ---


def _against_expected(expected: Expected, found: Found) -> Iterator[str]:
    standing = {key: row.trigger for key, row in found.achievements.items() if not row.revoked}
    yield from _compared("achievement", expected.achieved, standing)
    told = {message.enrollment for message in messages(found.exit_topic)}
    for what, exits in (("row", set(found.exits)), ("message", told)):
        yield from (f"lost: no exit {what} of {key}" for key in sorted(expected.exits - exits))
        yield from (f"too much: an exit {what} of {key}" for key in sorted(exits - expected.exits - expected.may_exit))


def _rows_against_messages(found: Found) -> Iterator[str]:
    revisions: dict[AchievementKey, dict[int, Message]] = defaultdict(dict)
    for message in messages(found.achieved_topic):
        revisions[message.achievement][message.data["revision"]] = message
        if message.id != _message_id(message):
            yield f"altered: {message.id} is not the id of revision {message.data['revision']}"
    for key, known in revisions.items():
        if sorted(known) != list(range(1, len(known) + 1)):
            yield f"lost: of {key} there are the revisions {sorted(known)} only"
    last = {key: _as_row(known[max(known)]) for key, known in revisions.items()}
    stored = {key: _comparable(row) for key, row in found.achievements.items()}
    yield from _compared("last message", stored, last)
    yield from _exit_rows_against_messages(found)


def _exit_rows_against_messages(found: Found) -> Iterator[str]:
    told = {message.enrollment: message for message in messages(found.exit_topic)}
    yield from (f"lost: the exit of {key} is stored and was not published" for key in set(found.exits) - told.keys())
    yield from (
        f"too much: the exit of {key} was published and is not stored" for key in told.keys() - set(found.exits)
    )
    for key, message in told.items():
        if message.id != str(ids.exit_id(*key)):
            yield f"altered: {message.id} is not the id of the exit of {key}"


def _message_id(message: Message) -> str:
    make = ids.achieved_message_id if message.type == ACHIEVED else ids.revoked_message_id
    return str(make(*message.achievement, message.data["revision"]))


def _as_row(message: Message) -> tuple[int, Trigger | None]:
    if message.type == REVOKED:
        return message.data["revision"], None
    event = message.data["trigger_event"]
    return message.data["revision"], Trigger(datetime.fromisoformat(event["time"]), event["source"], event["id"])


def _comparable(row: Row) -> tuple[int, Trigger | None]:
    return row.revision, None if row.revoked else row.trigger


def _compared(what: str, wanted: Mapping[AchievementKey, Any], there: Mapping[AchievementKey, Any]) -> Iterator[str]:
    yield from (f"lost: no {what} of {key}" for key in wanted.keys() - there.keys())
    yield from (f"too much: {what} of {key}" for key in there.keys() - wanted.keys())
    for key in wanted.keys() & there.keys():
        if wanted[key] != there[key]:
            yield f"altered: {what} of {key} is {there[key]} and should be {wanted[key]}"
