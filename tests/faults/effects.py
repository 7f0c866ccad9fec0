"""Compare rows and messages with each other, and with the outcome that the records must have (effect once)."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeVar

from goalworker.domain import ids
from tests.faults.outcomes import ACHIEVED, REVOKED, Expected, Found, Message, Row, messages
from tests.kit import stored
from tests.kit.naive_judge import AchievementKey

K = TypeVar("K", bound=Hashable)


def problems(expected: Expected, found: Found) -> Iterator[str]:
    """Return what is wrong in the rows and messages in the end."""
    yield from _against_expected(expected, found)
    yield from _exits_against_expected(expected, found)
    yield from _revocations(expected, found)
    yield from _rows_against_messages(found)
    yield from _exit_rows_against_messages(found)


def _against_expected(expected: Expected, found: Found) -> Iterator[str]:
    standing = {key: row.achieved for key, row in found.achievements.items() if row.achieved is not None}
    yield from _compared("achievement", expected.achieved, standing)
    yield from _compared("satisfaction", expected.satisfied, found.satisfied)
    yield from _compared("conversion", expected.converted, found.converted)
    yield from _compared("payment", expected.payments, found.payments)


def _exits_against_expected(expected: Expected, found: Found) -> Iterator[str]:
    published = {message.enrollment for message in messages(found.exit_topic)}
    may_exit = expected.exits | expected.may_exit | expected.waiting
    for what, exits in (("row", set(found.exits)), ("message", published)):
        yield from (f"lost: no exit {what} of {key}" for key in sorted(expected.exits - exits))
        yield from (f"too much: an exit {what} of {key}" for key in sorted(exits - may_exit))
    waiting = expected.waiting - set(found.exits)
    yield from (f"lost: no exit of {key} waits, nor was one sent" for key in sorted(waiting - found.waiting_exits))
    yield from (f"too much: an exit of {key} waits" for key in sorted(found.waiting_exits - waiting))


def _revocations(expected: Expected, found: Found) -> Iterator[str]:
    for message in messages(found.achieved_topic):
        if message.type != REVOKED:
            continue
        reasons, reason = expected.may_be_revoked.get(message.achievement), message.data.get("reason")
        if reasons is None:
            yield f"too much: {message.achievement} was revoked ({reason})"
        elif reason not in reasons:
            yield f"altered: {message.achievement} was revoked as {reason}, not as {' or '.join(sorted(reasons))}"


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
    yield from _compared("last message", found.achievements, last)


def _exit_rows_against_messages(found: Found) -> Iterator[str]:
    published = {message.enrollment: message for message in messages(found.exit_topic)}
    yield from (
        f"lost: the exit of {key} is stored and was not published" for key in set(found.exits) - published.keys()
    )
    yield from (
        f"too much: the exit of {key} was published and is not stored" for key in published.keys() - set(found.exits)
    )
    achieved = {
        message.data["achievement_id"] for message in messages(found.achieved_topic) if message.type == ACHIEVED
    }
    for key, message in published.items():
        if message.id != str(ids.exit_id(*key)):
            yield f"altered: {message.id} is not the id of the exit of {key}"
        if lost := set(message.data["achievement_ids"]) - achieved:
            yield f"lost: the exit of {key} names achievements that were not published: {', '.join(sorted(lost))}"


def _message_id(message: Message) -> str:
    make = ids.achieved_message_id if message.type == ACHIEVED else ids.revoked_message_id
    return str(make(*message.achievement, message.data["revision"]))


def _as_row(message: Message) -> Row:
    return Row(message.data["revision"], None if message.type == REVOKED else stored.told(message.data))


def _compared(what: str, wanted: Mapping[K, Any], actual: Mapping[K, Any]) -> Iterator[str]:
    yield from (f"lost: no {what} of {key}" for key in wanted.keys() - actual.keys())
    yield from (f"too much: {what} of {key}" for key in actual.keys() - wanted.keys())
    for key in wanted.keys() & actual.keys():
        if wanted[key] != actual[key]:
            yield f"altered: {what} of {key} is {actual[key]} and should be {wanted[key]}"
