"""Data of a workflow's page in the form in which its templates show them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from markupsafe import Markup
from msgspec import Struct

from goalworker.api import parameters
from goalworker.console import goal_view, workflow_query
from goalworker.console.charts import conversion, funnel, histogram, incidence_curves, revenue, sparkline
from goalworker.domain import cohorts, goal_sentences, phrases, text
from goalworker.stores import goal_store

_DAY: Final = 86_400
HORIZONS: Final = tuple(days * _DAY for days in (1, 2, 3, 7, 14, 30, 60, 90))
"""Horizons in seconds among which the form offers a choice."""


class Choice(Struct, frozen=True):
    """One option of a field."""

    value: str
    name: str
    is_chosen: bool


class Form(Struct, frozen=True):
    """Values of the form for span, periods and horizon."""

    since: str
    until: str
    by: tuple[Choice, ...]
    horizons: tuple[Choice, ...]


def form(query: parameters.SeriesQuery) -> Form:
    """Return the form as a query fills it in."""
    horizons = sorted({*HORIZONS, query.horizon})
    return Form(
        workflow_query.day(query.since),
        workflow_query.day(query.until),
        tuple(Choice(by, by, by == query.by) for by in cohorts.PERIODS),
        tuple(
            Choice(text.format_duration(seconds), phrases.duration(seconds), seconds == query.horizon)
            for seconds in horizons
        ),
    )


# --- goals and the funnel ---


class GoalRow(Struct, frozen=True):
    """A goal with its numbers; None before they are counted."""

    goal_id: UUID
    name: str
    criteria: str
    state: str
    achieved: int | None = None
    conversion_rate: float | None = None
    revenue: Mapping[str, Mapping[str, str]] = {}


def goal_rows(goals: Iterable[goal_store.StoredGoal], stats: Mapping[str, Any] | None = None) -> list[GoalRow]:
    """Return the goals that are not deleted, or, with statistics, those that they name."""
    by_id = {goal.id: goal for goal in goals}
    if stats is None:
        return [_goal_row(goal) for goal in by_id.values() if goal.deleted_at is None]
    return [_counted(by_id.get(counted["goal_id"]), counted) for counted in stats["by_goal"]]


def _goal_row(goal: goal_store.StoredGoal, **numbers: Any) -> GoalRow:
    criteria = goal_sentences.sentence(goal.goal_type, goal.criteria)
    state = "deleted" if goal.deleted_at else "active" if goal.is_active else "paused"
    return GoalRow(goal.id, goal_view.title(goal.goal_type, goal.name), criteria, state, **numbers)


def _counted(goal: goal_store.StoredGoal | None, counted: Mapping[str, Any]) -> GoalRow:
    numbers = {name: counted[name] for name in ("achieved", "conversion_rate", "revenue")}
    if goal is None:  # deleted, among too many others to be read along
        return GoalRow(
            counted["goal_id"], goal_view.title(counted["goal_type"], counted["name"]), "", "deleted", **numbers
        )
    return _goal_row(goal, **numbers)


def funnel_chart(stats: Mapping[str, Any]) -> Markup | None:
    """Return the funnel of statistics; None where enrollments are not tracked."""
    if stats["total_enrolled"] is None:
        return None
    names = {"Enrolled": "total_enrolled", "Achieved": "enrollments_converted", "Exited": "exits_sent"}
    steps = [funnel.Step(name, stats[field]) for name, field in names.items()]
    return funnel.funnel(steps, "Enrolled, achieved and exited")


# --- cohorts ---


class CohortRow(Struct, frozen=True):
    """A cohort, its state in words, and the span of its rows."""

    cohort: cohorts.Cohort
    is_immature: bool
    span: Mapping[str, str]


def cohort_rows(series: Sequence[cohorts.Cohort]) -> list[CohortRow]:
    """Return the rows of the table of cohorts."""
    return [
        CohortRow(
            cohort,
            conversion.is_immature(cohort),
            {"from": workflow_query.written(cohort.since), "to": workflow_query.written(cohort.until)},
        )
        for cohort in series
    ]


def currencies(series: Sequence[cohorts.Cohort]) -> list[str]:
    """Return the currencies of a series."""
    return sorted({currency for cohort in series for currency in cohort.gross})


def series_charts(series: Sequence[cohorts.Cohort], by: str) -> dict[str, Any]:
    """Return the chart of conversion, and one of revenue for each currency."""
    return {
        "conversion": conversion.conversion(series, f"Conversion by {by} of enrollment"),
        "revenue": {
            currency: revenue.revenue(series, currency, f"Revenue in {currency} by {by} of enrollment")
            for currency in currencies(series)
        },
    }


def conversions_sparkline(series: Sequence[cohorts.Cohort]) -> Markup:
    """Return conversions by week of enrollment, with the immature weeks apart."""
    settled = next((index for index, cohort in enumerate(series) if conversion.is_immature(cohort)), len(series))
    counts = [cohort.converted for cohort in series]
    words = ", ".join(f"{cohort.since:%Y-%m-%d}: {cohort.converted:,}" for cohort in series) or "none"
    return sparkline.sparkline(counts, settled, "Conversions by week of enrollment", words)


# --- times to goal ---


def times_charts(times: Mapping[str, Any]) -> dict[str, Markup]:
    """Return the histogram of times to goal, and the curves of cumulative incidence."""
    curves = incidence_curves.incidence_curves(
        times["cumulative_incidence"], "Cumulative incidence: converted, and ended without a goal"
    )
    return {"histogram": histogram.histogram(times["histogram"], "Conversions by time to goal"), "incidence": curves}


def spans(now: datetime) -> tuple[tuple[str, str], ...]:
    """Return the first days of spans that people often want, each with its name."""
    year = cohorts.start_of("month", now).replace(year=now.year - 1)
    return (
        (workflow_query.day(workflow_query.first_week(now)), f"Last {workflow_query.WEEKS} weeks"),
        (workflow_query.day(year), "Last 12 months"),
        ("", "All"),
    )
