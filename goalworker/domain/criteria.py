"""Criteria of goals: matching them, and parsing those that people write (contract rule 3.1)."""

import unicodedata
from collections.abc import Mapping
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from goalworker.domain import events
from goalworker.domain.faults import Fault, fault, pointer, printable
from goalworker.domain.text import (
    AMOUNT_MAX,
    AMOUNT_RULE,
    CURRENCY_RULE,
    TEXT_RULE,
    format_decimal,
    is_currency,
    is_valid_text,
    parse_amount,
    parse_json_amount,
)


class Criteria(Struct, frozen=True, gc=False, omit_defaults=True):
    """The condition of a goal: only fields of its type are set, and without any field every event matches."""

    tag_id: str | None = None
    tag_name: str | None = None
    product_id: str | None = None
    min_amount: Decimal | None = None
    currency: str | None = None
    calendar_id: str | None = None
    service_id: str | None = None
    form_id: str | None = None
    pipeline_id: str | None = None
    stage_id: str | None = None
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
            return criteria.calendar_id in (None, data.calendar_id) and criteria.service_id in (None, data.service_id)
        case events.FormSubmitted():
            return criteria.form_id == data.form_id
        case events.StageChanged():
            return criteria.pipeline_id == data.pipeline_id and criteria.stage_id == data.stage_id


def _tag_matches(criteria: Criteria, tag: events.TagAdded) -> bool:
    if criteria.tag_id is not None and tag.tag_id is not None:
        return criteria.tag_id == tag.tag_id
    if criteria.tag_name is None or tag.tag_name is None:
        return False
    return fold_name(criteria.tag_name) == fold_name(tag.tag_name)


def _payment_matches(criteria: Criteria, payment: events.PaymentCompleted) -> bool:
    return (
        (criteria.product_id is None or criteria.product_id in (payment.product_ids or ()))
        and (criteria.min_amount is None or payment.amount >= criteria.min_amount)
        and (criteria.currency is None or criteria.currency == payment.currency.upper())
    )


@lru_cache(maxsize=65_536)
def fold_name(name: str) -> str:
    """Return the form in which names of tags are compared: NFKC, strip, casefold, NFKC (contract section 3)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).strip().casefold())


class CriteriaError(ValueError):
    """Invalid criteria, with all their faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


EMPTY_CRITERIA: Final = "Goal criteria cannot be empty"


def parse_criteria(goal_type: str, given: Mapping[str, Any]) -> Criteria:
    """Return normalised criteria from those of a person or of the database, whose numbers are int or Decimal.

    Raises CriteriaError with every fault.
    """
    present = {name: value for name, value in given.items() if value is not None}
    row = events.GOAL_TYPE_TABLE[goal_type]
    faults: list[Fault] = []
    if row.any_flag is not None and not isinstance(present.get(row.any_flag, False), bool):
        faults.append(fault(row.any_flag, "must be true or left out", present[row.any_flag]))
    is_any = row.any_flag is not None and bool(present.pop(row.any_flag, False))
    faults += [Fault(f"/{pointer(name)}", _unknown(name, row)) for name in present if name not in row.criteria]
    values: dict[str, Any] = {name: _value(name, present[name], faults) for name in row.criteria if name in present}
    if not faults:
        faults = _missing(row, set(values), is_any=is_any)
    if faults:
        raise CriteriaError(faults)
    return Criteria(**values)


def criteria_to_json(goal_type: str, criteria: Criteria) -> dict[str, Any]:
    """Return criteria in the form that people read and the database stores: normalised, amounts as strings."""
    row = events.GOAL_TYPE_TABLE[goal_type]
    fields = {name: getattr(criteria, name) for name in row.criteria if getattr(criteria, name) is not None}
    if criteria.min_amount is not None:
        fields["min_amount"] = format_decimal(criteria.min_amount)
    return fields if row.any_flag is None else fields or {row.any_flag: True}


def _missing(row: events.GoalType, fields: set[str], *, is_any: bool) -> list[Fault]:
    if is_any and fields:
        return [Fault(f"/{row.any_flag}", f"`{row.any_flag}` stands alone: leave it or the other fields out")]
    if not fields and not is_any:
        return [Fault("", EMPTY_CRITERIA)]
    if row.are_criteria_required:
        absent = [name for name in row.criteria if name not in fields]
        return [Fault(f"/{name}", f"`{name}` is required for {row.name}") for name in absent]
    return []


def _value(name: str, value: object, faults: list[Fault]) -> str | Decimal | None:
    if name == "min_amount":
        amount = _amount(value)
        if amount is None:
            faults.append(fault(name, AMOUNT_RULE, value))
        return amount
    if not isinstance(value, str) or not is_valid_text(value):
        faults.append(fault(name, TEXT_RULE, value))
        return None
    if name == "currency":
        if not is_currency(value):
            faults.append(fault(name, CURRENCY_RULE, value))
        return value.upper()
    return value


_EXACT: Final = Context(prec=64)
"""Digits of a normalised amount; the default context would round to 28."""


def _amount(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, int) and abs(value) > AMOUNT_MAX:  # str() refuses a number of more than 4,300 digits
        return None
    amount = parse_amount(value) if isinstance(value, str) else parse_json_amount(str(value))
    if amount is None:
        return None
    return amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount.normalize(_EXACT)


def _unknown(name: str, row: events.GoalType) -> str:
    fields = row.criteria if row.any_flag is None else (*row.criteria, row.any_flag)
    return f"`{printable(name[:64])}` is not a criterion of {row.name}; it takes {', '.join(fields)}"
