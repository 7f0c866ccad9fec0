"""Phrases of sentences about events: what a contact did, and how people call it."""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Final

from goalworker.domain import events
from goalworker.domain.faults import printable
from goalworker.domain.text import format_money

# An amount with more decimals does not lengthen another one.
_LIKE_DECIMALS_MAX: Final = 4
# Values of a list that a sentence names; the others are counted.
_LISTED_MAX: Final = 3


def goal(goal_type: str, criteria: Mapping[str, object]) -> str:
    """Return a goal's type and criteria, which are in the form of JSON: purchase_made (min_amount 50, currency EUR)."""
    return f"{goal_type} ({', '.join(_criterion(name, value) for name, value in criteria.items())})"


def _criterion(name: str, value: object) -> str:
    if value is True:
        return name
    shown = listed(map(str, value), last="or") if isinstance(value, list | tuple) else printable(str(value))
    return f"{name} {shown}"


def listed(values: Iterable[str], last: str = "and") -> str:
    """Return values as a list in a sentence; of a long one, the first three and how many others there are."""
    shown = [printable(value) for value in values]
    if len(shown) > _LISTED_MAX + 1:
        shown = [*shown[:_LISTED_MAX], f"{len(shown) - _LISTED_MAX} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"


def money(amount: Decimal, like: Decimal = Decimal(0)) -> str:
    """Return an amount without a fraction, or with at least two decimals, and with as many as another one has.

    It stays 49.99 beside 49.98999, which has too many.
    """
    text = format_money(amount)
    whole, _, fraction = text.partition(".")
    _, _, other = format_money(like).partition(".")
    digits = max(len(fraction), len(other) if len(other) <= _LIKE_DECIMALS_MAX else 0)
    return whole if not digits else f"{whole}.{fraction.ljust(max(digits, 2), '0')}"


def _paid(data: events.PaymentCompleted) -> str:
    return f"paid {money(data.amount)} {printable(data.currency.upper())}"


def _tagged(data: events.TagAdded) -> str:
    names = [f'"{printable(data.tag_name)}"'] if data.tag_name else []
    if data.tag_id:
        names.append(f"({printable(data.tag_id)})" if names else printable(data.tag_id))
    return f"got the tag {' '.join(names)}"


def _booked(data: events.AppointmentBooked) -> str:
    where = "" if data.calendar_id is None else f" in the calendar {printable(data.calendar_id)}"
    what = "" if data.service_id is None else f" for the service {printable(data.service_id)}"
    return f"booked an appointment{where}{what}"


def _submitted(data: events.FormSubmitted) -> str:
    return f"submitted the form {printable(data.form_id)}"


def _moved(data: events.StageChanged) -> str:
    return f"reached the stage {printable(data.stage_id)} of the pipeline {printable(data.pipeline_id)}"


def deed(data: events.GoalData) -> str:
    """Return what a contact did, as the event says it, without its subject."""
    return _VERBS[type(data)](data)


def undoing(data: events.ReversalData) -> str:
    """Return what a reversal says happened: payment p-1 was refunded (10.00 EUR)."""
    match data:
        case events.PaymentRefunded(payment_id=subject, amount=amount, currency=currency):
            part = "" if amount is None or currency is None else f" ({money(amount)} {printable(currency.upper())})"
            return f"payment {printable(subject)} was refunded{part}"
        case events.PaymentFailed(payment_id=subject):
            return f"payment {printable(subject)} failed"
        case events.AppointmentCancelled(appointment_id=subject):
            return f"appointment {printable(subject)} was cancelled"
        case events.FormRejected(submission_id=subject):
            return f"form submission {printable(subject)} was rejected"


_VERBS: Final[Mapping[type[events.GoalData], Callable[..., str]]] = {
    events.PaymentCompleted: _paid,
    events.TagAdded: _tagged,
    events.AppointmentBooked: _booked,
    events.FormSubmitted: _submitted,
    events.StageChanged: _moved,
}
NAMES: Final[Mapping[str, str]] = {
    "purchase_made": "payment",
    "tag_added": "tag",
    "appointment_booked": "appointment",
    "form_submitted": "form submission",
    "pipeline_stage_reached": "stage change",
}


def name_of(data: events.GoalData, event_id: str) -> str:
    """Return the id by which people know what an event is about."""
    match data:
        case events.PaymentCompleted(payment_id=name) | events.AppointmentBooked(appointment_id=name):
            return printable(name)
        case events.FormSubmitted(submission_id=found) | events.StageChanged(deal_id=found):
            return printable(found or event_id)
        case _:
            return printable(event_id)


_UNITS_SECONDS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def duration(seconds: int) -> str:
    """Return a duration in words: 90,000 seconds are 1 day and 1 hour."""
    parts = []
    for unit, size in _UNITS_SECONDS:
        count, seconds = divmod(seconds, size)
        parts += [counted(count, unit)] if count else []
    return listed(parts or [counted(0, "second")])


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number of things in words; the plural is needed where it is not the noun with an s."""
    return f"1 {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
