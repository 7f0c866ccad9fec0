"""The demo's check would show it: what is missing, what is too much, what came twice and was not the same."""

import io
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord
from msgspec import json
from rich.console import Console

from goalworker import events, ids, messages
from goalworker.demo import check, listener, plans, view

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GOAL = UUID(int=7)
ENROLLMENT = events.Enrollment("acme", "welcome-1", "welcome", "contact-1", AT)


class _Traffic:
    """Takes note of the exits."""

    def __init__(self) -> None:
        self.exits: list[plans.EnrollmentKey] = []

    def saw_exit(self, key: plans.EnrollmentKey) -> float | None:
        self.exits.append(key)
        return 0.02


@pytest.fixture
def listening() -> listener.Listener:
    return listener.Listener(None, ("acme",), _Traffic())  # type: ignore[arg-type]  # neither is asked for more


def _record(topic: str, value: bytes | None, key: bytes = b"", headers: Any = (), offset: int = 0) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, offset, 0, 0, key, value, None, len(key), len(value or b""), headers)


def _achieved(revision: int, event_id: str) -> ConsumerRecord:
    trigger = events.Trigger("/web", event_id, AT, b"{}")
    achievement = events.Achievement(GOAL, 1, AT, trigger, revision)
    return _record("goal-achieved", messages.achieved(ENROLLMENT, "form_submitted", achievement).value)


def _revoked(revision: int) -> ConsumerRecord:
    achievement = events.Achievement(GOAL, 1, AT, events.Trigger("/web", "e", AT, b"{}"), revision, revoked=True)
    return _record("goal-achieved", messages.revoked(ENROLLMENT, "form_submitted", achievement, "after_end", AT).value)


def _dead(reason: str, offset: int, key: bytes = b"acme:malformed-1") -> ConsumerRecord:
    headers = [
        ("x-original-topic", b"form-submitted"),
        ("x-original-partition", b"0"),
        ("x-original-offset", str(offset).encode()),
        ("x-error-reason", reason.encode()),
    ]
    return _record("goalworker.dlq", b"{", key, headers)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0, 2, 1)])
def test_the_highest_revision_counts_in_whatever_order_messages_come(
    listening: listener.Listener, order: tuple[int, ...]
) -> None:
    sent = (_achieved(1, "a"), _revoked(2), _achieved(3, "b"))
    for place in order:
        listening.take(sent[place])
    folded = listening.found.achievements["acme", "welcome-1", GOAL]
    assert folded == listener.Folded(3, plans.Achieved("acme", "welcome-1", GOAL, AT, "/web", "b"))
    assert listening.found.repeats == len(order) - 3
    assert not listening.found.odd


def test_a_message_that_comes_again_with_other_bytes_is_odd(listening: listener.Listener) -> None:
    listening.take(_achieved(1, "a"))
    listening.take(_achieved(1, "b"))
    assert len(listening.found.odd) == 1


def test_a_message_with_an_id_that_is_not_its_own_is_odd(listening: listener.Listener) -> None:
    body = json.decode(_achieved(1, "a").value)
    listening.take(_record("goal-achieved", json.encode({**body, "id": str(uuid4())})))
    assert len(listening.found.odd) == 1


def test_a_message_that_cannot_be_read_is_odd(listening: listener.Listener) -> None:
    listening.take(_record("workflow-exit", b"{}"))
    assert len(listening.found.odd) == 1


def test_an_exit_is_passed_on_and_compared_in_every_field(listening: listener.Listener) -> None:
    command = events.Exit(GOAL, "any", AT, (GOAL,))
    listening.take(_record("workflow-exit", messages.exit_goal(ENROLLMENT, "form_submitted", command).value))
    expected = plans.Exited("acme", "welcome-1", "welcome", "contact-1", "any", GOAL, (GOAL,), AT)
    assert list(listening.found.exits.values()) == [listener.FoundExit.of(expected)]
    assert list(listening.found.exits) == [ids.exit_id("acme", "welcome-1")]


def test_a_dead_letter_that_comes_again_counts_once_unless_its_reason_is_another(listening: listener.Listener) -> None:
    for letter in (_dead("invalid_json", 4), _dead("invalid_json", 4), _dead("invalid_json", 5)):
        listening.take(letter)
    assert len(listening.found.dead_letters) == 2
    assert not listening.found.odd
    listening.take(_dead("invalid_data", 4))
    assert listening.found.odd


def test_what_another_run_left_behind_is_passed_over(listening: listener.Listener) -> None:
    listening.take(_dead("invalid_json", 4, b"acme-2:malformed-1"))
    body = json.decode(_achieved(1, "a").value)
    listening.take(_record("goal-achieved", json.encode({**body, "tenantid": "acme-2"})))
    assert listening.found == listener.Found()


def test_a_row_says_what_is_missing_and_what_is_too_much() -> None:
    row = check.row("letters", ["a", "b"], ["b", "c"])
    assert row == check.Row("letters", 2, 2, ("missing: a", "too much: c"))
    assert not row.matches
    assert check.row("letters", ["b", "a"], ["a", "b"]).matches
    assert not check.row("letters", ["a"], ["a", "a"]).matches


def test_the_summary_shows_a_difference_and_the_workers_complaints() -> None:
    output = io.StringIO()
    rows = [check.row("exits", ["a"], []), check.row("others", ["a"], ["a"])]
    view.summary(rows, ["it hurts"], "3 records", Console(file=output, width=100))
    text = output.getvalue()
    assert "DIFFERS" in text
    assert "exits: missing: a" in text
    assert "it hurts" in text
    assert "Not everything is as it must be: 3 records" in text
