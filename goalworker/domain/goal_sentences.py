"""Sentences that say for people when a contact achieves a goal."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from goalworker.domain import criteria, phrases
from goalworker.domain.faults import printable
from goalworker.domain.text import parse_duration

Given = Mapping[str, Any]
"""Criteria in the form of JSON, normalised."""


def sentence(goal_type: str, given: Given) -> str:
    """Return when a contact achieves a goal: A contact pays at least 50 EUR, 3 times within 30 days."""
    return f"A contact {_DEEDS[goal_type](given)}{_counted(given)}{_limited(given)}."


def _ids(value: Any) -> str:
    return phrases.listed([value] if isinstance(value, str) else value, last="or")


def _tagged(given: Given) -> str:
    names = [f'"{printable(given["tag_name"])}"'] if "tag_name" in given else []
    if "tag_id" in given:
        names.append(f"({_ids(given['tag_id'])})" if names else _ids(given["tag_id"]))
    return f"gets the tag {' '.join(names)}"


def _paid(given: Given) -> str:
    product = f" for the product {_ids(given['product_id'])}" if "product_id" in given else ""
    if "total_amount" in given:
        return f"pays {_money(given['total_amount'])} {given['currency']} in total{product}"
    amount = f" at least {_money(given['min_amount'])}" if "min_amount" in given else ""
    currency = f"{'' if amount else ' in'} {given['currency']}" if "currency" in given else ""
    return f"pays{amount}{currency}{product}"


def _money(amount: str) -> str:
    return phrases.money(Decimal(amount))


def _booked(given: Given) -> str:
    where = f" in the calendar {_ids(given['calendar_id'])}" if "calendar_id" in given else ""
    what = f" for the service {_ids(given['service_id'])}" if "service_id" in given else ""
    return f"books an appointment{where}{what}"


def _submitted(given: Given) -> str:
    return f"submits the form {_ids(given['form_id'])}"


def _moved(given: Given) -> str:
    return f"reaches the stage {_ids(given['stage_id'])} of the pipeline {_ids(given['pipeline_id'])}"


_DEEDS: Final[Mapping[str, Callable[[Given], str]]] = {
    "tag_added": _tagged,
    "purchase_made": _paid,
    "appointment_booked": _booked,
    "form_submitted": _submitted,
    "pipeline_stage_reached": _moved,
}


def _counted(given: Given) -> str:
    counted = f", {given['times']:,} times" if "times" in given else ""
    return f"{counted} within {_duration(given['within'])}" if "within" in given else counted


def _limited(given: Given) -> str:
    limits = []
    if "deadline" in given:
        limits.append(f", no later than {_duration(given['deadline'])} after the enrollment")
    if "correlate_by" in given:
        limits.append(f", with the enrollment's correlation_id as {given['correlate_by']}")
    if given.get("reversals") == criteria.KEEP:
        limits.append("; a reversal does not take it back")
    return "".join(limits)


def _duration(value: str) -> str:
    seconds = parse_duration(value)
    return printable(value) if seconds is None else phrases.duration(seconds)
