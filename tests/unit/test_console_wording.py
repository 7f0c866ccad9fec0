"""Numbers, amounts, times and durations on pages."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from goalworker.console import wording

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3_600, "1 h"), (3_601, "1 h"), (90_000, "1 d 1 h")],
)
def test_a_duration_has_its_two_largest_units(seconds: int, words: str) -> None:
    assert wording.duration(seconds) == wording.duration(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s ago"), (59, "59 s ago"), (3_599, "59 min ago"), (200_000, "2 d ago"), (-90, "in 1 min")],
)
def test_the_time_since_a_moment_has_its_largest_unit(seconds: int, words: str) -> None:
    assert f">{words}</time>" in wording.since(NOON, NOON + timedelta(seconds=seconds))


def test_a_moment_is_shown_in_utc_and_readable_by_machines() -> None:
    assert wording.when(NOON) == '<time datetime="2026-05-01T12:00:00Z">2026-05-01 12:00:00 UTC</time>'


@pytest.mark.parametrize(
    ("amount", "words"),
    [("0", "0.00"), ("49.9", "49.90"), ("1234567.891", "1,234,567.891"), ("-1234.5", "-1,234.50")],
)
def test_an_amount_has_separators_and_at_least_two_decimals(amount: str, words: str) -> None:
    assert wording.money(Decimal(amount)) == words
    assert wording.money(Decimal(amount), "EUR") == f"{words} EUR"


def test_numbers_and_shares_are_written_as_people_read_them() -> None:
    assert (wording.count(1_234_567), wording.percent(0.1234)) == ("1,234,567", "12.3 %")


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 workflows"), (1, "1 workflow"), (2, "2 workflows"), (1_234, "1,234 workflows")]
)
def test_only_one_thing_is_in_the_singular(number: int, words: str) -> None:
    assert wording.FILTERS["counted"](number, "workflow") == words


def test_a_plural_that_is_not_the_noun_with_an_s_is_named() -> None:
    counted = wording.FILTERS["counted"]
    assert (counted(1, "entry", "entries"), counted(2, "entry", "entries")) == ("1 entry", "2 entries")
