"""Near misses: events that met every criterion of a goal but one (contract section 7, Plan)."""

from collections import Counter
from decimal import Decimal
from typing import Final

from msgspec import Struct

from goalworker.domain import clauses, events
from goalworker.domain.criteria import Criteria
from goalworker.domain.text import format_decimal

CONTACTS_MAX: Final = 20
"""Contacts in an example, at most (contract section 7)."""
_VALUES_MAX: Final = 1_000
"""Distinct values that are told apart for a criterion; further ones are only counted."""


class Example(Struct, frozen=True):
    """The value that such events had, the nearest amount or else the most frequent text, and contacts of theirs."""

    actual: clauses.Shown | None
    contact_ids: tuple[str, ...]


class NearMiss(Struct, frozen=True):
    """The number of events that missed a criterion alone; the pointer is into the criteria."""

    pointer: str
    count: int
    example: Example


class NearMisses:
    """Counters of events by the criterion of one goal that they missed."""

    def __init__(self) -> None:
        self._missed: dict[str, _Missed] = {}

    def add(self, criteria: Criteria, data: events.GoalData) -> None:
        """Count an event that did not match, if it misses one criterion only."""
        false = [clause for clause in clauses.clauses_of(criteria, data) if not clause.result]
        if len(false) == 1:
            clause = false[0]
            if clause.pointer not in self._missed:
                self._missed[clause.pointer] = _Missed(is_amount=clause.op == clauses.AT_LEAST)
            self._missed[clause.pointer].add(clause.actual, data.contact_id)

    def result(self) -> tuple[NearMiss, ...]:
        """Return the near misses, the most frequent first."""
        found = [NearMiss(pointer, missed.count, missed.example()) for pointer, missed in self._missed.items()]
        return tuple(sorted(found, key=lambda near: (-near.count, near.pointer)))


class _Missed:
    """Values by which events missed one criterion, with contacts of each; of amounts, only the nearest is kept."""

    def __init__(self, *, is_amount: bool) -> None:
        self.count = 0
        self._is_amount = is_amount
        self._nearest: Decimal | None = None
        self._shown = ""
        self._values: Counter[clauses.Shown | None] = Counter()
        self._contacts: dict[clauses.Shown | None, list[str]] = {}

    def add(self, actual: clauses.Shown | None, contact_id: str) -> None:
        self.count += 1
        if self._is_amount and isinstance(actual, str):
            amount = Decimal(actual)
            if self._nearest is not None and amount < self._nearest:
                return
            if self._nearest is None or amount > self._nearest:
                self._nearest, self._shown = amount, format_decimal(amount)
                self._values.clear()
                self._contacts.clear()
            actual = self._shown
        elif actual not in self._values and len(self._values) >= _VALUES_MAX:
            return
        self._values[actual] += 1
        contacts = self._contacts.setdefault(actual, [])
        if len(contacts) < CONTACTS_MAX and contact_id not in contacts:
            contacts.append(contact_id)

    def example(self) -> Example:
        ((actual, _),) = self._values.most_common(1)
        return Example(actual, tuple(self._contacts[actual]))
