"""CSV answers: no cell is a formula, and each reader finds the text that went in."""

import csv
import io
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from starlette.requests import Request

from goalworker.api import csv_answers
from goalworker.domain import cohorts, messages

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@given(st.lists(st.lists(TEXT, min_size=2, max_size=4), min_size=1, max_size=4))
def test_every_text_comes_back_and_none_begins_as_a_formula(rows: list[list[str]]) -> None:
    for given_, found in zip(rows, read(csv_answers.text(rows)), strict=True):
        for text, cell in zip(given_, found, strict=True):
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            assert cell in (text, f"'{text}")
            assert (cell != text) == text.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_other_values_are_written_as_in_json() -> None:
    row = [None, True, 3, 2.5, -1, NOON, UUID(int=7)]
    assert csv_answers.text([row]) == ",true,3,2.5,-1,2026-05-01T12:00:00Z,00000000-0000-0000-0000-000000000007\r\n"


def test_a_series_has_columns_for_each_currency() -> None:
    euro = cohorts.Cohort(NOON, NOON, 2, 2, 1, 1, 50.0, 9.5, 90.5, {"EUR": "5.00"}, {"EUR": "4.00"})
    both = cohorts.Cohort(NOON, NOON, 2, 1, 1, 1, None, None, None, {"EUR": "1.00", "USD": "2.00"}, {"EUR": "0.00"})
    header, first, second = read(csv_answers.text(csv_answers.cohort_rows([euro, both])))
    assert header[-6:] == ["low", "high", "gross_EUR", "net_EUR", "gross_USD", "net_USD"]
    assert first[-6:] == ["9.5", "90.5", "5.00", "4.00", "", ""]
    assert second[-6:] == ["", "", "1.00", "0.00", "2.00", ""]


def test_an_achievement_has_a_cell_for_each_column() -> None:
    event = messages.TriggerEvent("evt", "=cmd()", "payment.completed", NOON, Raw(b'{"amount":"5.00"}'))
    achieved = messages.Achieved(UUID(int=1), 1, "w", "e", "+c", UUID(int=2), 1, "purchase_made", None, NOON, event)
    row = dict(
        zip(csv_answers.ACHIEVEMENT, read(csv_answers.text([csv_answers.achievement_row(achieved)]))[0], strict=True)
    )
    assert row["event_source"] == "'=cmd()"
    assert row["contact_id"] == "'+c"
    assert row["event_data"] == '{"amount":"5.00"}'
    assert (row["enrolled_at"], row["occurrences"], row["evidence_complete"]) == ("", "", "")


@pytest.mark.parametrize(
    ("accept", "format_", "expected"),
    [
        ("text/csv", None, True),
        ("text/csv;q=0.5, application/json;q=0.4", None, True),
        ("application/json, text/csv", None, False),
        ("*/*", None, False),
        ("text/csv; q=0", None, False),
        ("text/csv; q=x", None, False),
        ("", None, False),
        ("application/json", "csv", True),
        ("text/csv", "json", False),
    ],
)
def test_the_query_decides_and_then_what_is_preferred(accept: str, format_: str | None, expected: bool) -> None:
    request = Request({"type": "http", "headers": [(b"accept", accept.encode())]})
    assert csv_answers.wanted(request, format_) == expected
