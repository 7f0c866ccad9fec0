"""Pages of a timeline show each entry once, newest first, however its parts are cut."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.domain import events, facts, timelines
from goalworker.domain.timelines import Entry, Page, Part, Position
from tests.kit.strategies import at

# Few moments, ranks and ids, so that positions are close, and the same ones come again.
POSITIONS = st.builds(
    Position,
    st.integers(0, 3).map(lambda seconds: at(0) + timedelta(seconds=seconds)),
    st.integers(0, len(timelines.RANKS) - 1),
    st.sampled_from(["a", "b", "c", "x" * 40]).map(lambda id_: (id_,)),
)
STORED = st.lists(st.lists(POSITIONS, max_size=12), max_size=4)


def _entry(position: Position, number: int = 0) -> Entry:
    return Entry(position, timelines.Enrollment(str(number), "w1"))


def _read(stored: Sequence[Sequence[Position]], before: Position | None, rows_max: int) -> list[Part]:
    """Return parts as a database with these rows would return them."""
    parts = []
    for number, positions in enumerate(stored):
        rows = sorted((one for one in positions if before is None or one < before), reverse=True)
        parts.append(Part([_entry(one, number) for one in rows[:rows_max]], len(rows) > rows_max))
    return parts


@given(STORED, st.integers(1, 5), st.integers(1, 5), st.integers(1, 120))
def test_paging_yields_each_entry_once_in_order(
    stored: list[list[Position]], rows_max: int, entries_max: int, bytes_max: int
) -> None:
    everything = sorted({position for positions in stored for position in positions}, reverse=True)
    shown: list[Position] = []
    before: Position | None = None
    for _ in range(len(everything) + 1):
        page = timelines.page_of(_read(stored, before, rows_max), entries_max, bytes_max)
        assert len(page.entries) <= entries_max
        assert len(page.entries) == 1 or sum(entry.size_bytes for entry in page.entries) <= bytes_max
        shown += [entry.position for entry in page.entries]
        before = page.before
        if before is None:
            break
    assert shown == everything


def test_nothing_is_an_empty_page() -> None:
    assert timelines.page_of([Part([]), Part([])], 10, 1_000) == Page(())


def test_of_equal_positions_the_earliest_part_stands() -> None:
    position = Position(at(0), 1, ("/shop", "evt-1"))
    page = timelines.page_of([Part([_entry(position, 7), _entry(position, 8)]), Part([_entry(position, 9)])], 10, 1_000)
    assert page == Page((_entry(position, 7),))


def test_of_one_moment_the_effect_stands_above_its_cause() -> None:
    parts = [Part([_entry(Position(at(0), rank, ("x",)))]) for rank in range(len(timelines.RANKS))]
    page = timelines.page_of(parts, 10, 1_000)
    assert [entry.kind for entry in page.entries] == list(reversed(timelines.RANKS))


def test_an_entry_counts_with_the_bytes_of_its_ids_and_its_data() -> None:
    position = Position(at(0), 1, ("/shop", "é"))
    happened = timelines.Happened("form.rejected", "/shop", "é", '{"a":1}')
    assert Entry(position, happened).size_bytes == 5 + 2 + 7


REVERSALS = [
    events.PaymentRefunded("c", "p"),
    events.PaymentRefunded("c", "p", "r", Decimal("0.50"), "EUR"),
    events.PaymentFailed("c", "p"),
    events.AppointmentCancelled("c", "a"),
    events.FormRejected("c", "s"),
]


@pytest.mark.parametrize("data", REVERSALS)
def test_a_stored_reversal_has_the_data_of_its_event(data: events.ReversalData) -> None:
    type_ = next(name for name, of in events.REVERSAL_DATA.items() if of is type(data))
    event = events.Event("north", "/shop", "evt-1", type_, at(0), data)
    stored = facts.data_of_reversal(facts.reversal_of(event), "c")
    assert facts.event_of("north", type_, facts.Trigger("/shop", "evt-1", at(0), stored)) == event
