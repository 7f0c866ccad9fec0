"""Criteria of goals: matching them, and parsing those that people write (contract rule 3.1)."""

import unicodedata
from collections.abc import Mapping
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from goalworker.domain import events
from goalworker.domain.faults import Fault, fault, pointer, printable, shown
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

Ids = str | tuple[str, ...]
"""One id, or two to IDS_MAX of which any will do, sorted and without repeats."""
IDS_MAX: Final = 50
ID_FIELDS: Final = frozenset(
    name for row in events.GOAL_TYPE_TABLE.values() for name in row.criteria if name.endswith("_id")
)
"""Criteria that take Ids."""


class Criteria(Struct, frozen=True, gc=False, omit_defaults=True):
    """The condition of a goal: only fields of its type are set, and without any field every event matches."""

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


class CriteriaError(ValueError):
    """Invalid criteria, with all their faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


EMPTY_CRITERIA: Final = "Goal criteria cannot be empty"
ID_RULE: Final = f"{TEXT_RULE}, or a list of 1 to {IDS_MAX} such texts"
IDS_RULE: Final = f'must list 1 to {IDS_MAX} ids, such as ["a", "b"]'


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
    fields = {name: _to_json(value) for name in row.criteria if (value := getattr(criteria, name)) is not None}
    return fields if row.any_flag is None else fields or {row.any_flag: True}


def _to_json(value: Ids | Decimal) -> str | list[str]:
    match value:
        case Decimal():
            return format_decimal(value)
        case tuple():
            return list(value)
        case _:
            return value


def _missing(row: events.GoalType, fields: set[str], *, is_any: bool) -> list[Fault]:
    if is_any and fields:
        return [Fault(f"/{row.any_flag}", f"`{row.any_flag}` stands alone: leave it or the other fields out")]
    if not fields and not is_any:
        return [Fault("", EMPTY_CRITERIA)]
    if row.are_criteria_required:
        absent = [name for name in row.criteria if name not in fields]
        return [Fault(f"/{name}", f"`{name}` is required for {row.name}") for name in absent]
    return []


def _value(name: str, value: object, faults: list[Fault]) -> Ids | Decimal | None:
    if name == "min_amount":
        amount = _amount(value)
        if amount is None:
            faults.append(fault(name, AMOUNT_RULE, value))
        return amount
    if name in ID_FIELDS and isinstance(value, list):
        return _ids(name, value, faults)
    if not isinstance(value, str) or not is_valid_text(value):
        faults.append(fault(name, ID_RULE if name in ID_FIELDS else TEXT_RULE, value))
        return None
    if name == "currency":
        if not is_currency(value):
            faults.append(fault(name, CURRENCY_RULE, value))
        return value.upper()
    return value


def _ids(name: str, entries: list[object], faults: list[Fault]) -> Ids | None:
    if not 1 <= len(entries) <= IDS_MAX:
        faults.append(Fault(f"/{name}", f"`{name}` {IDS_RULE}; got a list of {len(entries)}"))
        return None
    texts = sorted({entry for entry in entries if isinstance(entry, str) and is_valid_text(entry)})
    faults += [
        Fault(f"/{name}/{number}", f"Entry {number} of `{name}` {TEXT_RULE}; got {shown(entry)}")
        for number, entry in enumerate(entries)
        if not isinstance(entry, str) or not is_valid_text(entry)
    ]
    return texts[0] if len(texts) == 1 else tuple(texts)


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
