"""Refunds, failures, cancellations and rejections undo achievements, as complaints about other software ask for."""

from datetime import datetime

import pytest

from tests.kit import clients, messages_in, worker_process
from tests.kit.messages_in import Enrollment, Record, event, later, new_enrollment

pytestmark = pytest.mark.unmeasured

ACHIEVED, REVOKED, EXIT = ("goal.achieved", 1), ("goal.revoked", 2), ("exit.goal", None)


def _about(kind: str, contact: Enrollment, at: datetime, **data: object) -> Record:
    return event(kind, {"contact_id": contact.contact_id, **data}, at)


def _paid(contact: Enrollment, at: datetime, payment_id: str = "p-1") -> Record:
    return _about("payment.completed", contact, at, payment_id=payment_id, amount="49.90", currency="EUR")


def _refunded(contact: Enrollment, at: datetime, **data: object) -> Record:
    return _about("payment.refunded", contact, at, **{"payment_id": "p-1", **data})


async def _kinds(client: clients.Client, enrollment: Enrollment) -> list[tuple[str, int | None]]:
    return clients.kinds(await client.messages_about(enrollment))


async def _buyer(client: clients.Client, workflow_id: str) -> tuple[Enrollment, datetime]:
    """Return a contact who was enrolled where any purchase is the goal, and bought for 49.90 EUR a second later."""
    goal = await client.create_goal(workflow_id, "purchase_made", any_purchase=True)
    contact, at = new_enrollment(workflow_id), later(goal.created_at, 1)
    await client.process(contact.started(at), _paid(contact, later(at, 1_000)))
    assert await _kinds(client, contact) == [ACHIEVED, EXIT]
    return contact, later(at, 1_000)


async def _assert_reversed(client: clients.Client, enrollment: Enrollment) -> None:
    """Assert that the achievement was revoked for a reversal, and that the exit stands."""
    assert await _kinds(client, enrollment) == [ACHIEVED, REVOKED, EXIT]
    (revoked,) = [message for message in await client.messages_about(enrollment) if message.data.get("reason")]
    assert revoked.data["reason"] == "reversed"


# --- payments ---


@pytest.mark.real_world("matomo#11615", "an order that was refunded still counts as a conversion")
async def test_a_refund_takes_a_purchase_back_and_the_exit_stands(client: clients.Client) -> None:
    contact, bought_at = await _buyer(client, "refunded")
    await client.process(_refunded(contact, later(bought_at, 1_000)))
    await _assert_reversed(client, contact)


@pytest.mark.real_world("gameserverapp/Platform#1216", "a debit that fails days after it was reported as paid")
async def test_a_debit_that_fails_later_takes_a_purchase_back(client: clients.Client) -> None:
    contact, bought_at = await _buyer(client, "failed")
    await client.process(_about("payment.failed", contact, later(bought_at, 1_000), payment_id="p-1"))
    await _assert_reversed(client, contact)


async def test_a_refund_that_arrives_before_its_payment_takes_it_back_too(client: clients.Client) -> None:
    goal = await client.create_goal("early", "purchase_made", any_purchase=True)
    contact, at = new_enrollment("early"), later(goal.created_at, 1)
    await client.process(_refunded(contact, later(at, 2)))
    await client.process(contact.started(at), _paid(contact, later(at, 1)))
    assert await _kinds(client, contact) == []
    await client.process(_paid(contact, later(at, 3)))  # paid again, after the refund
    assert await _kinds(client, contact) == [ACHIEVED, EXIT]


async def test_partial_refunds_take_a_purchase_back_once_they_add_up(client: clients.Client) -> None:
    contact, bought_at = await _buyer(client, "partial")
    first = {"refund_id": "r-1", "amount": "20.00", "currency": "EUR"}
    await client.process(_refunded(contact, later(bought_at, 1), **first))
    await client.process(_refunded(contact, later(bought_at, 2), **first))  # the same refund in another event
    await client.process(_refunded(contact, later(bought_at, 3), refund_id=2, amount=29.89, currency="eur"))
    assert await _kinds(client, contact) == [ACHIEVED, EXIT]
    await client.process(_refunded(contact, later(bought_at, 4), refund_id="r-3", amount=0.01, currency="EUR"))
    await _assert_reversed(client, contact)


async def test_half_a_refund_is_a_dead_letter_and_a_test_refund_is_skipped(client: clients.Client) -> None:
    contact, bought_at = await _buyer(client, "half")
    known = len(await client.dead_letters())
    half = _refunded(contact, later(bought_at, 1), amount="49.90")
    await client.process(half, _refunded(contact, later(bought_at, 1), test=True))
    assert await _kinds(client, contact) == [ACHIEVED, EXIT]
    (letter,) = (await client.dead_letters())[known:]
    headers = dict(letter.headers)
    assert (letter.value, headers["x-error-reason"]) == (half.value, b"invalid_data")
    assert headers["x-error-message"].startswith(b"/data/currency: `currency` is missing beside `amount`")


# --- appointments and forms ---


@pytest.mark.real_world("cal.diy#28543", "a booking that was cancelled is still reported as booked")
async def test_a_cancelled_appointment_was_not_booked(client: clients.Client) -> None:
    goal = await client.create_goal("cancelled", "appointment_booked", calendar_id="42")
    contact, at = new_enrollment("cancelled"), later(goal.created_at, 1)
    booked = {"appointment_id": 17, "calendar_id": 42}
    await client.process(contact.started(at), _about("appointment.booked", contact, later(at, 1), **booked))
    await client.process(_about("appointment.cancelled", contact, later(at, 2), appointment_id="17"))
    await _assert_reversed(client, contact)


@pytest.mark.real_world("cal.diy#29986", "a rescheduled booking comes as a new one and a cancellation of the old one")
async def test_an_appointment_that_was_moved_stays_booked(client: clients.Client) -> None:
    goal = await client.create_goal("moved", "appointment_booked", any_appointment=True)
    contact, at = new_enrollment("moved"), later(goal.created_at, 1)
    moved = {"appointment_id": "a-2", "replaces_appointment_id": "a-1"}
    cancelled = _about("appointment.cancelled", contact, later(at, 3), appointment_id="a-1")
    await client.process(contact.started(at), _about("appointment.booked", contact, later(at, 1), appointment_id="a-1"))
    await client.process(_about("appointment.booked", contact, later(at, 2), **moved), cancelled)
    assert await _kinds(client, contact) == [ACHIEVED, EXIT]
    await client.process(_about("appointment.cancelled", contact, later(at, 4), appointment_id="a-2"))
    await _assert_reversed(client, contact)


async def test_a_rejected_form_was_not_submitted_until_it_comes_again(client: clients.Client) -> None:
    goal = await client.create_goal("rejected", "form_submitted", form_id="f")
    contact, at = new_enrollment("rejected"), later(goal.created_at, 1)
    submission = {"form_id": "f", "submission_id": "s-1"}
    await client.process(contact.started(at), _about("form.submitted", contact, later(at, 1), **submission))
    await client.process(_about("form.rejected", contact, later(at, 2), submission_id="s-1"))
    await _assert_reversed(client, contact)
    await client.process(_about("form.submitted", contact, later(at, 3), **submission))
    assert await _kinds(client, contact) == [ACHIEVED, REVOKED, ("goal.achieved", 3), EXIT]


# --- the metrics ---


async def test_reversals_are_counted_as_events_and_by_what_they_did(
    client: clients.Client, worker: worker_process.Worker
) -> None:
    contact, bought_at = await _buyer(client, "counted")
    topic = client.installation.topics["payment_completed"]

    def counted() -> list[float]:
        of_topic = [
            worker.metric("events_total", topic=topic, outcome=outcome)
            for outcome in ("recorded", "duplicate", "unmatched")
        ]
        effects = [("refunded", "partial"), ("refunded", "mismatch"), ("refunded", "excess"), ("failed", "unknown")]
        return of_topic + [worker.metric("reversals_total", kind=kind, effect=effect) for kind, effect in effects]

    before = counted()
    for number, (amount, currency) in enumerate([("9.90", "EUR"), ("9.90", "CHF"), ("100", "EUR")], start=1):
        money = {"refund_id": number, "amount": amount, "currency": currency}
        await client.process(_refunded(contact, later(bought_at, number), **money))
    failed = messages_in.in_partition(
        0, _about("payment.failed", contact, later(bought_at, 9), payment_id="never seen")
    )
    await client.process(failed)
    await client.process(failed)

    async def is_counted() -> bool:  # after the commit
        return [now - then for now, then in zip(counted(), before, strict=True)] == [4, 1, 0, 1, 1, 1, 1]

    await clients.until(is_counted)
    await _assert_reversed(client, contact)
