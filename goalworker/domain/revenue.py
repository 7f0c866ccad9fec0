"""Revenue: sums of payments by currency, less refunds and failures (contract section 5)."""

from collections.abc import Iterable
from decimal import Decimal

from goalworker.domain.occurrences import EXACT
from goalworker.domain.text import format_money

Revenue = dict[str, dict[str, str]]
"""Amounts `gross`, `reversed` and `net` by currency."""

Sum = tuple[str, Decimal | None, Decimal | None]
"""Currency, gross and reversed; None where no payment counts."""


def totals(sums: Iterable[Sum]) -> Revenue:
    """Add up sums by currency."""
    found = Totals()
    for currency, gross, taken_back in sums:
        if gross is not None and taken_back is not None:
            found.add(currency, gross, taken_back)
    return found.result()


class Totals:
    """Running sums of payments by currency."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Decimal, Decimal]] = {}

    def add(self, currency: str, gross: Decimal, taken_back: Decimal) -> None:
        """Add the amount of a payment, and how much of it was refunded or failed."""
        before = self._sums.get(currency, (Decimal(0), Decimal(0)))
        self._sums[currency] = (EXACT.add(before[0], gross), EXACT.add(before[1], taken_back))

    def result(self) -> Revenue:
        """Return the sums."""
        return {currency: _amounts(*self._sums[currency]) for currency in sorted(self._sums)}


def _amounts(gross: Decimal, taken_back: Decimal) -> dict[str, str]:
    net = EXACT.subtract(gross, taken_back)
    as_precise_as_gross = EXACT.subtract(gross, net)  # 0.00 of 49.90, not 0
    return {"gross": format_money(gross), "reversed": format_money(as_precise_as_gross), "net": format_money(net)}
