"""History of a moved tenant goes back as far as what came along, as long as nothing is missing since."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from goalworker.admin import tenant_history_move
from goalworker.stores import history

MOMENTS = st.integers(0, 9).map(lambda day: datetime(2026, 5, 1, tzinfo=UTC) + timedelta(days=day))
COVERAGES = st.builds(history.Coverage, st.none() | MOMENTS, st.none(), st.none() | MOMENTS)


@given(COVERAGES, MOMENTS, COVERAGES, st.booleans())
def test_no_moment_is_covered_that_neither_cell_has_kept(
    source: history.Coverage, since: datetime, target: history.Coverage, is_whole: bool
) -> None:
    """The mover brought what the source had until `since`, and the target keeps by itself what came later."""
    kept = tenant_history_move.Kept(0, since, is_whole)
    found = history.joined(target, tenant_history_move.arrived(source, kept))

    def is_kept(at: datetime) -> bool:
        brought = is_whole and source.history_from is not None and source.history_from <= at
        return target.history_from is not None and (at >= max(since, target.history_from) or (at < since and brought))

    if found.history_from is None:
        assert target.history_from is None
        return
    days = [found.history_from + timedelta(days=number) for number in range(10)]
    assert all(is_kept(at) for at in days if at >= found.history_from)
    assert found == structs.replace(target, history_from=found.history_from, all_since=found.all_since)
