"""Criteria of goals: what they are, what they match, and their form in JSON (contract rule 3.1)."""

import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct, ValidationError, convert, json

from goalworker.domain import events
from goalworker.domain.text import format_decimal, format_duration, parse_duration

Ids = str | tuple[str, ...]
"""One id, or two to IDS_MAX of which any will do, sorted and without repeats."""
IDS_MAX: Final = 50
ID_FIELDS: Final = frozenset(
    name for row in events.GOAL_TYPE_TABLE.values() for name in row.criteria if name.endswith("_id")
)
"""Criteria that take Ids."""

SETTING_FIELDS: Final = ("times", "total_amount", "within", "deadline", "reversals", "correlate_by")
"""Criteria beside those of a goal's type: how many events a goal takes, when, and which of them."""
DURATIONS: Final = ("within", "deadline")
"""Criteria that are seconds here and ISO 8601 durations in JSON."""
CORRELATIONS: Final = ("correlation_id", "deal_id", "payment_id", "appointment_id", "submission_id")
REVOKE: Final = "revoke"
KEEP: Final = "keep"
"""What a reversal does to the goal's achievement; REVOKE is the default and not stored."""


class Criteria(Struct, frozen=True, gc=False, omit_defaults=True):
    """The condition of a goal: only fields of its type and settings are set; without the former every event matches.

    within and deadline are seconds. reversals is KEEP or None, which means that a reversal revokes.
    """

    tag_id: Ids | None = None
    tag_name: str | None = None
    product_id: Ids | None = None
    min_amount: Decimal | None = None
    currency: str | None = None
    calendar_id: Ids | None = None
    service_id: Ids | None = None
    form_id: Ids | None = None
    pipeline_id: Ids | None = None
    stage_id: Ids | None = None
    times: int | None = None
    total_amount: Decimal | None = None
    within: int | None = None
    deadline: int | None = None
    reversals: str | None = None
    correlate_by: str | None = None


def matches(criteria: Criteria, data: events.GoalData) -> bool:
    """Say whether the data of an event meets the criteria of a goal of its type (contract section 3, Criteria)."""
    match data:
        case events.TagAdded():
            return _tag_matches(criteria, data)
        case events.PaymentCompleted():
            return _payment_matches(criteria, data)
        case events.AppointmentBooked():
            return (
                criteria.calendar_id in (None, data.calendar_id) or _is_among(data.calendar_id, criteria.calendar_id)
            ) and (criteria.service_id in (None, data.service_id) or _is_among(data.service_id, criteria.service_id))
        case events.FormSubmitted():
            return criteria.form_id == data.form_id or _is_among(data.form_id, criteria.form_id)
        case events.StageChanged():
            return (criteria.pipeline_id == data.pipeline_id or _is_among(data.pipeline_id, criteria.pipeline_id)) and (
                criteria.stage_id == data.stage_id or _is_among(data.stage_id, criteria.stage_id)
            )


def _tag_matches(criteria: Criteria, tag: events.TagAdded) -> bool:
    if criteria.tag_id is not None and tag.tag_id is not None:
        return criteria.tag_id == tag.tag_id or _is_among(tag.tag_id, criteria.tag_id)
    if criteria.tag_name is None or tag.tag_name is None:
        return False
    return fold_name(criteria.tag_name) == fold_name(tag.tag_name)


def _payment_matches(criteria: Criteria, payment: events.PaymentCompleted) -> bool:
    product_id, product_ids = criteria.product_id, payment.product_ids or ()
    return (
        (product_id is None or product_id in product_ids or _are_any_among(product_ids, product_id))
        and (criteria.min_amount is None or payment.amount >= criteria.min_amount)
        and (criteria.currency is None or criteria.currency == payment.currency.upper())
    )


# A single id, which most goals have, is compared inline; only a miss costs one of these calls.


def _is_among(id_: str | None, wanted: Ids | None) -> bool:
    return isinstance(wanted, tuple) and id_ in wanted


def _are_any_among(ids: tuple[str, ...], wanted: Ids) -> bool:
    return isinstance(wanted, tuple) and not set(wanted).isdisjoint(ids)


@lru_cache(maxsize=65_536)
def fold_name(name: str) -> str:
    """Return the form in which names of tags are compared: NFKC, strip, casefold, NFKC (contract section 3)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).strip().casefold())


def settings_of(row: events.GoalType) -> tuple[str, ...]:
    """Return the settings that goals of a type may have."""
    return tuple(name for name in SETTING_FIELDS if name != "total_amount" or row.data is events.PaymentCompleted)


def correlations_of(row: events.GoalType) -> tuple[str, ...]:
    """Return the fields of a type's events by which they can be correlated with an enrollment."""
    return tuple(name for name in CORRELATIONS if name in row.data.__struct_fields__)


# --- JSON ---


def criteria_to_json(goal_type: str, criteria: Criteria) -> dict[str, Any]:
    """Return criteria in the form that people read and the database stores: normalised, amounts as strings."""
    row = events.GOAL_TYPE_TABLE[goal_type]
    own = _fields_to_json(criteria, row.criteria)
    if row.any_flag is not None and not own:
        own = {row.any_flag: True}
    return own | _fields_to_json(criteria, SETTING_FIELDS)


def _fields_to_json(criteria: Criteria, names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: getattr(criteria, name) for name in names}
    return {name: _to_json(name, value) for name, value in values.items() if value is not None}


def _to_json(name: str, value: Ids | Decimal | int) -> str | int | list[str]:
    match value:
        case Decimal():
            return format_decimal(value)
        case tuple():
            return list(value)
        case int() if name in DURATIONS:
            return format_duration(value)
        case _:
            return value


_DECODER: Final = json.Decoder(Criteria)


def criteria_of_text(stored: str) -> Criteria:
    """Return criteria from the text of their JSON as the database stores it."""
    try:
        return _DECODER.decode(stored)
    except ValidationError:  # It holds a duration, which is not a number of seconds there.
        return criteria_of_json(json.decode(stored))


def criteria_of_json(stored: Mapping[str, Any]) -> Criteria:
    """Return criteria from their JSON as the database stores it."""
    seconds = {name: parse_duration(stored[name]) for name in DURATIONS if name in stored}
    return convert({**stored, **seconds}, Criteria)
