"""Effects of reversals, as the metrics count them: one word for what a reversal does to its subject."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Final

from goalworker.domain import events, facts, occurrences

KINDS: Final = tuple(type_.rpartition(".")[2] for type_ in events.REVERSAL_DATA)
REVERSED: Final = "reversed"
PARTIAL: Final = "partial"
EXCESS: Final = "excess"
MISMATCH: Final = "mismatch"
MOVED: Final = "moved"
UNKNOWN: Final = "unknown"
EFFECTS: Final = (REVERSED, PARTIAL, EXCESS, MISMATCH, MOVED, UNKNOWN)


def kind_of(event_type: str) -> str:
    """Return the kind of a reversal by its CloudEvents type."""
    return event_type.rpartition(".")[2]


def effect_of(reversal: facts.Reversal, hits: Iterable[facts.Hit], reversals: Sequence[facts.Reversal]) -> str:
    """Return the effect of a reversal on its contact's hits up to its time, beside the other reversals of the contact.

    `unknown`: no hit speaks of its subject yet.
    """
    known = {(hit.trigger.source, hit.trigger.id): hit for hit in hits if hit.trigger.time <= reversal.time}
    ordered = sorted(known.values(), key=lambda hit: hit.trigger.order)
    match reversal.type:
        case events.PAYMENT_REFUNDED:
            return _of_refund(reversal, ordered, reversals)
        case events.APPOINTMENT_CANCELLED:
            return _of_cancellation(reversal, ordered, reversals)
    subject = attrgetter("payment_id" if reversal.type == events.PAYMENT_FAILED else "submission_id")
    subjects = {subject(occurrences.details_of(hit.trigger.data)) for hit in ordered}
    return REVERSED if reversal.subject_id in subjects else UNKNOWN


def _of_refund(reversal: facts.Reversal, ordered: Iterable[facts.Hit], reversals: Iterable[facts.Reversal]) -> str:
    payments = (occurrences.details_of(hit.trigger.data) for hit in ordered)
    first = next((payment for payment in payments if payment.payment_id == reversal.subject_id), None)
    if first is None:
        return UNKNOWN
    own = [one for one in reversals if one.subject_id == reversal.subject_id and one.order <= reversal.order]
    if reversal.currency is not None and not occurrences.refunds([reversal], first.currency or ""):
        return MISMATCH
    amount = first.amount or Decimal(0)
    total = occurrences.total_of(occurrences.refunds(own, first.currency or ""), amount)
    if total < amount:
        return PARTIAL
    return EXCESS if total > amount and reversal.amount is not None else REVERSED


def _of_cancellation(
    reversal: facts.Reversal, ordered: Iterable[facts.Hit], reversals: Sequence[facts.Reversal]
) -> str:
    booked = [hit for hit in ordered if occurrences.details_of(hit.trigger.data).appointment_id is not None]
    details = [occurrences.details_of(hit.trigger.data) for hit in booked]
    if any(reversal.subject_id == one.replaces_appointment_id != one.appointment_id for one in details):
        return MOVED
    for occurrence in occurrences.occurrences("appointment_booked", booked, reversals):
        if any(
            occurrences.details_of(hit.trigger.data).appointment_id == reversal.subject_id for hit in occurrence.hits
        ):
            return PARTIAL if occurrence.undone_until is None else REVERSED
    return UNKNOWN
