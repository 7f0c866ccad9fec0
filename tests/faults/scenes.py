"""Scenes of one enrollment, each with the outcome that it must have in whatever order its records are read."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from goalworker.domain import events
from tests.faults.sending import Sending
from tests.kit import messages_in
from tests.kit.naive_judge import Achieved

Scene = Callable[[Sending], None]


def signs_up(traffic: Sending) -> None:
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(0))
    traffic.record(enrollment.submits("another form", traffic.at(1)))
    traffic.achieves(enrollment, one=traffic.submits(enrollment, "one", traffic.at(traffic.chance.randrange(1_000))))
    traffic.exits(enrollment)


def signs_up_twice(traffic: Sending) -> None:
    """Submit twice: the earlier event counts, and corrects the achievement where it arrives second."""
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(0))
    traffic.achieves(enrollment, one=traffic.submits(enrollment, "one", traffic.at(3)))
    traffic.submits(enrollment, "one", traffic.at(7))
    traffic.exits(enrollment)


def does_both(traffic: Sending) -> None:
    enrollment = traffic.enrollment("all")
    traffic.started(enrollment, traffic.at(0))
    first, second = (
        traffic.submits(enrollment, goal, traffic.at(traffic.chance.randrange(9))) for goal in ("first", "second")
    )
    traffic.achieves(enrollment, first=first, second=second)
    traffic.exits(enrollment)


def does_half(traffic: Sending) -> None:
    enrollment = traffic.enrollment("all")
    traffic.started(enrollment, traffic.at(0))
    traffic.achieves(enrollment, first=traffic.submits(enrollment, "first", traffic.at(4)))


def is_counted(traffic: Sending) -> None:
    enrollment = traffic.enrollment("never")
    traffic.started(enrollment, traffic.at(0))
    traffic.achieves(enrollment, counted=traffic.submits(enrollment, "counted", traffic.at(4)))
    traffic.converts(enrollment)


def had_ended(traffic: Sending) -> None:
    """Submit after the end, which may arrive after the achievement, and then revokes it; an exit stands."""
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(0))
    traffic.submits(enrollment, "one", traffic.at(5))
    traffic.ended(enrollment, traffic.at(3))
    traffic.may_be_revoked(enrollment, "one", "after_end")
    traffic.may_exit(enrollment)


def ends_later(traffic: Sending) -> None:
    """Submit before the end: achieved in any order, with an exit only if the end arrives later."""
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(0))
    traffic.achieves(enrollment, one=traffic.submits(enrollment, "one", traffic.at(5)))
    traffic.ended(enrollment, traffic.at(9))
    traffic.may_exit(enrollment, is_satisfied=True)


def stranger(traffic: Sending) -> None:
    traffic.submits(traffic.enrollment("any"), "one", traffic.at(5))


def too_early(traffic: Sending) -> None:
    enrollment = traffic.enrollment("any")
    traffic.started(enrollment, traffic.at(5))
    traffic.submits(enrollment, "one", traffic.at(4))


# --- reversals (contract rule 3.3) ---


def refunded(traffic: Sending) -> None:
    """Refund a payment: at once, in two parts, or above its amount."""
    enrollment, payment_id = _started(traffic, "shop")
    paid = traffic.pays(enrollment, "100", traffic.at(5), payment_id)
    shapes: tuple[tuple[str | None, ...], ...] = ((None,), ("60", "40.00"), ("150",))
    for amount in traffic.chance.choice(shapes):
        _refund(traffic, enrollment, payment_id, 10, amount)
    traffic.may_be_revoked(enrollment, "bought", "reversed")
    traffic.earns(enrollment, "bought", payment_id, paid, "100", back="100")
    traffic.may_exit(enrollment)


def partly_refunded(traffic: Sending) -> None:
    """Refund too little: one part is reported twice, and one refund is in another currency."""
    enrollment, payment_id = _started(traffic, "shop")
    paid = traffic.pays(enrollment, "100", traffic.at(5), payment_id)
    for at in (10, 11):
        _refund(traffic, enrollment, payment_id, at, "60", refund_id=f"{payment_id}-part")
    _refund(traffic, enrollment, payment_id, 12, "100", currency="USD")
    traffic.achieves(enrollment, bought=paid)
    traffic.earns(enrollment, "bought", payment_id, paid, "100", back="60")
    traffic.exits(enrollment)


def paid_again(traffic: Sending) -> None:
    """Let a payment fail and succeed later: the later event counts."""
    enrollment, payment_id = _started(traffic, "shop")
    failed = traffic.pays(enrollment, "100", traffic.at(5), payment_id)
    traffic.undoes(enrollment, events.PAYMENT_FAILED, traffic.at(10), {"payment_id": payment_id})
    traffic.achieves(enrollment, bought=traffic.pays(enrollment, "100", traffic.at(15), payment_id))
    traffic.may_be_revoked(enrollment, "bought", "reversed")
    traffic.earns(enrollment, "bought", payment_id, failed, "100", back="100")
    traffic.exits(enrollment)


def reported_thrice(traffic: Sending) -> None:
    """Report one payment under three event ids: it counts once, as the earliest."""
    enrollment, payment_id = _started(traffic, "shop")
    first, *_ = (traffic.pays(enrollment, "100", traffic.at(at), payment_id) for at in (5, 7, 9))
    traffic.achieves(enrollment, bought=first)
    traffic.earns(enrollment, "bought", payment_id, first, "100")
    traffic.exits(enrollment)


def moved(traffic: Sending) -> None:
    """Reschedule an appointment, and cancel its former date."""
    enrollment, former = _started(traffic, "calls")
    booked = traffic.hits(enrollment, "appointment.booked", traffic.at(5), {"appointment_id": former})
    _rebook(traffic, enrollment, former)
    traffic.undoes(enrollment, events.APPOINTMENT_CANCELLED, traffic.at(12), {"appointment_id": former})
    traffic.achieves(enrollment, met=booked)
    traffic.may_be_revoked(enrollment, "met", "reversed")  # for a while, if the new date is read last
    traffic.exits(enrollment)


def cancelled(traffic: Sending) -> None:
    """Cancel an appointment, half of them after they were rescheduled."""
    enrollment, last = _started(traffic, "calls")
    traffic.hits(enrollment, "appointment.booked", traffic.at(5), {"appointment_id": last})
    if traffic.chance.random() < 0.5:
        last = _rebook(traffic, enrollment, last)
    traffic.undoes(enrollment, events.APPOINTMENT_CANCELLED, traffic.at(12), {"appointment_id": last})
    traffic.may_be_revoked(enrollment, "met", "reversed")
    traffic.may_exit(enrollment)


def rejected(traffic: Sending) -> None:
    """Reject a submission."""
    enrollment, submission_id = _started(traffic, "any")
    form = {"form_id": traffic.goals["one"].criteria["form_id"], "submission_id": submission_id}
    traffic.hits(enrollment, "form.submitted", traffic.at(5), form)
    traffic.undoes(enrollment, events.FORM_REJECTED, traffic.at(5), {"submission_id": submission_id})
    traffic.may_be_revoked(enrollment, "one", "reversed")
    traffic.may_exit(enrollment)


# --- occurrences, correlation and tests (contract rules 3.2 to 3.4) ---


def orders_three_times(traffic: Sending) -> None:
    """Order three times: the second order is reported twice."""
    enrollment, name = _started(traffic, "loyal")
    orders = [traffic.pays(enrollment, "20", traffic.at(at), f"{name}-{at}") for at in (1, 3, 7)]
    traffic.pays(enrollment, "20", traffic.at(5), f"{name}-3")
    traffic.achieves(enrollment, thrice=Achieved(orders[-1], 1, 3))
    for at, order in zip((1, 3, 7), orders, strict=True):
        traffic.earns(enrollment, "thrice", f"{name}-{at}", order, "20")
    traffic.exits(enrollment)


def returns_one_of_four(traffic: Sending) -> None:
    """Return the first of four orders: the goal of three is achieved by the last."""
    enrollment, name = _started(traffic, "loyal")
    orders = {f"{name}-{at}": traffic.pays(enrollment, "20", traffic.at(at), f"{name}-{at}") for at in (1, 3, 7, 9)}
    _refund(traffic, enrollment, f"{name}-1", 8)
    traffic.achieves(enrollment, thrice=Achieved(orders[f"{name}-9"], 1, 3))
    for payment_id, order in orders.items():
        traffic.earns(enrollment, "thrice", payment_id, order, "20", back="20" if payment_id == f"{name}-1" else "0")
    traffic.may_be_revoked(enrollment, "thrice", "reversed")
    traffic.exits(enrollment)


def pays_in_instalments(traffic: Sending) -> None:
    """Pay a total in two instalments, with a payment in another currency between them."""
    enrollment, name = _started(traffic, "debtors")
    instalments = {
        f"{name}-{amount}": traffic.pays(enrollment, amount, traffic.at(at), f"{name}-{amount}")
        for amount, at in (("99.99", 3), ("0.01", 7))
    }
    other = {"payment_id": f"{name}-other", "amount": "500", "currency": "USD"}
    traffic.hits(enrollment, "payment.completed", traffic.at(5), other)
    traffic.achieves(enrollment, paid=Achieved(instalments[f"{name}-0.01"], 1, 2, Decimal(100)))
    for payment_id, instalment in instalments.items():
        traffic.earns(enrollment, "paid", payment_id, instalment, payment_id.removeprefix(f"{name}-"))
    traffic.exits(enrollment)


def pays_too_little(traffic: Sending) -> None:
    """Pay a cent too little: one instalment is reported twice, and one is refunded."""
    enrollment, name = _started(traffic, "debtors")
    first, _ = (traffic.pays(enrollment, "99.99", traffic.at(at), f"{name}-1") for at in (3, 5))
    second = traffic.pays(enrollment, "0.01", traffic.at(7), f"{name}-2")
    _refund(traffic, enrollment, f"{name}-2", 9, "0.01")
    traffic.earns(enrollment, "paid", f"{name}-1", first, "99.99")
    traffic.earns(enrollment, "paid", f"{name}-2", second, "0.01", back="0.01")
    traffic.may_be_revoked(enrollment, "paid", "reversed")
    traffic.may_exit(enrollment)


def wins_one_of_two_deals(traffic: Sending) -> None:
    """Win the deal that the enrollment is about, after another one."""
    enrollment = traffic.enrollment("sales")
    deals = [f"{enrollment.contact_id}-{name}" for name in "ab"]
    traffic.started(enrollment, traffic.at(0), correlation_id=deals[1])
    won = {"pipeline_id": "deals", "stage_id": "won", "previous_stage_id": "open"}
    wins = [
        traffic.hits(enrollment, "pipeline.stage.changed", traffic.at(at), {**won, "deal_id": deal})
        for at, deal in zip((3, 5), deals, strict=True)
    ]
    traffic.achieves(enrollment, won=wins[1])
    traffic.exits(enrollment)


def enrolled_by_the_form(traffic: Sending) -> None:
    """Submit a form that starts the enrollment, and later another one, which counts."""
    enrollment = traffic.enrollment("any")
    founding = traffic.submits(enrollment, "one", traffic.at(5))
    traffic.started(enrollment, traffic.at(5), started_by={"source": founding.source, "id": founding.id})
    traffic.achieves(enrollment, one=traffic.submits(enrollment, "one", traffic.at(9)))
    traffic.exits(enrollment)


def tried_out(traffic: Sending) -> None:
    """Send tests of a form and of its rejection: only the real form counts."""
    enrollment, submission_id = _started(traffic, "any")
    form = {"form_id": traffic.goals["one"].criteria["form_id"], "submission_id": submission_id}
    is_test = {"contact_id": enrollment.contact_id, "test": True}
    traffic.record(messages_in.event("form.submitted", {**is_test, **form}, traffic.at(3)))
    traffic.record(messages_in.event(events.FORM_REJECTED, {**is_test, "submission_id": submission_id}, traffic.at(9)))
    traffic.achieves(enrollment, one=traffic.hits(enrollment, "form.submitted", traffic.at(5), form))
    traffic.exits(enrollment)


# --- pauses (contract rule 3.4) ---


def in_a_pause(traffic: Sending) -> None:
    """Submit in a pause: the exit is sent once the end of the pause is known."""
    enrollment, _ = _started(traffic, "paused")
    traffic.changes(events.WORKFLOW_DEACTIVATED, "paused", traffic.at(2))
    traffic.changes(events.WORKFLOW_ACTIVATED, "paused", traffic.at(8))
    traffic.achieves(enrollment, resumed=traffic.submits(enrollment, "resumed", traffic.at(5)))
    traffic.exits(enrollment)


def after_the_last_pause(traffic: Sending) -> None:
    """Submit in a pause that never ends: the exit waits, unless it was sent before the pause was known."""
    enrollment, _ = _started(traffic, "stopped")
    traffic.changes(events.WORKFLOW_DEACTIVATED, "stopped", traffic.at(2))
    traffic.achieves(enrollment, never=traffic.submits(enrollment, "never", traffic.at(5)))
    traffic.waits(enrollment)


# --- parts of scenes ---


def _started(traffic: Sending, workflow: str) -> tuple[messages_in.Enrollment, str]:
    """Plan an enrollment; return it with a name for what it pays, books or submits."""
    enrollment = traffic.enrollment(workflow)
    traffic.started(enrollment, traffic.at(0))
    return enrollment, f"{enrollment.contact_id}-1"


def _refund(
    traffic: Sending,
    enrollment: messages_in.Enrollment,
    payment_id: str,
    at: float,
    amount: str | None = None,
    currency: str = "eur",
    refund_id: str | None = None,
) -> None:
    money = {} if amount is None else {"amount": amount, "currency": currency}
    named = {} if refund_id is None else {"refund_id": refund_id}
    traffic.undoes(enrollment, events.PAYMENT_REFUNDED, traffic.at(at), {"payment_id": payment_id} | money | named)


def _rebook(traffic: Sending, enrollment: messages_in.Enrollment, former: str) -> str:
    later = f"{former}-later"
    booking = {"appointment_id": later, "replaces_appointment_id": former}
    traffic.hits(enrollment, "appointment.booked", traffic.at(10), booking)
    return later


SCENES: Final[dict[Scene, int]] = {
    signs_up: 30,
    signs_up_twice: 10,
    does_both: 10,
    does_half: 5,
    is_counted: 5,
    had_ended: 8,
    ends_later: 6,
    stranger: 8,
    too_early: 4,
    refunded: 6,
    partly_refunded: 3,
    paid_again: 5,
    reported_thrice: 4,
    moved: 4,
    cancelled: 4,
    rejected: 4,
    orders_three_times: 5,
    returns_one_of_four: 5,
    pays_in_instalments: 4,
    pays_too_little: 3,
    wins_one_of_two_deals: 4,
    enrolled_by_the_form: 3,
    tried_out: 3,
    in_a_pause: 6,
    after_the_last_pause: 3,
}
