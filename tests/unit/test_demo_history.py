"""The demo's check of history and of explanations: what must be kept, what may be, and what is answered."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from aiokafka import TopicPartition

from goalworker.demo import explanation_check, foreign_changes, kept_history, plans, tenant_setup
from goalworker.demo.sent_events import LATE_SECONDS, Kept, SentEvents

CONTACT = ("acme", "contact-1")
PARTITION = TopicPartition("form-submitted", 0)
EVENT = Kept(*CONTACT, "/web", "e-1", "form-submitted", 0, 7)


def _record(
    source: str, event_id: str, *, is_start: bool = False, timestamp_ms: int | None = None
) -> plans.PlannedRecord:
    concerned = plans.Concerned(CONTACT, source, event_id, is_start)
    return plans.PlannedRecord("form-submitted", b"", b"", (), timestamp_ms, (), concerned)


START = _record("/engine", "s-1", is_start=True)


def _sent(at: float, *, timestamp_ms: int | None = None, enrolled_at: float | None = 100.0) -> SentEvents:
    sent = SentEvents()
    sent.note(_record("/web", "e-1", timestamp_ms=timestamp_ms), PARTITION, 7, at)
    if enrolled_at is not None:
        sent.note(START, TopicPartition("workflow-lifecycle", 0), 3, enrolled_at)
    return sent


@pytest.mark.parametrize("at", [100 - LATE_SECONDS, 100.0, 500.0])
def test_an_event_about_the_time_of_its_enrollment_or_later_must_be_kept_once(at: float) -> None:
    sent = _sent(at)
    assert kept_history.row(sent, [EVENT]).matches
    assert kept_history.row(sent, []).mismatch == "1 expected and not found"
    assert kept_history.row(sent, [EVENT, EVENT]).mismatch == "1 found twice"


@pytest.mark.parametrize("sent", [_sent(99 - LATE_SECONDS), _sent(200, timestamp_ms=0)])
def test_an_event_long_before_its_enrollment_or_with_a_date_of_its_own_may_be_kept(sent: SentEvents) -> None:
    assert kept_history.row(sent, [EVENT]).matches
    assert kept_history.row(sent, []).matches
    assert kept_history.row(sent, [EVENT, EVENT]).mismatch == "1 found twice"


def test_no_event_of_a_contact_without_an_enrollment_may_be_kept() -> None:
    sent = _sent(100, enrolled_at=None)
    assert kept_history.row(sent, []).matches
    assert kept_history.row(sent, [EVENT]).mismatch == "1 found and not expected"


def test_an_event_of_another_record_differs() -> None:
    assert not kept_history.row(_sent(100), [EVENT._replace(offset=8)]).matches


def test_contacts_that_other_senders_write_about_are_left_out() -> None:
    assert kept_history.row(_sent(100), [], {CONTACT}).matches


def _enrollment(number: int, contact_id: str = "contact-1", tenant_id: str = "acme") -> plans.Enrollment:
    return plans.Enrollment(tenant_id, f"welcome-{number}", "welcome", contact_id)


def test_enrollments_of_one_tenant_with_a_known_outcome_are_drawn() -> None:
    own = [_enrollment(1), _enrollment(2), _enrollment(2, "impostor-2"), _enrollment(3, tenant_id="globex")]
    own.append(_enrollment(4, "contact-4"))
    changes = foreign_changes.ForeignChanges(contacts=frozenset({("acme", "contact-4")}))
    assert explanation_check.draw(own, foreign_changes.Scope(own, changes), "acme") == [_enrollment(1)]


def test_each_goal_of_the_workflow_has_an_answer() -> None:
    ids = {("acme", goal.key): UUID(int=number) for number, goal in enumerate(tenant_setup.GOALS)}
    now = datetime(2026, 3, 1, tzinfo=UTC)
    setup = tenant_setup.TenantSetup(("acme",), ids, now)
    achieved = plans.Achievement("acme", "welcome-1", ids["acme", "customer"], now, "/crm", "t-1")
    expected = explanation_check.answers_of(setup, plans.Outcome(achieved=(achieved,)), _enrollment(1))
    assert expected == [
        ("welcome-1", ids["acme", "signed-up"], False),
        ("welcome-1", ids["acme", "customer"], True),
    ]
