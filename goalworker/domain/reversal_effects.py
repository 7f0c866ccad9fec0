"""Effects of reversals, as the metrics count them: one word for what a reversal does to its subject."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Final

from msgspec import Struct

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


class History:
    """Hits and reversals of one contact, from which it tells the effect of each reversal.

    It looks things up by what they concern, because a contact, such as one for all guests of a shop, may have very
    many.
    """

    def __init__(self, hits: Iterable[facts.Hit], reversals: Iterable[facts.Reversal]) -> None:
        known = {(hit.trigger.source, hit.trigger.id): hit for hit in hits}
        self._reversals = occurrences.by_subject(reversals)
        self._payments: dict[str, facts.Trigger] = {}
        self._submissions: dict[str, facts.Trigger] = {}
        self._appointments: dict[str, facts.Trigger] = {}
        self._replaced: dict[str, facts.Trigger] = {}
        self._chained: list[facts.Hit] = []
        self._refunds: dict[str, _Refunds] = {}
        for hit in sorted(known.values(), key=lambda hit: hit.trigger.order):
            details = occurrences.details_of(hit.trigger.data)
            if details.payment_id is not None:
                self._payments.setdefault(details.payment_id, hit.trigger)
            if details.submission_id is not None:
                self._submissions.setdefault(details.submission_id, hit.trigger)
            if details.appointment_id is not None:
                self._add_appointment(hit, details.appointment_id, details.replaces_appointment_id)

    def _add_appointment(self, hit: facts.Hit, appointment_id: str, replaced: str | None) -> None:
        self._chained.append(hit)
        self._appointments.setdefault(appointment_id, hit.trigger)
        if replaced is not None and replaced != appointment_id:
            self._replaced.setdefault(replaced, hit.trigger)

    def effect_of(self, reversal: facts.Reversal) -> str:
        """Return the effect of a reversal on the hits up to its time; `unknown`: none of them speaks of its subject."""
        match reversal.type:
            case events.PAYMENT_REFUNDED:
                return self._of_refund(reversal)
            case events.APPOINTMENT_CANCELLED:
                return self._of_cancellation(reversal)
        subjects = self._payments if reversal.type == events.PAYMENT_FAILED else self._submissions
        return UNKNOWN if _is_before(reversal, subjects) else REVERSED

    def _of_refund(self, reversal: facts.Reversal) -> str:
        if _is_before(reversal, self._payments):
            return UNKNOWN
        refunds = self._refunds_of(reversal.subject_id)
        if reversal.currency is not None and not occurrences.refunds([reversal], refunds.currency):
            return MISMATCH
        total = refunds.total_by(reversal)
        if total < refunds.amount:
            return PARTIAL
        return EXCESS if total > refunds.amount and reversal.amount is not None else REVERSED

    def _refunds_of(self, payment_id: str) -> "_Refunds":
        if payment_id not in self._refunds:
            payment = occurrences.details_of(self._payments[payment_id].data)
            amount, currency = payment.amount or Decimal(0), payment.currency or ""
            refunded = occurrences.refunds(self._reversals.get(payment_id, ()), currency)
            orders = [refund.order for refund in refunded]
            totals = occurrences.running_totals(refunded, amount)
            self._refunds[payment_id] = _Refunds(amount, currency, orders, totals)
        return self._refunds[payment_id]

    def _of_cancellation(self, reversal: facts.Reversal) -> str:
        if not _is_before(reversal, self._replaced):
            return MOVED
        if _is_before(reversal, self._appointments):
            return UNKNOWN
        hits = [hit for hit in self._chain_of[reversal.subject_id] if hit.trigger.time <= reversal.time]
        booked = {_booked(hit) for hit in hits}
        cancelled = [one for appointment_id in booked for one in self._reversals.get(appointment_id, ())]
        chains = occurrences.occurrences("appointment_booked", hits, cancelled)
        own = next(chain for chain in chains if any(_booked(hit) == reversal.subject_id for hit in chain.hits))
        return PARTIAL if own.undone_until is None else REVERSED

    @cached_property
    def _chain_of(self) -> Mapping[str, Sequence[facts.Hit]]:
        """Hits of the whole chain of each appointment."""
        chains = occurrences.occurrences("appointment_booked", self._chained)
        return {_booked(hit): chain.hits for chain in chains for hit in chain.hits}


class _Refunds(Struct, frozen=True):
    """Refunds of one payment in its currency, in order, with their sums."""

    amount: Decimal
    currency: str
    orders: Sequence[facts.Order]
    totals: Sequence[Decimal]

    def total_by(self, reversal: facts.Reversal) -> Decimal:
        """Return what was refunded by the time of a reversal, with it."""
        count = bisect_right(self.orders, reversal.order)
        return self.totals[count - 1] if count else Decimal(0)


def _booked(hit: facts.Hit) -> str:
    return occurrences.details_of(hit.trigger.data).appointment_id or ""


def _is_before(reversal: facts.Reversal, subjects: Mapping[str, facts.Trigger]) -> bool:
    """Say whether nothing is known of the subject of a reversal at its time."""
    first = subjects.get(reversal.subject_id)
    return first is None or first.time > reversal.time
