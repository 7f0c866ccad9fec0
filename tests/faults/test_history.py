"""The checker accepts a correct history, and finds every kind of error in a wrong one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec import json

from goalworker.domain import ids
from tests.faults import history
from tests.kit import messages_in

TENANT, ENROLLMENT, LATE = "acme", "run-1", "run-2"
GOAL = UUID(int=1)
AT = datetime(2024, 5, 1, tzinfo=UTC)
FIRST, SECOND = (history.Trigger(AT + timedelta(seconds=number), "/crm", f"event-{number}") for number in (1, 2))
MARKS = (b"0", b"1", b"2", b"3")


def copy(topic: str, offset: int, value: bytes | None, *headers: tuple[str, bytes | None], at: int = 0) -> history.Copy:
    return history.Copy((topic, 0, offset), b"key", value, headers, 1_000 + at)


def mark(number: int) -> tuple[str, bytes]:
    return (history.MARK, MARKS[number])


def letter(origin: history.Copy, reason: str, **others: str) -> history.Copy:
    headers = {
        "x-original-topic": origin.position[0],
        "x-original-partition": str(origin.position[1]),
        "x-original-offset": str(origin.position[2]),
        "x-original-timestamp": str(origin.timestamp_ms),
        "x-original-group": "group",
        "x-error-reason": reason,
        "x-error-message": "cannot be decoded",
        "x-redrive-count": "0",
    } | {name.replace("_", "-"): text for name, text in others.items()}
    return copy("dlq", 0, origin.value, *origin.headers, *((name, text.encode()) for name, text in headers.items()))


def message(type_: str, id_: UUID, data: Mapping[str, object]) -> bytes:
    return json.encode({"id": id_, "type": type_, "tenantid": TENANT, "data": data})


def achieved(enrollment: str, revision: int, trigger: history.Trigger) -> bytes:
    data = {
        "achievement_id": ids.achievement_id(TENANT, enrollment, GOAL),
        "revision": revision,
        "enrollment_id": enrollment,
        "goal_id": GOAL,
        "trigger_event": {"id": trigger.event_id, "source": trigger.source, "time": trigger.time},
    }
    return message(history.ACHIEVED, ids.achieved_message_id(TENANT, enrollment, GOAL, revision), data)


def revoked(enrollment: str, revision: int) -> bytes:
    data = {"revision": revision, "enrollment_id": enrollment, "goal_id": GOAL}
    return message(history.REVOKED, ids.revoked_message_id(TENANT, enrollment, GOAL, revision), data)


def exited(enrollment: str) -> bytes:
    data = {"enrollment_id": enrollment, "achievement_ids": [ids.achievement_id(TENANT, enrollment, GOAL)]}
    return message("workflow.exit.goal", ids.exit_id(TENANT, enrollment), data)


BAD = copy("in", 3, b"garbage", ("theirs", None), mark(3))
FACTS = (
    history.Fact("started", TENANT, ENROLLMENT, AT),
    history.Fact("hit", TENANT, SECOND.event_id, SECOND.time),
    history.Fact("ended", TENANT, LATE, AT),
)
TELLINGS = {
    **{
        MARKS[number]: history.SentRecord(messages_in.Record("form_submitted", b"", headers=[mark(number)]), fact)
        for number, fact in enumerate(FACTS)
    },
    MARKS[3]: history.SentRecord(messages_in.Record("form_submitted", b"garbage"), reason="invalid_json"),
}
EXPECTED = history.Expected({(TENANT, ENROLLMENT, GOAL): FIRST}, {(TENANT, ENROLLMENT)}, {(TENANT, LATE)})
RIGHT = history.Found(
    group_id="group",
    committed={("in", 0): 4},
    facts={
        ("started", TENANT, ENROLLMENT): AT,
        ("hit", TENANT, SECOND.event_id): SECOND.time,
        ("ended", TENANT, LATE): AT,
    },
    achievements={
        (TENANT, ENROLLMENT, GOAL): history.Row(2, False, FIRST),
        (TENANT, LATE, GOAL): history.Row(2, True, FIRST),
    },
    exits=[(TENANT, ENROLLMENT)],
    waiting=0,
    inputs=[*(copy("in", number, b"", mark(number)) for number in range(3)), BAD],
    achieved_topic=[
        copy("achieved", 0, achieved(ENROLLMENT, 1, SECOND)),
        copy("achieved", 1, achieved(ENROLLMENT, 2, FIRST), at=5),
        copy("achieved", 2, achieved(LATE, 1, FIRST)),
        copy("achieved", 3, revoked(LATE, 2)),
        copy("achieved", 4, achieved(ENROLLMENT, 1, SECOND), at=9),
    ],
    exit_topic=[copy("exit", 0, exited(ENROLLMENT), at=1), copy("exit", 1, exited(ENROLLMENT), at=2)],
    dead_letters=[letter(BAD, "invalid_json")],
)


def found_wrong(found: history.Found, expected: history.Expected = EXPECTED) -> list[str]:
    return [problem.partition(":")[0] for problem in history.problems(TELLINGS, expected, found)]


@pytest.mark.smoke
def test_a_correct_history_with_repeats_and_corrections_has_no_problems() -> None:
    assert history.problems(TELLINGS, EXPECTED, RIGHT) == []


def _with_row(row: history.Row) -> history.Found:
    return replace(RIGHT, achievements={**RIGHT.achievements, (TENANT, ENROLLMENT, GOAL): row})


def _without(topic: str, *offsets: int) -> history.Found:
    rest: Any = {topic: [each for each in getattr(RIGHT, topic) if each.position[2] not in offsets]}
    return replace(RIGHT, **rest)


def _and(topic: str, *more: history.Copy) -> history.Found:
    longer: Any = {topic: [*getattr(RIGHT, topic), *more]}
    return replace(RIGHT, **longer)


def _letter(**changes: Any) -> history.Found:
    return replace(RIGHT, dead_letters=[RIGHT.dead_letters[0]._replace(**changes)])


def _exit_under(id_: UUID) -> history.Copy:
    return copy(
        "exit", 2, exited(ENROLLMENT).replace(str(ids.exit_id(TENANT, ENROLLMENT)).encode(), str(id_).encode()), at=3
    )


def _with_late_standing() -> history.Found:
    rows = {**RIGHT.achievements, (TENANT, LATE, GOAL): history.Row(3, False, FIRST)}
    again = copy("achieved", 5, achieved(LATE, 3, FIRST))
    return replace(RIGHT, achievements=rows, achieved_topic=[*RIGHT.achieved_topic, again])


WRONG: dict[str, tuple[str, Callable[[], history.Found]]] = {
    "a row is lost": ("lost", lambda: replace(RIGHT, achievements={})),
    "a row that nobody expects": ("too much", _with_late_standing),
    "a row rests on another event": ("altered", lambda: _with_row(history.Row(2, False, SECOND))),
    "a row was never told": ("altered", lambda: _with_row(history.Row(3, False, FIRST))),
    "an achieved message is lost": ("lost", lambda: _without("achieved_topic", 0, 1, 4)),
    "a revocation is lost": ("altered", lambda: _without("achieved_topic", 3)),
    "a gap in the revisions": ("lost", lambda: _without("achieved_topic", 0, 4)),
    "a revision under two ids": (
        "doubled",
        lambda: _and("achieved_topic", copy("achieved", 5, revoked(ENROLLMENT, 2))),
    ),
    "other bytes under one id": (
        "altered",
        lambda: _and("achieved_topic", copy("achieved", 5, achieved(ENROLLMENT, 1, FIRST))),
    ),
    "other headers under one id": (
        "altered",
        lambda: _and("exit_topic", copy("exit", 2, exited(ENROLLMENT), ("traceparent", b"other"))),
    ),
    "another key under one id": ("altered", lambda: _and("exit_topic", RIGHT.exit_topic[0]._replace(key=b"other"))),
    "an exit row is lost": ("lost", lambda: replace(RIGHT, exits=[])),
    "an exit row is doubled": ("doubled", lambda: replace(RIGHT, exits=[*RIGHT.exits, *RIGHT.exits])),
    "an exit message is lost": ("lost", lambda: replace(RIGHT, exit_topic=[])),
    "an exit message is doubled": ("doubled", lambda: _and("exit_topic", _exit_under(UUID(int=9)))),
    "an exit without a reason": (
        "too much",
        lambda: replace(RIGHT, exits=[*RIGHT.exits, (TENANT, "run-3")]),
    ),
    "an exit before its achievement": (
        "out of order",
        lambda: replace(RIGHT, exit_topic=[copy("exit", 0, exited(ENROLLMENT), at=-1)]),
    ),
    "committed and not processed": ("lost", lambda: replace(RIGHT, facts={})),
    "committed with a later start": (
        "lost",
        lambda: replace(RIGHT, facts={**RIGHT.facts, ("started", TENANT, ENROLLMENT): AT + timedelta(seconds=1)}),
    ),
    "committed and not dead-lettered": ("lost", lambda: replace(RIGHT, dead_letters=[])),
    "not committed in the end": ("unfinished", lambda: replace(RIGHT, committed={("in", 0): 3})),
    "not published in the end": ("unfinished", lambda: replace(RIGHT, waiting=1)),
    "a good record is dead-lettered": (
        "lost",
        lambda: _and("dead_letters", letter(RIGHT.inputs[0], "invalid_json")),
    ),
    "a dead letter of nothing": ("altered", lambda: _and("dead_letters", letter(copy("in", 9, b""), "invalid_json"))),
    "a dead letter with another key": ("altered", lambda: _letter(key=b"other")),
    "a dead letter with another value": ("altered", lambda: _letter(value=b"garbag")),
    "a dead letter without their header": ("altered", lambda: _letter(headers=RIGHT.dead_letters[0].headers[1:])),
    "a dead letter with another reason": ("altered", lambda: replace(RIGHT, dead_letters=[letter(BAD, "too_large")])),
    "a dead letter with another time": (
        "altered",
        lambda: replace(RIGHT, dead_letters=[letter(BAD, "invalid_json", x_original_timestamp="1")]),
    ),
    "two dead letters that differ": (
        "altered",
        lambda: _and("dead_letters", letter(BAD, "invalid_json", x_error_message="is another")),
    ),
}


@pytest.mark.smoke
@pytest.mark.parametrize("what", WRONG)
def test_each_kind_of_error_is_found(what: str) -> None:
    kind, make = WRONG[what]
    assert kind in found_wrong(make())


def test_results_of_uncommitted_records_may_be_missing() -> None:
    early = replace(RIGHT, committed={}, facts={}, dead_letters=[])
    assert history.problems_so_far(TELLINGS, early) == []


def test_an_exit_that_depends_on_the_order_is_optional() -> None:
    exits = [*RIGHT.exits, (TENANT, LATE)]
    told = [*RIGHT.exit_topic, copy("exit", 2, exited(LATE))]
    assert history.problems(TELLINGS, EXPECTED, replace(RIGHT, exits=exits, exit_topic=told)) == []


def test_records_that_the_test_failed_to_send_are_reported() -> None:
    assert found_wrong(_without("inputs", 1)) == ["the test itself did not send b'1'"]
