"""Data of a workflow's page: the query in its address, the calls of the API, and the rows of its tables."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goalworker.api import problems
from goalworker.console import goal_view, rendering, workflow_query, workflow_view
from goalworker.domain import cohorts, incidence
from goalworker.stores import goal_store

NOW = datetime(2026, 5, 6, 15, 30, tzinfo=UTC)  # a Wednesday
GOAL = goal_store.StoredGoal(
    UUID(int=1), "w", "purchase_made", {"min_amount": "50"}, None, True, 1, NOW, "ann", NOW, "ann"
)


def test_an_address_without_a_span_is_about_thirteen_weeks() -> None:
    query = workflow_query.of_address({}, NOW)
    assert workflow_query.of_series(query) == {"by": "week", "horizon": "P14D", "from": "2026-02-09T00:00:00Z"}
    weeks = list(cohorts.periods("week", query.since or NOW, cohorts.start_of("week", NOW)))
    assert len(weeks) == workflow_query.WEEKS


def test_the_default_span_is_the_same_all_week() -> None:
    at = [
        workflow_query.first_week(cohorts.start_of("week", NOW) + timedelta(hours=hours)) for hours in (0, 80, 167, 168)
    ]
    assert at == [*[datetime(2026, 2, 9, tzinfo=UTC)] * 3, datetime(2026, 2, 16, tzinfo=UTC)]


def test_a_form_gives_days_and_leaves_a_bound_empty() -> None:
    given_ = {"from": "", "to": "2026-05-01", "by": "month", "horizon": "P1D", "whole": "1"}
    query = workflow_query.of_address(given_, NOW)
    assert workflow_query.of_series(query) == {"by": "month", "horizon": "P1D", "to": "2026-05-01T00:00:00Z"}
    assert workflow_query.of_page(query)["from"] == ""


@given(
    st.none() | st.integers(-(10**9), 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    st.sampled_from(cohorts.PERIODS),
    st.sampled_from(workflow_view.HORIZONS),
)
def test_the_address_of_a_page_leads_to_the_same_query(since: datetime | None, by: str, horizon: int) -> None:
    first = workflow_query.of_address({"from": "" if since is None else workflow_query.written(since), "by": by}, NOW)
    query = first.model_copy(update={"horizon": horizon})
    assert workflow_query.of_address(workflow_query.of_page(query), NOW) == query


@pytest.mark.parametrize("wrong", [{"by": "year"}, {"horizon": "14"}, {"from": "yesterday"}, {"to": "2026-02-30"}])
def test_an_address_that_makes_no_sense_is_refused_by_the_name_of_its_field(wrong: dict[str, str]) -> None:
    with pytest.raises(problems.ProblemError) as error:
        workflow_query.of_address(wrong, NOW)
    assert [fault.pointer for fault in error.value.faults] == [f"?{name}" for name in wrong]


def test_a_call_is_a_legible_address() -> None:
    path = "/api/v1/workflows/w/stats/series"
    assert workflow_query.call(path, {"from": "2026-05-01T00:00:00Z", "by": "a&b"}) == (
        f"{path}?from=2026-05-01T00:00:00Z&by=a%26b"
    )
    assert workflow_query.call(path, {}) == path


def test_the_form_offers_a_horizon_that_only_the_address_has() -> None:
    form = workflow_view.form(workflow_query.of_address({"horizon": "PT36H"}, NOW))
    chosen = [choice for choice in form.horizons if choice.is_chosen]
    assert [(choice.value, choice.name) for choice in chosen] == [("P1DT12H", "1 day and 12 hours")]
    assert len(form.horizons) == len(workflow_view.HORIZONS) + 1
    assert (form.since, form.until) == ("2026-02-09", "")


def test_spans_begin_with_periods() -> None:
    assert [first for first, _ in workflow_view.spans(NOW)] == ["2026-02-09", "2025-05-01", ""]


def test_goals_are_listed_before_their_numbers_are_counted() -> None:
    deleted = goal_store.StoredGoal(
        UUID(int=2), "w", "tag_added", {"tag_id": "t"}, "Gone", True, 2, NOW, "ann", NOW, "ann", NOW
    )
    (row,) = workflow_view.goal_rows([GOAL, deleted])
    assert (row.name, row.criteria, row.state, row.achieved) == (
        *(goal_view.title("purchase_made", None), "A contact pays at least 50.", "active", None),
    )
    counted = {"goal_id": deleted.id, "goal_type": "tag_added", "name": "Gone", "achieved": 3, "conversion_rate": 1.5}
    rows = workflow_view.goal_rows([GOAL, deleted], {"by_goal": [{**counted, "revenue": {}}]})
    assert [(row.name, row.state, row.achieved, row.conversion_rate) for row in rows] == [("Gone", "deleted", 3, 1.5)]


def test_a_goal_that_was_not_read_along_has_the_name_in_the_statistics() -> None:
    counted = {"goal_id": UUID(int=9), "goal_type": "tag_added", "name": None, "achieved": 0, "conversion_rate": None}
    (row,) = workflow_view.goal_rows([], {"by_goal": [{**counted, "revenue": {}}]})
    assert (row.name, row.criteria, row.state) == (goal_view.title("tag_added", None), "", "deleted")


def series(*enrolled_and_matured: tuple[int, int]) -> list[cohorts.Cohort]:
    start = cohorts.start_of("week", NOW)
    counts = {
        start + timedelta(weeks=week): cohorts.Counts(enrolled, matured, 1, 1)
        for week, (enrolled, matured) in enumerate(enrolled_and_matured)
    }
    paid = {start: {"EUR": {"gross": "10.00", "reversed": "0.00", "net": "10.00"}}}
    return list(cohorts.series("week", counts, paid, (None, None)))


def test_rows_of_cohorts_know_their_span_and_whether_they_are_mature() -> None:
    rows = workflow_view.cohort_rows(series((5, 5), (5, 4)))
    assert [row.is_immature for row in rows] == [False, True]
    assert rows[0].span == {"from": "2026-05-04T00:00:00Z", "to": "2026-05-11T00:00:00Z"}


def test_each_currency_has_a_chart() -> None:
    charts = workflow_view.series_charts(series((5, 5)), "week")
    assert list(charts["revenue"]) == workflow_view.currencies(series((5, 5))) == ["EUR"]


def test_a_sparkline_says_its_numbers() -> None:
    drawn = workflow_view.conversions_sparkline(series((5, 5), (5, 4)))
    assert "2026-05-04: 1, 2026-05-11: 1" in drawn
    assert "unsettled" in drawn
    assert "none" in workflow_view.conversions_sparkline([])


def test_untracked_enrollments_have_no_funnel() -> None:
    stats: dict[str, Any] = {"total_enrolled": None, "enrollments_converted": 1, "exits_sent": 1}
    assert workflow_view.funnel_chart(stats) is None
    assert "Exited: 1" in (workflow_view.funnel_chart({**stats, "total_enrolled": 2}) or "")


def test_times_have_two_charts_also_without_a_conversion() -> None:
    times = {"cumulative_incidence": [], "histogram": incidence.histogram([])}
    assert set(workflow_view.times_charts(times)) == {"histogram", "incidence"}


@pytest.mark.parametrize(
    ("hours", "seconds", "shown"), [(26.5, 95_400.0, "26.5 h"), (0.0, 0.412, "0.412 s"), (None, None, "\u2013")]
)
def test_a_time_to_goal_has_the_digits_that_say_something(
    hours: float | None, seconds: float | None, shown: str
) -> None:
    macros: Any = rendering.ENVIRONMENT.get_template("_workflow_macros.html").module
    assert macros.waited(hours, seconds) == shown
