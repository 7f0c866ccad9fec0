"""The checker accepts a correct history, and finds every kind of error in a wrong one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec import json

from goalworker.domain import ids
from tests.faults import history, outcomes
from tests.kit import messages_in
from tests.kit.naive.money import Payment
from tests.kit.naive_judge import Achieved, Walked

TENANT, WORKFLOW, ENROLLMENT, LATE, PAUSED = "acme", "welcome", "run-1", "run-2", "run-4"
GOAL = UUID(int=1)
AT = datetime(2024, 5, 1, tzinfo=UTC)
FIRST, SECOND = (Walked(AT + timedelta(seconds=number), "/crm", f"event-{number}") for number in (1, 2))
PAID = Payment(FIRST, Decimal(100), "EUR", Decimal(20))
PAYMENT = (TENANT, ENROLLMENT, GOAL, "payment-1")
MARKS = (b"0", b"1", b"2", b"3")


def counted(trigger: Walked) -> Achieved:
    return Achieved(trigger, 1, 3, Decimal("100.00"))


def copy(
    topic: str, offset: int, value: bytes | None, *headers: tuple[str, bytes | None], at: int = 0
) -> outcomes.Copy:
    return outcomes.Copy((topic, 0, offset), b"key", value, headers, 1_000 + at)


def mark(number: int) -> tuple[str, bytes]:
    return (outcomes.MARK, MARKS[number])


def letter(origin: outcomes.Copy, reason: str, **others: str) -> outcomes.Copy:
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


def achieved(enrollment: str, revision: int, trigger: Walked) -> bytes:
    data = {
        "achievement_id": ids.achievement_id(TENANT, enrollment, GOAL),
        "revision": revision,
        "enrollment_id": enrollment,
        "goal_id": GOAL,
        "goal_version": 1,
        "achieved_at": trigger.time,
        "occurrences": 3,
        "total_amount": "100",
        "evidence_complete": True,
        "trigger_event": {"id": trigger.id, "source": trigger.source, "time": trigger.time},
    }
    return message(outcomes.ACHIEVED, ids.achieved_message_id(TENANT, enrollment, GOAL, revision), data)


def revoked(enrollment: str, revision: int, reason: str = "after_end") -> bytes:
    data = {"revision": revision, "enrollment_id": enrollment, "goal_id": GOAL, "reason": reason}
    return message(outcomes.REVOKED, ids.revoked_message_id(TENANT, enrollment, GOAL, revision), data)


def exited(enrollment: str) -> bytes:
    data = {
        "workflow_id": WORKFLOW,
        "enrollment_id": enrollment,
        "logic": "any",
        "achievement_ids": [ids.achievement_id(TENANT, enrollment, GOAL)],
        "achieved_at": SECOND.time,
    }
    return message("workflow.exit.goal", ids.exit_id(TENANT, enrollment), data)


BAD = copy("in", 3, b"garbage", ("theirs", None), mark(3))
FACTS = (
    outcomes.Fact("started", TENANT, ENROLLMENT, AT),
    outcomes.Fact("hit", TENANT, SECOND.id, SECOND.time),
    outcomes.Fact("ended", TENANT, LATE, AT),
)
TELLINGS = {
    **{
        MARKS[number]: outcomes.SentRecord(messages_in.Record("form_submitted", b"", headers=[mark(number)]), fact)
        for number, fact in enumerate(FACTS)
    },
    MARKS[3]: outcomes.SentRecord(messages_in.Record("form_submitted", b"garbage"), reason="invalid_json"),
}
EXPECTED = outcomes.Expected(
    achieved={(TENANT, ENROLLMENT, GOAL): counted(FIRST)},
    may_be_revoked={(TENANT, LATE, GOAL): frozenset(["after_end"])},
    exits={(TENANT, ENROLLMENT)},
    may_exit={(TENANT, LATE)},
    waiting={(TENANT, PAUSED)},
    satisfied={(TENANT, ENROLLMENT): FIRST.time},
    converted={(TENANT, ENROLLMENT): FIRST.time},
    payments={PAYMENT: PAID},
)
RIGHT = outcomes.Found(
    group_id="group",
    committed={("in", 0): 4},
    facts={
        ("started", TENANT, ENROLLMENT): AT,
        ("hit", TENANT, SECOND.id): SECOND.time,
        ("ended", TENANT, LATE): AT,
    },
    achievements={
        (TENANT, ENROLLMENT, GOAL): outcomes.Row(2, counted(FIRST)),
        (TENANT, LATE, GOAL): outcomes.Row(2, None),
    },
    exits=[(TENANT, ENROLLMENT)],
    waiting_exits=frozenset([(TENANT, PAUSED)]),
    satisfied={(TENANT, ENROLLMENT): FIRST.time},
    converted={(TENANT, ENROLLMENT): FIRST.time},
    payments={PAYMENT: PAID},
    unsent=0,
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


def found_wrong(found: outcomes.Found, expected: outcomes.Expected = EXPECTED) -> list[str]:
    return [problem.partition(":")[0] for problem in history.problems(TELLINGS, expected, found)]


@pytest.mark.smoke
def test_a_correct_history_with_repeats_and_corrections_has_no_problems() -> None:
    assert history.problems(TELLINGS, EXPECTED, RIGHT) == []


def _with_row(row: outcomes.Row) -> outcomes.Found:
    return replace(RIGHT, achievements={**RIGHT.achievements, (TENANT, ENROLLMENT, GOAL): row})


def _without(topic: str, *offsets: int) -> outcomes.Found:
    rest: Any = {topic: [each for each in getattr(RIGHT, topic) if each.position[2] not in offsets]}
    return replace(RIGHT, **rest)


def _and(topic: str, *more: outcomes.Copy) -> outcomes.Found:
    longer: Any = {topic: [*getattr(RIGHT, topic), *more]}
    return replace(RIGHT, **longer)


def _instead(topic: str, other: outcomes.Copy) -> outcomes.Found:
    changed: Any = {
        topic: [other if each.position == other.position else each for each in getattr(RIGHT, topic)],
    }
    return replace(RIGHT, **changed)


def _with_revoked(revocation: outcomes.Copy) -> outcomes.Found:
    rows = {**RIGHT.achievements, (TENANT, ENROLLMENT, GOAL): outcomes.Row(2, None)}
    return replace(_instead("achieved_topic", revocation), achievements=rows)


def _with_exit(enrollment: str, waiting: frozenset[tuple[str, str]] = frozenset()) -> outcomes.Found:
    sent = [*RIGHT.exit_topic, copy("exit", 2, exited(enrollment))]
    return replace(RIGHT, exits=[*RIGHT.exits, (TENANT, enrollment)], exit_topic=sent, waiting_exits=waiting)


def _letter(**changes: Any) -> outcomes.Found:
    return replace(RIGHT, dead_letters=[RIGHT.dead_letters[0]._replace(**changes)])


def _exit_under(id_: UUID) -> outcomes.Copy:
    return copy(
        "exit", 2, exited(ENROLLMENT).replace(str(ids.exit_id(TENANT, ENROLLMENT)).encode(), str(id_).encode()), at=3
    )


def _with_late_standing() -> outcomes.Found:
    rows = {**RIGHT.achievements, (TENANT, LATE, GOAL): outcomes.Row(3, counted(FIRST))}
    again = copy("achieved", 5, achieved(LATE, 3, FIRST))
    return replace(RIGHT, achievements=rows, achieved_topic=[*RIGHT.achieved_topic, again])


WRONG: dict[str, tuple[str, Callable[[], outcomes.Found]]] = {
    "a row is lost": ("lost", lambda: replace(RIGHT, achievements={})),
    "a row that nobody expects": ("too much", _with_late_standing),
    "a row rests on another event": ("altered", lambda: _with_row(outcomes.Row(2, counted(SECOND)))),
    "a row counts other occurrences": (
        "altered",
        lambda: _with_row(outcomes.Row(2, counted(FIRST)._replace(occurrences=4))),
    ),
    "a row was never told": ("altered", lambda: _with_row(outcomes.Row(3, counted(FIRST)))),
    "an achieved message is lost": ("lost", lambda: _without("achieved_topic", 0, 1, 4)),
    "a revocation is lost": ("altered", lambda: _without("achieved_topic", 3)),
    "a revocation for another reason": (
        "altered",
        lambda: _instead("achieved_topic", copy("achieved", 3, revoked(LATE, 2, "reversed"))),
    ),
    "a revocation that nobody expects": (
        "too much",
        lambda: _with_revoked(copy("achieved", 1, revoked(ENROLLMENT, 2))),
    ),
    "a satisfaction is lost": ("lost", lambda: replace(RIGHT, satisfied={})),
    "a conversion at another time": (
        "altered",
        lambda: replace(RIGHT, converted={(TENANT, ENROLLMENT): SECOND.time}),
    ),
    "a payment of which more was taken back": (
        "altered",
        lambda: replace(RIGHT, payments={PAYMENT: PAID._replace(reversed=Decimal(30))}),
    ),
    "an exit neither waits nor was sent": ("lost", lambda: replace(RIGHT, waiting_exits=frozenset())),
    "an exit waits and was sent": (
        "too much",
        lambda: _with_exit(PAUSED, waiting=frozenset([(TENANT, PAUSED)])),
    ),
    "an exit of achievements that nobody told": ("lost", lambda: _with_exit(PAUSED)),
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
    "not published in the end": ("unfinished", lambda: replace(RIGHT, unsent=1)),
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


def test_an_exit_of_a_paused_workflow_may_overtake_its_achievement() -> None:
    early = replace(RIGHT, exit_topic=[copy("exit", 0, exited(ENROLLMENT), at=-1)])
    paused = replace(early, facts={**RIGHT.facts, ("deactivated", TENANT, WORKFLOW): AT})
    assert history.problems(TELLINGS, EXPECTED, paused) == []


def test_an_exit_that_depends_on_the_order_is_optional() -> None:
    exits = [*RIGHT.exits, (TENANT, LATE)]
    told = [*RIGHT.exit_topic, copy("exit", 2, exited(LATE))]
    assert history.problems(TELLINGS, EXPECTED, replace(RIGHT, exits=exits, exit_topic=told)) == []


def test_an_exit_that_was_sent_before_its_pause_was_known_does_not_wait() -> None:
    told = [*RIGHT.achieved_topic, copy("achieved", 5, achieved(PAUSED, 1, FIRST))]
    rows = {**RIGHT.achievements, (TENANT, PAUSED, GOAL): outcomes.Row(1, counted(FIRST))}
    expected = replace(EXPECTED, achieved={**EXPECTED.achieved, (TENANT, PAUSED, GOAL): counted(FIRST)})
    sent = replace(_with_exit(PAUSED), achieved_topic=told, achievements=rows)
    assert history.problems(TELLINGS, expected, sent) == []


def test_records_that_the_test_failed_to_send_are_reported() -> None:
    assert found_wrong(_without("inputs", 1)) == ["the test itself did not send b'1'"]
