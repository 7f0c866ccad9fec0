"""Occurrences and their reversals: what happened once, however many events speak of it (contract rule 3.3)."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal
from functools import lru_cache
from itertools import accumulate
from operator import attrgetter
from typing import Final

from msgspec import Struct, json

from goalworker.domain import events, facts

_NAME_OF: Final = {
    "purchase_made": attrgetter("payment_id"),
    "form_submitted": attrgetter("submission_id"),
    "appointment_booked": attrgetter("appointment_id"),
}
"""The name of an occurrence in an event's details, by goal type; any other event is an occurrence of its own."""
_REPLACED: Final = attrgetter("replaces_appointment_id")
EXACT: Final = Context(prec=128)
"""Precision for every digit of a sum; the default context rounds to 28 digits."""
BySubject = Mapping[str, Sequence[facts.Reversal]]
"""Reversals of a contact by what they reverse: looked up for each occurrence, since a contact may have very many."""


class Details(Struct, frozen=True, gc=False):
    """The fields of an event's data that occurrences, thresholds and `correlate_by` need."""

    payment_id: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    appointment_id: str | None = None
    replaces_appointment_id: str | None = None
    submission_id: str | None = None
    deal_id: str | None = None
    correlation_id: str | None = None


_DETAILS: Final = json.Decoder(Details)


@lru_cache(maxsize=1_024)  # one event often hits several goals, and each enrollment of a contact has the same hits
def details_of(data: bytes) -> Details:
    """Return the details in the data of a trigger."""
    return _DETAILS.decode(data)


def names_of(data: bytes) -> set[str]:
    """Return what reversals may call the subject of an event."""
    details = details_of(data)
    return {name for name in (details.payment_id, details.appointment_id, details.submission_id) if name is not None}


class Occurrence(Struct, frozen=True, gc=False):
    """Hits of one goal that speak of one thing, in the order of the walk.

    Those up to `undone_until`, inclusive, are undone.
    """

    hits: tuple[facts.Hit, ...]
    undone_until: datetime | None = None


def occurrences(
    goal_type: str, hits: Sequence[facts.Hit], reversals: Sequence[facts.Reversal] = ()
) -> list[Occurrence]:
    """Return the occurrences among the hits of one goal and contact, which come in the order of the walk.

    The reversals are those of the contact.
    """
    if goal_type == "purchase_made":
        by_payment = _grouped(hits, lambda details: details.payment_id)
        refunded = by_subject(reversals)
        return [Occurrence(group, _payment_undone(group, refunded)) for group in by_payment]
    if goal_type == "form_submitted":
        by_submission = _grouped(hits, lambda details: details.submission_id)
        rejected = by_subject(reversals, events.FORM_REJECTED)
        return [Occurrence(group, _form_undone(group, rejected)) for group in by_submission]
    if goal_type == "appointment_booked":
        return _chains(hits, by_subject(reversals, events.APPOINTMENT_CANCELLED))
    return [Occurrence((hit,)) for hit in hits]


def are_separate(goal_type: str, hits: Sequence[facts.Hit]) -> bool:
    """Say whether each hit of one goal and contact is surely an occurrence of its own."""
    name_of = _NAME_OF.get(goal_type)
    if name_of is None or len(hits) < 2:
        return True
    details = [details_of(hit.trigger.data) for hit in hits]
    names = [name for name in map(name_of, details) if name is not None]
    if len(set(names)) < len(names):
        return False
    return goal_type != "appointment_booked" or not any(map(_REPLACED, details))


def _grouped(hits: Iterable[facts.Hit], name_of: Callable[[Details], str | None]) -> list[tuple[facts.Hit, ...]]:
    """Group hits by a name; those without one stay alone."""
    groups: defaultdict[object, list[facts.Hit]] = defaultdict(list)
    for number, hit in enumerate(hits):
        name = name_of(details_of(hit.trigger.data))
        groups[number if name is None else name].append(hit)
    return [tuple(group) for group in groups.values()]


def by_subject(reversals: Iterable[facts.Reversal], type_: str | None = None) -> BySubject:
    """Return the reversals of a contact, or those of one type, by what they reverse."""
    found: defaultdict[str, list[facts.Reversal]] = defaultdict(list)
    for reversal in reversals:
        if type_ is None or reversal.type == type_:
            found[reversal.subject_id].append(reversal)
    return found


def _latest(reversals: Iterable[facts.Reversal]) -> datetime | None:
    return max((reversal.time for reversal in reversals), default=None)


# --- forms ---


def _form_undone(hits: Sequence[facts.Hit], rejected: BySubject) -> datetime | None:
    submission_id = details_of(hits[0].trigger.data).submission_id
    return None if submission_id is None else _latest(rejected.get(submission_id, ()))


# --- appointments ---


def _chains(hits: Sequence[facts.Hit], cancelled: BySubject) -> list[Occurrence]:
    """Join each appointment with the one that it replaces, and so on."""
    chain_of: dict[str, str] = {}

    def find(appointment_id: str) -> str:
        while (parent := chain_of.setdefault(appointment_id, appointment_id)) != appointment_id:
            # Each step halves the way for the next, or a contact's long chain would take seconds.
            chain_of[appointment_id] = appointment_id = chain_of[parent]
        return appointment_id

    alone: list[Occurrence] = []
    booked: list[tuple[str, facts.Hit]] = []
    replaced: set[str] = set()
    for hit in hits:
        details = details_of(hit.trigger.data)
        appointment_id, before = details.appointment_id, details.replaces_appointment_id
        if appointment_id is None:
            alone.append(Occurrence((hit,)))
            continue
        booked.append((appointment_id, hit))
        if before is not None and before != appointment_id:
            replaced.add(before)
            chain_of[find(before)] = find(appointment_id)
    members: defaultdict[str, list[facts.Hit]] = defaultdict(list)
    last: defaultdict[str, set[str]] = defaultdict(set)
    for appointment_id, hit in booked:
        chain = find(appointment_id)
        members[chain].append(hit)
        if appointment_id not in replaced:
            last[chain].add(appointment_id)
    return [Occurrence(tuple(members[c]), _chain_undone(last[c], cancelled)) for c in members] + alone


def _chain_undone(last: set[str], cancelled: BySubject) -> datetime | None:
    """Return the time up to which a chain is undone: once each of its last appointments was cancelled."""
    if not last or not cancelled.keys() >= last:
        return None
    return _latest(reversal for appointment_id in last for reversal in cancelled[appointment_id])


# --- payments ---


def _payment_undone(hits: Sequence[facts.Hit], reversals: BySubject) -> datetime | None:
    first = details_of(hits[0].trigger.data)
    own = reversals.get(first.payment_id or "", ())
    if not own:
        return None
    undone = [reversal for reversal in own if reversal.type == events.PAYMENT_FAILED]
    refunded, amount = refunds(own, first.currency or ""), first.amount or Decimal(0)
    totals = running_totals(refunded, amount)
    undone += [refund for refund, total in zip(refunded, totals, strict=True) if total >= amount]
    return _latest(undone)


def refunds(reversals: Iterable[facts.Reversal], currency: str) -> list[facts.Reversal]:
    """Return the refunds of one payment in its currency, in order; one refund_id is one refund (contract rule 3.3)."""
    found: dict[object, facts.Reversal] = {}
    ordered = sorted((r for r in reversals if r.type == events.PAYMENT_REFUNDED), key=lambda r: r.order)
    for reversal in ordered:
        name = (reversal.source, reversal.id) if reversal.refund_id is None else reversal.refund_id
        found.setdefault(name, reversal)
    return [refund for refund in found.values() if refund.currency is None or _is_same(refund.currency, currency)]


def sum_of(refunded: Iterable[facts.Reversal], amount: Decimal) -> Decimal:
    """Return the sum of refunds of a payment of this amount."""
    return max(running_totals(refunded, amount), default=Decimal(0))


def running_totals(refunded: Iterable[facts.Reversal], amount: Decimal) -> list[Decimal]:
    """Return the sum of refunds up to each; one without an amount is of the whole payment."""
    amounts = [amount if refund.amount is None else refund.amount for refund in refunded]
    return list(accumulate(amounts, EXACT.add))


def _is_same(currency: str, other: str) -> bool:
    return currency.upper() == other.upper()


def taken_back(trigger: facts.Trigger, reversals: BySubject) -> Decimal:
    """Return what was refunded or failed of a payment since its event, at most its amount (contract section 5)."""
    details, since = details_of(trigger.data), trigger.time
    amount = details.amount or Decimal(0)
    own = reversals.get(details.payment_id or "", ())
    if any(r.type == events.PAYMENT_FAILED and r.time >= since for r in own):
        return amount
    later = [refund for refund in refunds(own, details.currency or "") if refund.time >= since]
    return min(sum_of(later, amount), amount)
