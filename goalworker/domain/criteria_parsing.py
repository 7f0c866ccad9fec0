"""Parsing of the criteria that people write, with every fault and every warning (contract rule 3.1)."""

from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from typing import Any, Final

from goalworker.domain import criteria, events
from goalworker.domain.criteria import Criteria, Ids
from goalworker.domain.faults import Fault, fault, pointer, printable, shown
from goalworker.domain.text import (
    AMOUNT_MAX,
    AMOUNT_RULE,
    CURRENCY_RULE,
    DURATION_RULE,
    TEXT_RULE,
    is_currency,
    is_valid_text,
    parse_amount,
    parse_json_amount,
    parse_positive_duration,
)

TIMES_MIN: Final = 2
TIMES_MAX: Final = 1_000

EMPTY_CRITERIA: Final = "Goal criteria cannot be empty"
ID_RULE: Final = f"{TEXT_RULE}, or a list of 1 to {criteria.IDS_MAX} such texts"
IDS_RULE: Final = f'must list 1 to {criteria.IDS_MAX} ids, such as ["a", "b"]'
TIMES_RULE: Final = f"must be a whole number from {TIMES_MIN} to {TIMES_MAX:,}, such as 3"
REVERSALS_RULE: Final = f'must be "{criteria.REVOKE}", the default, or "{criteria.KEEP}"'


class CriteriaError(ValueError):
    """Invalid criteria, with all their faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = faults


def parse_criteria(goal_type: str, given: Mapping[str, Any]) -> Criteria:
    """Return normalised criteria from those of a person, whose numbers are int or Decimal.

    Raises CriteriaError with every fault.
    """
    present = {name: value for name, value in given.items() if value is not None}
    row = events.GOAL_TYPE_TABLE[goal_type]
    allowed = (*row.criteria, *criteria.settings_of(row))
    faults: list[Fault] = []
    if row.any_flag is not None and not isinstance(present.get(row.any_flag, False), bool):
        faults.append(fault(row.any_flag, "must be true or left out", present[row.any_flag]))
    is_any = row.any_flag is not None and bool(present.pop(row.any_flag, False))
    faults += [Fault(f"/{pointer(name)}", _unknown(name, row, allowed)) for name in present if name not in allowed]
    values = {name: _value(row, name, present[name], faults) for name in allowed if name in present}
    if not faults:
        own = [name for name in row.criteria if name in values]
        faults = _missing(row, own, values, is_any=is_any) + _clashes(values)
    if faults:
        raise CriteriaError(faults)
    if values.get("reversals") == criteria.REVOKE:
        del values["reversals"]
    return Criteria(**values)


def warnings(of_goal: Criteria) -> list[Fault]:
    """Return what is allowed and seldom meant, in normalised criteria."""
    if of_goal.min_amount is None or of_goal.currency is not None:
        return []
    detail = "`min_amount` without `currency` compares amounts of every currency, so that 100 JPY count as 100 EUR do"
    return [Fault("/min_amount", f'{detail}; add `currency`, such as "EUR"')]


# --- which fields there are ---


def _unknown(name: str, row: events.GoalType, allowed: tuple[str, ...]) -> str:
    fields = [*row.criteria, *([row.any_flag] if row.any_flag else []), *allowed[len(row.criteria) :]]
    return f"`{printable(name[:64])}` is not a criterion of {row.name}; it takes {', '.join(fields)}"


def _missing(row: events.GoalType, own: list[str], values: Mapping[str, Any], *, is_any: bool) -> list[Fault]:
    needs_currency = "total_amount" in values  # so that it never stands alone
    if is_any and (own or needs_currency):
        return [Fault(f"/{row.any_flag}", f"`{row.any_flag}` stands alone: leave it or the other fields out")]
    if not own and not is_any and not needs_currency:
        return [Fault("", f"{EMPTY_CRITERIA}: {_needed(row, values)}" if values else EMPTY_CRITERIA)]
    if row.are_criteria_required:
        return [Fault(f"/{name}", f"`{name}` is required for {row.name}") for name in row.criteria if name not in own]
    return []


def _needed(row: events.GoalType, settings: Mapping[str, Any]) -> str:
    """Return what to add to criteria of settings alone."""
    given, fields = ", ".join(f"`{name}`" for name in settings), ", ".join(f"`{name}`" for name in row.criteria)
    anything = f"`{row.any_flag}`: true, or " if row.any_flag else ""
    some = "" if row.are_criteria_required else "some of "
    return f"beside {given} add {anything}{some}{fields}"


def _clashes(values: Mapping[str, Any]) -> list[Fault]:
    """Return the faults of settings that lack another one, or exclude one."""
    faults = []
    counting = next((name for name in ("times", "total_amount") if name in values), None)
    if "total_amount" in values:
        if "currency" not in values:
            faults.append(Fault("/currency", '`currency` is required with `total_amount`, such as "EUR"'))
        faults += [
            Fault(f"/{name}", f"`{name}` cannot stand beside `total_amount`; leave one of them out")
            for name in ("min_amount", "times")
            if name in values
        ]
    if counting and "within" not in values and "deadline" not in values:
        faults.append(Fault(f"/{counting}", f'`{counting}` needs `within` or `deadline`, such as "within": "P30D"'))
    if "within" in values and not counting:
        detail = '`within` spans several events and needs `times` or `total_amount`, such as "times": 3'
        faults.append(Fault("/within", f"{detail}; the time since the enrollment is `deadline`"))
    return faults


# --- the value of a field ---


def _value(row: events.GoalType, name: str, value: object, faults: list[Fault]) -> Any:
    """Return the normalised value of a field, or None after adding a fault."""
    if name in criteria.ID_FIELDS and isinstance(value, list):
        return _ids(name, value, faults)
    if name == "correlate_by":
        names = criteria.correlations_of(row)
        parsed, rule = value if value in names else None, f"must be {' or '.join(names)} for {row.name}"
    else:
        parse, rule = _PARSERS.get(name, (_text, TEXT_RULE))
        parsed = parse(value)
    if parsed is None:
        faults.append(fault(name, rule, value))
    return parsed


def _ids(name: str, entries: list[object], faults: list[Fault]) -> Ids | None:
    if not 1 <= len(entries) <= criteria.IDS_MAX:
        faults.append(Fault(f"/{name}", f"`{name}` {IDS_RULE}; got a list of {len(entries)}"))
        return None
    texts = [_text(entry) for entry in entries]
    faults += [
        Fault(f"/{name}/{number}", f"Entry {number} of `{name}` {TEXT_RULE}; got {shown(entry)}")
        for number, (entry, text) in enumerate(zip(entries, texts, strict=True))
        if text is None
    ]
    unique = sorted({text for text in texts if text is not None})
    return unique[0] if len(unique) == 1 else tuple(unique)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and is_valid_text(value) else None


def _currency(value: object) -> str | None:
    return value.upper() if isinstance(value, str) and is_currency(value) else None


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


def _total(value: object) -> Decimal | None:
    return _amount(value) or None


def _times(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    # A Decimal is a number with a point or an exponent: 3.0 is 3. NaN compares with an error.
    is_number = isinstance(value, int) or value.is_finite()
    return int(value) if is_number and TIMES_MIN <= value <= TIMES_MAX and value == int(value) else None


def _reversals(value: object) -> str | None:
    return value if isinstance(value, str) and value in (criteria.REVOKE, criteria.KEEP) else None


_PARSERS: Final[Mapping[str, tuple[Callable[[object], Any], str]]] = {
    **dict.fromkeys(criteria.ID_FIELDS, (_text, ID_RULE)),
    "min_amount": (_amount, AMOUNT_RULE),
    "currency": (_currency, CURRENCY_RULE),
    "times": (_times, TIMES_RULE),
    "total_amount": (_total, f"{AMOUNT_RULE}, and above 0"),
    **dict.fromkeys(criteria.DURATIONS, (parse_positive_duration, DURATION_RULE)),
    "reversals": (_reversals, REVERSALS_RULE),
}
"""Parser by field, which returns None for a value that breaks the rule beside it."""
