"""Compare what happened with what had to happen: lost, doubled, altered, out of order (design, the three laws).

The functions are pure: they take records, rows and messages, and return sentences about what is wrong.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec

from tests.faults import effects
from tests.faults.outcomes import ACHIEVED, MARK, Copy, Expected, Fact, Found, Message, Position, SentRecord, messages


def problems(sent: Mapping[bytes, SentRecord], expected: Expected, found: Found) -> list[str]:
    """Return everything that is wrong at the end, when all is committed and published."""
    return [
        *problems_so_far(sent, found),
        *_unfinished(sent, found),
        *effects.problems(expected, found),
    ]


def problems_so_far(sent: Mapping[bytes, SentRecord], found: Found) -> list[str]:
    """Return everything that is wrong at any moment, whatever is still in flight."""
    return [
        *_lost_after_commit(sent, found),
        *_altered_letters(sent, found),
        *_altered_messages(found),
        *_doubled(found),
        *_exits_before_achieved(found),
    ]


# --- nothing disappears ---


def _sent_record_of(sent: Mapping[bytes, SentRecord], copy: Copy) -> SentRecord:
    return sent[next(value for name, value in copy.headers if name == MARK and value is not None)]


def _lost_after_commit(sent: Mapping[bytes, SentRecord], found: Found) -> Iterator[str]:
    letters = {_origin(letter) for letter in found.dead_letters}
    for copy in found.inputs:
        topic, partition, offset = copy.position
        if offset >= found.committed.get((topic, partition), 0):
            continue
        sent_record = _sent_record_of(sent, copy)
        if sent_record.reason is not None and copy.position not in letters:
            yield f"lost: {copy.position} is committed and was not dead-lettered ({sent_record.reason})"
        if sent_record.fact is not None and not _is_stored(sent_record.fact, found):
            yield f"lost: {copy.position} is committed and its fact is not stored: {sent_record.fact}"


def _is_stored(fact: Fact, found: Found) -> bool:
    stored = found.facts.get(fact[:3])
    return stored is not None and (stored == fact.time if fact.kind == "hit" else stored <= fact.time)


def _unfinished(sent: Mapping[bytes, SentRecord], found: Found) -> Iterator[str]:
    arrived = {value for copy in found.inputs for name, value in copy.headers if name == MARK}
    for mark in sent.keys() - arrived:
        yield f"the test itself did not send {mark!r}"
    ends = {copy.position[:2]: copy.position[2] + 1 for copy in sorted(found.inputs, key=lambda copy: copy.position)}
    for (topic, partition), end in ends.items():
        committed = found.committed.get((topic, partition), 0)
        if committed < end:
            yield f"unfinished: {topic}[{partition}] is committed up to {committed} of {end}"
    if found.unsent:
        yield f"unfinished: {found.unsent} messages wait in the outbox"


# --- dead letters ---


def _origin(letter: Copy) -> Position:
    texts = _texts(letter)
    return (
        texts.get("x-original-topic", "?"),
        int(texts.get("x-original-partition", -1)),
        int(texts.get("x-original-offset", -1)),
    )


def _texts(copy: Copy) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in copy.headers if value is not None}


def _altered_letters(sent: Mapping[bytes, SentRecord], found: Found) -> Iterator[str]:
    inputs = {copy.position: copy for copy in found.inputs}
    seen: dict[Position, Copy] = {}
    for letter in found.dead_letters:
        origin = inputs.get(_origin(letter))
        if origin is None:
            yield f"altered: the dead letter {letter.position} is of no record: {_origin(letter)}"
            continue
        sent_record = _sent_record_of(sent, origin)
        if sent_record.reason is None:
            yield f"lost: the good record {origin.position} was dead-lettered: {_texts(letter).get('x-error-reason')}"
        elif difference := _difference(origin, letter, sent_record.reason, found.group_id):
            yield f"altered: the dead letter of {origin.position} has another {difference}"
        if letter[1:4] != seen.setdefault(origin.position, letter)[1:4]:
            yield f"altered: two dead letters of {origin.position} differ"


def _difference(origin: Copy, letter: Copy, reason: str, group_id: str) -> str:
    topic, partition, offset = origin.position
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
                yield f"altered: {copy.position} has the id {_id(copy)} of {seen[_id(copy)].position} and other bytes"


def _id(copy: Copy) -> str:
    return str(msgspec.json.decode(copy.value or b"{}").get("id"))


def _doubled(found: Found) -> Iterator[str]:
    exits = Counter(message.enrollment for message in messages(found.exit_topic))
    yield from (f"doubled: {number} exits of {key} were published" for key, number in exits.items() if number > 1)
    rows = Counter(found.exits)
    yield from (f"doubled: {number} exits of {key} are stored" for key, number in rows.items() if number > 1)
    revisions = Counter((message.achievement, message.data["revision"]) for message in messages(found.achieved_topic))
    yield from (f"doubled: {number} messages of revision {key}" for key, number in revisions.items() if number > 1)


def _exits_before_achieved(found: Found) -> Iterator[str]:
    """Find exits that were sent before the only achievement of the same judgement (section 4).

    Where the workflow was paused or wants more than one goal, the exit may be of a later judgement.
    """
    first: dict[str, Message] = {}
    for message in messages(found.achieved_topic):
        if message.type == ACHIEVED and message.data["revision"] == 1:
            first[message.data["achievement_id"]] = message
    for message in messages(found.exit_topic):
        achieved = [first[name] for name in message.data["achievement_ids"] if name in first]
        if len(message.data["achievement_ids"]) != 1 or not achieved or message.data["logic"] != "any":
            continue
        is_later = ("deactivated", message.tenant_id, message.data["workflow_id"]) in found.facts
        is_later |= message.data["achieved_at"] != achieved[0].data["achieved_at"]
        if not is_later and message.timestamp_ms < achieved[0].timestamp_ms:
            yield f"out of order: the exit of {message.enrollment} was sent before its achievement"
