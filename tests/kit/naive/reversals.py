"""Rule 3: reversals, and the hits that count."""

from datetime import datetime
from decimal import Decimal

from goalworker.domain import events
from tests.kit.naive.facts import Facts, walked
from tests.kit.naive.hits import settings_at
from tests.kit.naive.occurrences import (
    Case,
    Occurrence,
    appointments,
    is_before_window,
    is_in_window,
    occurrence,
    payment_id,
)
from tests.kit.naive.rules import rule

# --- the hits that count ---


@rule(lambda case, event: False)
def repeats_older_occurrence(case: Case, event: events.Event) -> bool:
    """Rule 3: An occurrence whose earliest hit lies before the window does not count in it, whatever repeats it."""
    return is_before_window(case.facts, min(undone_or_not(case, event), key=walked))


@rule(lambda case, event: {hit for hit in occurrence(case, event) if not is_undone(case, hit)} | {event})
def undone_or_not(case: Case, event: events.Event) -> Occurrence:
    """Rule 3: An occurrence's earliest hit is asked for undone or not."""
    return occurrence(case, event)


def does_count(case: Case, event: events.Event) -> bool:
    """Say whether a hit may count for its occurrence: it lies in the window, is not older and was not undone."""
    return is_in_window(case, event) and not repeats_older_occurrence(case, event) and not is_undone(case, event)


def counting(case: Case) -> set[events.Event]:
    """Rule 3: Hits of one goal whose events are of one occurrence count once, as the earliest."""
    each = [{hit for hit in whole if does_count(case, hit)} for whole in case.occurrences]
    return {as_the_earliest(counted) for counted in each if counted}


@rule(lambda counted: max(counted, key=walked))
def as_the_earliest(counted: set[events.Event]) -> events.Event:
    """Rule 3: ... as the earliest by (E.time, source, id)."""
    return min(counted, key=walked)


# --- rule 3: reversals ---


def is_undone(case: Case, event: events.Event) -> bool:
    """Rule 3: A reversal undoes an occurrence up to its own time, unless the goal keeps what was reversed."""
    if keeps_reversed(case, event):
        return False
    return any(is_up_to(reversed_at, event) for reversed_at in reversal_times(case, event))


@rule(lambda case, event: False)
def keeps_reversed(case: Case, event: events.Event) -> bool:
    """Rule 3: For goals with `reversals: keep`, hits that were reversed count."""
    return settings_at(case.goal, event).reversals == "keep"


@rule(lambda reversed_at, event: True)
def is_up_to(reversed_at: datetime, event: events.Event) -> bool:
    """Rule 3: Hits of it with E.time <= R.time do not count, while a later event of the same payment does."""
    return is_not_after(reversed_at, event)


@rule(lambda reversed_at, event: event.time < reversed_at)
def is_not_after(reversed_at: datetime, event: events.Event) -> bool:
    """Rule 3: ... E.time <= R.time."""
    return event.time <= reversed_at


def reversal_times(case: Case, event: events.Event) -> set[datetime]:
    """Return the moments at which something reversed the occurrence of a hit."""
    whole = occurrence(case, event)
    facts = case.facts
    return failures(facts, whole) | rejections(facts, whole) | cancellations(facts, whole) | full_refunds(facts, whole)


@rule(lambda facts, whole: set())
def failures(facts: Facts, whole: Occurrence) -> set[datetime]:
    """Rule 3: These reverse: `payment.failed`."""
    payments = {payment_id(hit) for hit in whole}
    return {
        event.time
        for event in facts.happened
        if isinstance(event.data, events.PaymentFailed) and event.data.payment_id in payments
    }


@rule(lambda facts, whole: set())
def rejections(facts: Facts, whole: Occurrence) -> set[datetime]:
    """Rule 3: These reverse: `form.rejected`."""
    submissions = {hit.data.submission_id for hit in whole if isinstance(hit.data, events.FormSubmitted)}
    return {
        event.time
        for event in facts.happened
        if isinstance(event.data, events.FormRejected) and event.data.submission_id in submissions
    }


@rule(lambda facts, whole: set())
def cancellations(facts: Facts, whole: Occurrence) -> set[datetime]:
    """Rule 3: `appointment.cancelled` of the last appointment of its chain; where several are last, of all of them."""
    last = last_appointments(whole)
    cancelled = [
        (event.data.appointment_id, event.time)
        for event in facts.happened
        if isinstance(event.data, events.AppointmentCancelled) and event.data.appointment_id in last
    ]
    return {time for _, time in cancelled} if are_all_cancelled(last, {name for name, _ in cancelled}) else set()


@rule(lambda last, cancelled: True)
def are_all_cancelled(last: set[str], cancelled: set[str]) -> bool:
    """Rule 3: Where several are last, of all of them."""
    return last == cancelled


@rule(lambda whole: set().union(*map(appointments, whole)))
def last_appointments(whole: Occurrence) -> set[str]:
    """Rule 3: One that another replaces was moved, not cancelled: nothing is reversed."""
    booked = [hit.data for hit in whole if isinstance(hit.data, events.AppointmentBooked)]
    moved = {data.replaces_appointment_id for data in booked if data.replaces_appointment_id != data.appointment_id}
    return {data.appointment_id for data in booked} - moved


@rule(lambda facts, whole: set())
def full_refunds(facts: Facts, whole: Occurrence) -> set[datetime]:
    """Rule 3: Refunds of a payment, once those in its currency add up to the amount of its earliest hit."""
    earliest = min(whole, key=walked)
    if not isinstance(earliest.data, events.PaymentCompleted):
        return set()
    refunds = sorted(refunds_of(facts, earliest.data), key=walked)
    sums = [sum(refunded(refund, earliest.data) for refund in refunds[: number + 1]) for number in range(len(refunds))]
    full = [refund.time for refund, total in zip(refunds, sums, strict=True) if total >= earliest.data.amount]
    return or_any_after(full)


@rule(lambda full: set(full[:1]))
def or_any_after(full: list[datetime]) -> set[datetime]:
    """Rule 3: R.time is that of the refund that completes it or of any after it, by (time, source, id)."""
    return set(full)


def refunds_of(facts: Facts, payment: events.PaymentCompleted) -> set[events.Event]:
    """Rule 3: Refunds of a payment of this contact, each refund once, those in another currency left out."""
    refunds = {
        event
        for event in facts.happened
        if isinstance(event.data, events.PaymentRefunded) and event.data.payment_id == payment.payment_id
    }
    return {refund for refund in once(refunds) if is_in_its_currency(refund, payment)}


@rule(lambda refunds: refunds)
def once(refunds: set[events.Event]) -> set[events.Event]:
    """Rule 3: One refund_id is one refund, as its earliest message says it."""
    return {as_the_earliest_says({other for other in refunds if _is_same_refund(one, other)}) for one in refunds}


@rule(lambda messages: max(messages, key=walked))
def as_the_earliest_says(messages: set[events.Event]) -> events.Event:
    """Rule 3: ... as its earliest message says it."""
    return min(messages, key=walked)


def _is_same_refund(one: events.Event, other: events.Event) -> bool:
    return one == other or (_refund(one).refund_id is not None and _refund(one).refund_id == _refund(other).refund_id)


def _refund(event: events.Event) -> events.PaymentRefunded:
    assert isinstance(event.data, events.PaymentRefunded)
    return event.data


@rule(lambda refund, payment: True)
def is_in_its_currency(refund: events.Event, payment: events.PaymentCompleted) -> bool:
    """Rule 3: One in another currency counts for nothing."""
    currency = _refund(refund).currency
    return currency is None or currency.upper() == payment.currency.upper()


@rule(lambda refund, payment: _refund(refund).amount or Decimal(0))
def refunded(refund: events.Event, payment: events.PaymentCompleted) -> Decimal:
    """Rule 3: One without amount is whole."""
    amount = _refund(refund).amount
    return payment.amount if amount is None else amount
