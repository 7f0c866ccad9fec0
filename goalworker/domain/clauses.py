"""Clauses of criteria: each condition with what it asks for and what an event says (contract section 7)."""

from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct, structs

from goalworker.domain import criteria, events
from goalworker.domain.text import format_decimal

EQUALS: Final = "equals"
ONE_OF: Final = "one_of"
SAME_NAME: Final = "same_name"
CONTAINS: Final = "contains"
CONTAINS_ONE_OF: Final = "contains_one_of"
AT_LEAST: Final = "at_least"
OPS: Final = (EQUALS, ONE_OF, SAME_NAME, CONTAINS, CONTAINS_ONE_OF, AT_LEAST)
"""Relations between actual and expected. Currencies are equal whatever their case; names as tags compare them."""

_FIELDS: Final = {row.data: row.criteria for row in events.GOAL_TYPE_TABLE.values()}
_DATA_FIELDS: Final = {"product_id": "product_ids", "min_amount": "amount"}
"""Fields of the data by the criterion that they are compared with, where they are called differently."""
_POINTERS: Final = {"product_id": "/product_ids/-"}

Shown = str | tuple[str, ...]


class Clause(Struct, frozen=True, gc=False):
    """One condition of criteria; actual is null where the event has no such field."""

    pointer: str
    op: str
    expected: Shown
    actual: Shown | None
    result: bool


class DataChange(Struct, frozen=True, gc=False):
    """A change of an event's data; a pointer that ends in `-` adds to the list."""

    pointer: str
    to: str


def clauses_of(given: criteria.Criteria, data: events.GoalData) -> tuple[Clause, ...]:
    """Return the clauses of criteria for the data of an event; it matches where all are true.

    Of a tag's id and name, only the one that decides is a clause. Any event meets criteria without clauses.
    """
    return tuple([_clause(given, name, data) for name in _deciding(given, data)])


def changes_to_match(clauses: tuple[Clause, ...]) -> tuple[DataChange, ...]:
    """Return the smallest change of the event's data for which all its clauses are true, nothing if they are."""
    return tuple([_change(clause) for clause in clauses if not clause.result])


def _deciding(given: criteria.Criteria, data: events.GoalData) -> tuple[str, ...]:
    if isinstance(data, events.TagAdded):
        is_by_name = given.tag_id is None or (data.tag_id is None and given.tag_name is not None)
        return ("tag_name",) if is_by_name else ("tag_id",)
    return tuple(name for name in _FIELDS[type(data)] if getattr(given, name) is not None)


def _clause(given: criteria.Criteria, name: str, data: events.GoalData) -> Clause:
    expected, actual = getattr(given, name), getattr(data, _DATA_FIELDS.get(name, name))
    result = criteria.matches(_alone(given, name, data), data)
    return Clause(f"/{name}", _op(name, expected), _shown(expected), None if actual is None else _shown(actual), result)


def _alone(given: criteria.Criteria, name: str, data: events.GoalData) -> criteria.Criteria:
    """Return criteria that match where this clause is true, whatever the other ones say."""
    alone = _of_one(name, getattr(given, name))
    if isinstance(data, events.StageChanged):  # which must meet both
        other = "stage_id" if name == "pipeline_id" else "pipeline_id"
        return structs.replace(alone, **{other: getattr(data, other)})
    return alone


@lru_cache(maxsize=1_024)  # a contact may have thousands of events
def _of_one(name: str, expected: Any) -> criteria.Criteria:
    return criteria.Criteria(**{name: expected})


def _op(name: str, expected: object) -> str:
    if name in _SPECIAL_OPS:
        return _SPECIAL_OPS[name]
    if name == "product_id":
        return CONTAINS_ONE_OF if isinstance(expected, tuple) else CONTAINS
    return ONE_OF if isinstance(expected, tuple) else EQUALS


_SPECIAL_OPS: Final = {"tag_name": SAME_NAME, "min_amount": AT_LEAST}


def _shown(value: str | tuple[str, ...] | Decimal) -> Shown:
    return format_decimal(value) if isinstance(value, Decimal) else value


def _change(clause: Clause) -> DataChange:
    name, expected = clause.pointer[1:], clause.expected
    pointer = _POINTERS.get(name, f"/{_DATA_FIELDS.get(name, name)}")
    return DataChange(pointer, expected if isinstance(expected, str) else expected[0])


def with_changes(data: events.GoalData, changes: Iterable[DataChange]) -> events.GoalData:
    """Return the data of an event with changes made."""
    for change in changes:
        name, *added = change.pointer[1:].split("/")
        value: object = Decimal(change.to) if name == "amount" else change.to
        if added:
            value = (*(getattr(data, name) or ()), change.to)
        data = structs.replace(data, **{name: value})
    return data
