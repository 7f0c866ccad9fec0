"""The demo's check finds missing, extra, duplicate and altered results, and leaves out those of other senders."""

import io
import os
import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from msgspec import json, structs
from rich.console import Console

from goalworker.demo import api_check, check, corrections, foreign_changes, listener, plans, tenant_setup, view
from goalworker.demo.own_offsets import OwnOffsets
from goalworker.demo.scenario_builder import ScenarioBuilder
from goalworker.domain import events, facts, ids, messages

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GOAL = UUID(int=7)
ENROLLMENT = facts.Enrollment("acme", "welcome-1", "welcome", "contact-1", AT)


class _Traffic:
    """Recorder of exits."""

    def __init__(self) -> None:
        self.exits: list[plans.EnrollmentKey] = []

    def record_exit(self, key: plans.EnrollmentKey) -> float | None:
        self.exits.append(key)
        return 0.02


@pytest.fixture
def listening() -> listener.Listener:
    return listener.Listener(None, ("acme",), _Traffic())  # type: ignore[arg-type]  # the consumer is not used


def _record(topic: str, value: bytes | None, key: bytes = b"", headers: Any = (), offset: int = 0) -> ConsumerRecord:
    return ConsumerRecord(topic, 0, offset, 0, 0, key, value, None, len(key), len(value or b""), headers)


def _achieved(revision: int, event_id: str) -> ConsumerRecord:
    trigger = facts.Trigger("/web", event_id, AT, b"{}")
    achievement = facts.Achievement(GOAL, 1, AT, trigger, revision)
    return _record("goal-achieved", messages.achieved(ENROLLMENT, "form_submitted", achievement).value)


def _counted(total: str) -> ConsumerRecord:
    trigger = facts.Trigger("/web", "a", AT, b"{}")
    achievement = facts.Achievement(GOAL, 1, AT, trigger, 1, False, facts.Counted(3, Decimal(total), False))
    return _record("goal-achieved", messages.achieved(ENROLLMENT, "purchase_made", achievement).value)


def _revoked(revision: int) -> ConsumerRecord:
    achievement = facts.Achievement(GOAL, 1, AT, facts.Trigger("/web", "e", AT, b"{}"), revision, revoked=True)
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
def test_the_highest_revision_counts_in_any_order_of_messages(
    listening: listener.Listener, order: tuple[int, ...]
) -> None:
    sent = (_achieved(1, "a"), _revoked(2), _achieved(3, "b"))
    for index in order:
        listening.receive(sent[index])
    folded = listening.received.achievements["acme", "welcome-1", GOAL]
    assert folded == listener.LatestRevision(3, plans.Achievement("acme", "welcome-1", GOAL, AT, "/web", "b"))
    assert listening.received.repeats == len(order) - 3
    assert not listening.received.anomalies


def test_the_count_of_an_achievement_is_compared(listening: listener.Listener) -> None:
    listening.receive(_counted("300.00"))
    found = [last.achieved for last in listening.received.achievements.values()]
    expected = plans.Achievement("acme", "welcome-1", GOAL, AT, "/web", "a", 3, Decimal(300), False)
    assert found == [expected]
    others = {"occurrences": 2, "total_amount": Decimal("300.01"), "evidence_complete": True}
    for name, value in others.items():
        row = check.compare_items("achievements", [structs.replace(expected, **{name: value})], found)
        assert not row.matches
        assert f"{name}={value}" in " ".join(row.differences)


def test_a_revocation_needs_the_reason_for_which_it_may_happen(listening: listener.Listener) -> None:
    listening.receive(_revoked(2))
    found = listening.received.revocations
    expected = plans.Revocation("acme", "welcome-1", GOAL, "after_end")
    assert found == [expected]
    assert check.compare_reasons([expected], found).matches
    other = structs.replace(expected, reason="reversed")
    assert check.compare_reasons([other], found).mismatch == "1 altered"
    assert check.compare_reasons([], found).mismatch == "1 found and not expected"


def test_a_repeated_message_with_other_bytes_is_an_anomaly(listening: listener.Listener) -> None:
    listening.receive(_achieved(1, "a"))
    listening.receive(_achieved(1, "b"))
    assert len(listening.received.anomalies) == 1


def test_a_message_with_a_wrong_id_is_an_anomaly(listening: listener.Listener) -> None:
    body = json.decode(_achieved(1, "a").value)
    listening.receive(_record("goal-achieved", json.encode({**body, "id": str(uuid4())})))
    assert len(listening.received.anomalies) == 1


def test_an_unreadable_message_is_an_anomaly(listening: listener.Listener) -> None:
    listening.receive(_record("workflow-exit", b"{}"))
    assert len(listening.received.anomalies) == 1


def test_an_exit_is_kept_with_every_field(listening: listener.Listener) -> None:
    exit_ = facts.Exit(GOAL, "any", AT, (GOAL,))
    listening.receive(_record("workflow-exit", messages.exit_goal(ENROLLMENT, "form_submitted", exit_).value))
    expected = plans.Exit("acme", "welcome-1", "welcome", "contact-1", "any", GOAL, (GOAL,), AT)
    assert list(listening.received.exits.values()) == [listener.FoundExit.of(expected)]
    assert list(listening.received.exits) == [ids.exit_id("acme", "welcome-1")]


def test_a_repeated_dead_letter_counts_once_unless_its_reason_differs(listening: listener.Listener) -> None:
    for letter in (_dead("invalid_json", 4), _dead("invalid_json", 4), _dead("invalid_json", 5)):
        listening.receive(letter)
    assert len(listening.received.dead_letters) == 2
    assert not listening.received.anomalies
    listening.receive(_dead("invalid_data", 4))
    assert listening.received.anomalies


def test_messages_of_an_earlier_run_are_ignored(listening: listener.Listener) -> None:
    listening.receive(_dead("invalid_json", 4, b"acme-2:malformed-1"))
    body = json.decode(_achieved(1, "a").value)
    listening.receive(_record("goal-achieved", json.encode({**body, "tenantid": "acme-2"})))
    assert listening.received == listener.Received()


def test_a_row_separates_missing_duplicate_altered_and_unexpected_items() -> None:
    row = check.compare_items(
        "letters", [("a", 1), ("b", 1), ("c", 1)], [("b", 1), ("b", 1), ("c", 2), ("d", 1)], lambda each: each[0]
    )
    assert row.differences == (
        "expected and not found: a 1",
        "found twice: b 1",
        "altered: c 2, expected c 1",
        "found and not expected: d 1",
    )
    assert row.mismatch == "1 expected and not found, 1 found twice, 1 altered, 1 found and not expected"
    assert not row.matches
    assert check.compare_items("letters", ["b", "a"], ["a", "b"]).matches


@pytest.mark.parametrize(
    ("reversed_", "differences"),
    [
        ("20.00", ()),
        ("0.00", ("altered: shop EUR 80.00 0.00 60.00, expected shop EUR 80 20 60",)),
    ],
)
def test_revenue_of_the_api_is_compared_by_workflow_and_currency(reversed_: str, differences: tuple[str, ...]) -> None:
    orders = [plans.Payment("acme", "shop", "EUR", Decimal(20), Decimal(back)) for back in (20, 0, 0, 0)]
    others = [plans.Payment(*key, "EUR", Decimal(5), Decimal(0)) for key in (("globex", "shop"), ("acme", "shared"))]
    stats = {"revenue": {"EUR": {"gross": "80.00", "reversed": reversed_, "net": "60.00"}}, "by_goal": []}
    setup = tenant_setup.TenantSetup(("acme", "globex"), {}, AT)
    outcome = plans.Outcome(payments=(*orders, *others))
    *_, row = api_check.rows(setup, outcome, {"shop": {**stats, "exits_sent": 0}})
    assert row.differences == differences


def test_differences_are_shown_as_plain_ids_and_times() -> None:
    expected = plans.Exit("acme", "welcome-1", "welcome", "contact-1", "any", GOAL, (GOAL,), AT)
    (difference,) = check.compare_items("exits", [expected], []).differences
    assert "acme" in difference
    assert str(GOAL) in difference
    assert AT.isoformat() in difference
    assert not re.search(r"UUID\(|datetime|Exited", difference)


def _summary(verdict: check.Verdict, width: int = 120) -> str:
    output = io.StringIO()
    view.summary(verdict, ["a logged error"], "3 records", Console(file=output, width=width))
    return output.getvalue()


def test_the_summary_shows_a_difference_and_the_workers_logged_errors() -> None:
    text = _summary(
        check.Verdict([check.compare_items("exits", ["a"], []), check.compare_items("others", ["a"], ["a"])], [])
    )
    assert "DIFFERS" in text
    assert "exits: 1 expected and not found\n  expected and not found: a\n" in text
    assert "the worker's log: a logged error" in text
    assert "Not everything matches: 3 records" in text


def test_each_row_of_the_table_fits_into_80_columns() -> None:
    rows = [check.Row("achievements by goal-achieved messages", 1_000_000, 999_999, "1 expected and not found")]
    text = _summary(check.Verdict(rows, []), width=80)
    assert re.search(r"achievements by goal-achieved messages +1,000,000 +999,999 +DIFFERS", text)


def test_a_sentence_about_foreign_messages_is_printed_and_is_not_a_difference() -> None:
    text = _summary(check.Verdict([check.compare_items("exits", ["a"], ["a"])], ["1 exit of another sender"]))
    assert "not checked: 1 exit of another sender" in text
    assert "Everything matches: 3 records" in text


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00", b"[" * 100_000, b"{}", b'{"tenantid": "acme"}'])
@pytest.mark.parametrize("topic", ["workflow-exit", "goal-achieved", "goalworker.dlq", "goal-configured"])
def test_the_listener_survives_any_record_of_other_senders(
    listening: listener.Listener, topic: str, value: bytes | None
) -> None:
    listening.receive(_record(topic, value, b"acme:c", [("x-original-topic", None), ("x-original-offset", b"\xff")]))
    assert all(each.subject is None for each in listening.received.anomalies)
    assert not listening.received.exits
    assert not listening.received.dead_letters


# --- own and foreign ---

PARTITION = TopicPartition("form-submitted", 0)
OWN = plans.Enrollment("acme", "welcome-1", "welcome", "contact-1")


def _own_offsets(*offsets: int) -> OwnOffsets:
    made = OwnOffsets({PARTITION: 10})
    for offset in offsets:
        made.add(PARTITION, offset)
    return made


def test_own_offsets_are_known_in_any_order_of_acknowledgement() -> None:
    own = _own_offsets(10, 11, 15, 13, 12)
    assert [offset for offset in range(9, 18) if own.is_own(PARTITION, offset)] == [10, 11, 12, 13, 15]
    assert [offset for offset in range(8, 12) if own.is_older(PARTITION, offset)] == [8, 9]
    assert not own.is_own(TopicPartition("another", 0), 10)


def test_without_foreign_records_there_are_no_gaps() -> None:
    assert _own_offsets(10, 11, 12).gaps({PARTITION: 13}) == {}
    assert _own_offsets().gaps({PARTITION: 10}) == {}


def test_gaps_reach_from_the_first_foreign_record_to_the_last() -> None:
    assert _own_offsets(11, 12, 15).gaps({PARTITION: 18}) == {PARTITION: range(10, 18)}
    assert _own_offsets(10, 12).gaps({PARTITION: 13}) == {PARTITION: range(11, 12)}


def _event(type_: str, tenant_id: str = "acme", **data: Any) -> events.Event:
    return events.Event(tenant_id, "/elsewhere", "e-1", type_, AT, events.DATA_OF_TYPE[type_](**data))


@pytest.mark.parametrize(
    ("event", "is_covered"),
    [
        (_event("form.submitted", contact_id="contact-1", form_id="x"), False),
        (_event("form.submitted", contact_id="contact-2", form_id="x"), True),
        (_event(events.PAYMENT_REFUNDED, contact_id="contact-1", payment_id="x"), False),
        (_event("form.submitted", "globex", contact_id="contact-1", form_id="x"), True),
        (_event(events.WORKFLOW_DEACTIVATED, workflow_id="welcome"), False),
        (_event(events.WORKFLOW_DEACTIVATED, workflow_id="mine"), True),
        (_event(events.ENROLLMENT_ENDED, workflow_id="mine", enrollment_id="welcome-1", contact_id="x"), False),
        (_event(events.ENROLLMENT_STARTED, workflow_id="welcome", enrollment_id="mine-1", contact_id="x"), True),
    ],
)
def test_an_enrollment_with_foreign_messages_is_not_checked(event: events.Event, is_covered: bool) -> None:
    scope = foreign_changes.Scope([OWN], foreign_changes.changes_by([event]))
    assert scope.covers(OWN.key) is is_covered
    assert scope.covers_dead_letter(plans.DeadLetter("t", b"acme:contact-1", "conflicting_enrollment")) is is_covered
    assert OWN.key in scope.own_keys


def test_a_foreign_enrollment_is_never_checked() -> None:
    assert not foreign_changes.Scope([OWN], foreign_changes.ForeignChanges()).covers(("acme", "mine-1"))


def test_malformed_foreign_records_alter_nothing() -> None:
    records = [_record("form-submitted", b"{"), _record("form-submitted", None)]
    assert foreign_changes.decoded_events(records) == []


def test_a_step_names_every_enrollment_that_it_sends() -> None:
    setup = tenant_setup.TenantSetup(
        ("acme",), {("acme", goal.key): uuid4() for goal in tenant_setup.GOALS}, AT - timedelta(seconds=60)
    )
    plan = corrections.two_contacts_one_enrollment(ScenarioBuilder(setup, "acme", 7, AT, random.Random(1)))
    own = {each for step in (plan, plan.then) if step for each in step.enrollments}
    assert own == {
        plans.Enrollment("acme", "welcome-7", "welcome", "contact-7"),
        plans.Enrollment("acme", "welcome-7", "welcome", "impostor-7"),
    }


@pytest.mark.parametrize(("term", "is_live"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_a_terminal_without_cursor_control_gets_plain_lines(
    term: str, is_live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    ours, theirs = os.openpty()
    try:
        with os.fdopen(theirs, "w") as terminal:
            assert view.is_live(Console(file=terminal)) == is_live
    finally:
        os.close(ours)


def test_forced_colours_do_not_make_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not view.is_live(Console(file=io.StringIO()))
