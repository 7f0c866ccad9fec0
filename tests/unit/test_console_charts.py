"""Charts of the console: well-formed, within their box, and the same bytes for the same data."""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from goalworker.console.charts import (
    conversion,
    funnel,
    histogram,
    incidence_curves,
    revenue,
    scales,
    sparkline,
    svg,
)
from goalworker.domain import cohorts, incidence, rates

PLACE = r"[ML](\S+?) ([^MLZh]+)"
HOSTILE = "\"><script>alert('1')</script>&amp;\u202e\ufffe\x0c]]>"
START = datetime(2026, 5, 4, tzinfo=UTC)

COUNTS = st.integers(0, 10**9)
AMOUNTS = st.decimals(0, 10**18, places=2)


def cohort(
    week: int, enrolled: int = 0, matured: int = 0, converted: int = 0, gross: Decimal = Decimal(0)
) -> cohorts.Cohort:
    """Return the cohort of a week; its rate is that of the domain."""
    counts = cohorts.Counts(enrolled, matured, converted, converted)
    since = START + timedelta(weeks=week)
    money = {"EUR": {"gross": str(gross), "reversed": str(gross / 2), "net": str(gross / 2)}} if gross else {}
    (found,) = cohorts.series("week", {since: counts}, {since: money}, (None, None))
    return found


@st.composite
def series(draw: st.DrawFn) -> list[cohorts.Cohort]:
    found = []
    for week in range(draw(st.integers(0, 30))):
        enrolled = draw(COUNTS)
        matured, converted = draw(st.integers(0, enrolled)), draw(st.integers(0, enrolled))
        found.append(cohort(week, enrolled, draw(st.sampled_from([matured, enrolled])), converted, draw(AMOUNTS)))
    return found


CURVES = st.lists(st.tuples(st.integers(0, 2 * 10**8), st.floats(0, 100), st.floats(0, 100)), max_size=40).map(
    lambda found: (
        [
            incidence.Incidence(seconds, 1, converted, ended)
            for seconds, converted, ended in zip(*(sorted(values) for values in zip(*found, strict=True)), strict=True)
        ]
        if found
        else []
    )
)
BINS = st.lists(COUNTS, max_size=60).map(
    lambda counts: [
        incidence.Bin(60 * index, 60 * (index + 1) if index + 1 < len(counts) else None, count)
        for index, count in enumerate(counts)
    ]
)
STEPS = st.lists(st.builds(funnel.Step, st.text(), COUNTS), max_size=6)
CHARTS: st.SearchStrategy[Callable[[], Markup]] = st.one_of(
    st.tuples(series(), st.text()).map(lambda data: lambda: conversion.conversion(*data)),
    st.tuples(series(), st.text()).map(lambda data: lambda: revenue.revenue(data[0], "EUR", data[1])),
    st.tuples(CURVES, st.text()).map(lambda data: lambda: incidence_curves.incidence_curves(*data)),
    st.tuples(BINS, st.text()).map(lambda data: lambda: histogram.histogram(*data)),
    st.tuples(STEPS, st.text()).map(lambda data: lambda: funnel.funnel(*data)),
    st.tuples(st.lists(COUNTS, max_size=60), st.integers(0, 60), st.text()).map(
        lambda data: lambda: sparkline.sparkline(*data, data[2])
    ),
)


def parsed(drawn: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def points(root: ElementTree.Element) -> Iterator[tuple[float, float]]:
    """Yield every point that a chart draws to."""
    for element in root.iter():
        if element.tag == "path":
            for x, y in re.findall(PLACE, element.attrib["d"]):
                yield float(x), float(y)
        elif element.tag == "rect":
            x, y, width, height = (float(element.attrib[name]) for name in ("x", "y", "width", "height"))
            yield from ((x, y), (x + width, y + height))
        elif element.tag == "circle":
            yield float(element.attrib["cx"]), float(element.attrib["cy"])
        elif element.tag == "text":
            yield float(element.attrib["x"]), float(element.attrib["y"])


def paths(drawn: Markup, class_: str) -> str:
    return "".join(element.attrib["d"] for element in parsed(drawn).iter("path") if element.attrib["class"] == class_)


def places(drawn: Markup, class_: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(PLACE, paths(drawn, class_))]


def heights(drawn: Markup, class_: str) -> list[float]:
    return [y for _, y in places(drawn, class_)]


def texts(drawn: Markup) -> list[str | None]:
    return [element.text for element in parsed(drawn).iter("text")]


# --- every chart ---


@given(CHARTS)
def test_a_chart_is_well_formed_and_within_its_box(chart: Callable[[], Markup]) -> None:
    root = parsed(chart())
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for x, y in points(root):
        assert -0.1 <= x <= width + 0.1
        assert -0.1 <= y <= height + 0.1


@given(CHARTS)
def test_equal_data_make_equal_bytes(chart: Callable[[], Markup]) -> None:
    assert chart() == chart()


@given(CHARTS)
def test_a_chart_has_a_name_and_a_description_and_no_style(chart: Callable[[], Markup]) -> None:
    root = parsed(chart())
    assert (root.attrib["role"], [child.tag for child in root][:2]) == ("img", ["title", "desc"])
    assert all(
        name not in ("style", "id") and not name.startswith("on") for element in root.iter() for name in element.attrib
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda words: funnel.funnel([funnel.Step(words, 1)], words),
        lambda words: histogram.histogram([], words),
        lambda words: conversion.conversion([], words),
        lambda words: revenue.revenue([cohort(0, gross=Decimal(1))], words, words),
        lambda words: incidence_curves.incidence_curves([], words),
        lambda words: sparkline.sparkline([1], 1, words, words),
    ],
)
def test_hostile_words_stay_words(draw: Callable[[str], Markup]) -> None:
    root = parsed(draw(HOSTILE))
    shown = HOSTILE.replace("\ufffe", "\ufffd").replace("\x0c", "\ufffd")
    assert root[0].text == shown
    assert not list(root.iter("script"))


def test_a_thousand_periods_make_a_chart_of_bounded_size() -> None:
    many = [cohort(week, 1000, 1000, week, Decimal(week)) for week in range(cohorts.PERIODS_MAX)]
    assert len(conversion.conversion(many, "")) < 300_000
    assert len(parsed(conversion.conversion(many, "")).findall("text")) < 20


# --- numbers ---


@given(st.floats(0, 1e18, exclude_min=True, allow_subnormal=False).filter(lambda most: most > 1e-12))
def test_ticks_are_few_even_and_reach_the_largest_value(most: float) -> None:
    at = scales.ticks(most)
    assert at[0] == 0
    assert 2 <= len(at) <= 6
    assert at[-1] >= most * (1 - 1e-6)
    assert at[-2] < most
    distances = [after - before for before, after in pairwise(at)]
    assert max(distances) - min(distances) <= at[-1] * 1e-9
    mantissa = float(f"{distances[0]:e}".partition("e")[0])
    assert min(abs(mantissa - size) for size in (1, 2, 5, 10)) < 1e-6


@given(st.integers(0, 10**12))
def test_ticks_of_counts_are_whole(most: int) -> None:
    assert all(tick == int(tick) for tick in scales.count_ticks(most))
    assert scales.count_ticks(most)[-1] >= most


@given(st.integers(0, 10**9))
def test_ticks_of_a_time_stay_within_it(seconds: int) -> None:
    at = scales.time_ticks(seconds)
    assert at[0] == 0
    assert at[-1] <= seconds
    assert len(at) <= 7


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *((0, "0"), (0.25, "0.25"), (7, "7"), (12.5, "12.5"), (999, "999"), (999.9, "1000"), (1200, "1.2k")),
        *((12_345, "12.3k"), (123_456, "123k"), (999_999, "1000k"), (2_500_000, "2.5M"), (1e15, "1000T")),
    ],
)
def test_numbers_of_axes_are_short(value: float, label: str) -> None:
    assert scales.compact(value) == label


def test_times_of_axes_are_short() -> None:
    assert [scales.time_label(seconds) for seconds in (0, 5, 300, 5400, 86_400, 90 * 86_400)] == [
        *("0", "5s", "5m", "1.5h", "1d", "90d")
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_coordinate_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        svg.number(value)


# --- conversion ---


def test_an_immature_week_is_hatched_and_has_no_rate() -> None:
    found = [cohort(0, 100, 100, 25), cohort(1, 100, 99, 25)]
    drawn = conversion.conversion(found, "Conversion")
    assert (paths(drawn, "rate").count("M"), paths(drawn, "immature").count("M")) == (1, 1)
    assert "25.0 % of 100, between 17.5 and 34.3 %" in drawn
    assert "100 enrolled, 99 of them mature" in drawn


def test_a_week_without_enrollments_is_not_immature() -> None:
    assert paths(conversion.conversion([cohort(0)], "Conversion"), "immature") == ""


@given(st.integers(1, 1000), st.data())
def test_a_rate_is_drawn_within_its_interval(enrolled: int, data: st.DataObject) -> None:
    converted = data.draw(st.integers(0, enrolled))
    drawn = conversion.conversion([cohort(0, enrolled, enrolled, converted)], "Conversion")
    (low, high), (rate,) = heights(drawn, "interval"), heights(drawn, "rate")
    assert high - 0.2 <= rate <= low + 0.2


def test_a_long_span_of_dates_has_years() -> None:
    assert scales.dates([START, START + timedelta(weeks=1)]) == ["4 May", "11 May"]
    assert scales.dates([START, START + timedelta(days=400)]) == ["May 2026", "Jun 2027"]


# --- the others ---


@given(CURVES)
def test_curves_of_incidence_never_fall(curve: Sequence[incidence.Incidence]) -> None:
    drawn = incidence_curves.incidence_curves(curve, "Incidence")
    for class_ in ("converted", "ended"):
        steps = places(drawn, class_)
        assert all(before[0] <= after[0] and before[1] >= after[1] for before, after in pairwise(steps))
        assert all(before[0] == after[0] or before[1] == after[1] for before, after in pairwise(steps))


def test_a_histogram_has_a_number_for_each_bin_that_has_any() -> None:
    cells = [incidence.Cell(60, 3, 0, 0), incidence.Cell(10**8, 1_200, 0, 0)]
    drawn = histogram.histogram(incidence.histogram(cells), "Times")
    numbers = [element.text for element in parsed(drawn).iter("text") if element.get("class") == "number"]
    assert numbers == ["3", "1.2k"]


def test_a_funnel_has_the_share_of_its_first_step_as_the_api_rounds_it() -> None:
    drawn = funnel.funnel([funnel.Step("Enrolled", 2_000), funnel.Step("Achieved", 333)], "Funnel")
    assert texts(drawn) == ["Enrolled", "2,000", "Achieved", f"333 ({rates.percentage(333, 2_000)} %)"]


@given(st.lists(COUNTS, min_size=2, max_size=5))
def test_bars_of_a_funnel_are_as_long_as_their_numbers(counts: list[int]) -> None:
    drawn = funnel.funnel([funnel.Step("step", count) for count in counts], "Funnel")
    lengths = [float(element.attrib["width"]) for element in parsed(drawn).iter("rect")]
    by_count = [length for _, length in sorted(zip(counts, lengths, strict=True))]
    assert by_count == sorted(by_count)
    assert all((length > 0) == (count > 0) for length, count in zip(lengths, counts, strict=True))


def test_net_revenue_is_within_gross_revenue() -> None:
    drawn = revenue.revenue([cohort(0, gross=Decimal(100))], "EUR", "Revenue")
    assert "gross 100 EUR, net 50 EUR" in drawn
    tops = [min(heights(drawn, name)) for name in ("net", "gross")]
    assert tops[0] > tops[1]


def test_unsettled_values_of_a_sparkline_are_apart() -> None:
    drawn = sparkline.sparkline([3, 1, 4, 1, 5], 3, "Conversions", "by week")
    assert (paths(drawn, "line").count("L"), paths(drawn, "line unsettled").count("L")) == (2, 2)
    assert len(list(parsed(drawn).iter("circle"))) == 1
