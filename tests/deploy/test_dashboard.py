"""The dashboard uses only existing series, and shows data from a real Prometheus."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy import dashboard, live, promql, rules

pytestmark = pytest.mark.deploy

QUESTIONS = [
    "Is it healthy?",
    "Is it keeping up?",
    "What does it find?",
    "What does it refuse?",
    "What does insight keep?",
    "What does the database do?",
]
NOT_SHOWN = {
    "goalworker_history_gaps_total": "a gap is a line of the log, and coverage shows it",
    "goalworker_clock_skew_seconds": "a large skew is a line of the log and a finding of doctor",
    "goalworker_consumer_hidden_seconds": "the age of a transaction matters above a minute, and then the alert says it",
    "goalworker_goals_loaded_timestamp_seconds": "old where nobody changes a goal, so its age says nothing",
}
WITHOUT_DATA = {
    'goalworker_http_requests_total{code=~"5.."}': "the API does not fail",
}


def test_its_rows_are_the_questions_from_top_to_bottom() -> None:
    assert [row["title"] for row in dashboard.ROWS] == QUESTIONS
    assert not any(row["collapsed"] for row in dashboard.ROWS)
    tops = [panel["gridPos"]["y"] for panel in dashboard.BOARD["panels"]]
    assert tops == sorted(tops)


def test_panels_fill_the_width_and_do_not_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard.BOARD["panels"])
        for x, y in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    height = max(y for _, y in cells) + 1
    assert sorted(cells) == sorted(itertools.product(range(24), range(height)))


def test_each_panel_says_what_it_shows_and_in_which_unit() -> None:
    titles = [panel["title"] for panel in dashboard.BOARD["panels"]]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in dashboard.BOARD["panels"]}) == len(titles)
    for panel in dashboard.PANELS:
        assert panel["description"].endswith("."), panel["title"]
        unit = panel["options"].get("yAxis", {}).get("unit") or panel["fieldConfig"]["defaults"].get("unit")
        assert unit, panel["title"]


def sources(part: Any) -> Iterator[str]:
    """Yield the uid of each data source that is named anywhere."""
    if isinstance(part, dict):
        if "datasource" in part and isinstance(part["datasource"], dict):
            yield part["datasource"]["uid"]
        yield from itertools.chain.from_iterable(map(sources, part.values()))
    if isinstance(part, list):
        yield from itertools.chain.from_iterable(map(sources, part))


def test_it_can_be_imported_anywhere() -> None:
    assert dashboard.BOARD["id"] is None
    assert next(iter(dashboard.VARIABLES.values()))["type"] == "datasource"
    assert set(sources(dashboard.BOARD)) == {"${datasource}", "-- Grafana --"}
    for title, query in dashboard.queries():
        unscoped = {selector for selector in promql.selectors(query) if "namespace" not in promql.labels(selector)}
        assert all("on (namespace, job, instance)" in query for _ in unscoped), title


def test_it_names_only_metrics_and_labels_that_exist() -> None:
    for title, query in dashboard.queries():
        assert promql.names(query), title
        assert not promql.strangers(query, rules.known()), title
    for panel in dashboard.PANELS:
        legends = {label for target in panel["targets"] for label in re.findall(r"{{(\w+)}}", target["legendFormat"])}
        asked = " ".join(target["expr"] for target in panel["targets"])
        assert all(re.search(rf"\b{label}\b", asked) for label in legends), panel["title"]


def test_each_metric_is_on_it_somewhere() -> None:
    asked = set[str]().union(*(promql.names(query) for _, query in dashboard.queries()))
    metrics = {re.sub(r"_(bucket|sum|count)$", "", name) for name in promql.exposed() if name.startswith("goalworker_")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert metrics - shown == set(NOT_SHOWN)


def test_a_share_of_two_rates_is_kept_between_0_and_1() -> None:
    shares = [(title, query) for title, query in dashboard.queries() if promql.divides_rates(query)]
    assert len(shares) >= 5
    for title, query in shares:
        assert query.startswith("clamp_max(") != query.startswith("clamp_min(1 - "), title


def test_counts_are_whole_numbers() -> None:
    for panel in dashboard.PANELS:
        defaults = panel["fieldConfig"]["defaults"]
        if defaults.get("unit") == "short" and panel["type"] in ("stat", "timeseries") and panel["title"] != "CPU":
            assert defaults.get("decimals") == 0, panel["title"]
        for query in (target["expr"] for target in panel["targets"]):
            assert "increase(" not in query or query.startswith(("round(", "clamp_")), panel["title"]


def test_what_the_runbook_sends_people_to_is_there() -> None:
    named = set(re.findall(r'"([A-Z][^"\n]+)"', (rules.DEPLOY / "RUNBOOK.md").read_text()))
    titles = {panel["title"] for panel in dashboard.BOARD["panels"]}
    headings = set(re.findall(r"^## (.*)$", (rules.DEPLOY / "README.md").read_text(), flags=re.MULTILINE))
    assert len(named & titles) > 5
    assert named <= titles | headings


def test_grafana_finds_the_dashboard_and_its_data_source() -> None:
    folder = rules.DEPLOY / "grafana" / "provisioning"
    (source,) = rules.load(folder / "datasources" / "prometheus.yaml")["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert source["jsonData"]["timeInterval"] == rules.load(rules.CONFIGURATION)["global"]["scrape_interval"]
    (provider,) = rules.load(folder / "dashboards" / "goalworker.yaml")["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "/var/lib/grafana/dashboards")


# --- with a demo at work ---


@pytest.fixture(scope="module")
def at_work() -> Iterator[live.Live]:
    with live.live() as running:
        yield running


def test_every_query_of_the_dashboard_has_data(at_work: live.Live) -> None:
    missing = at_work.without_data(query for _, query in dashboard.queries())
    assert not [(title, query) for title, query in dashboard.queries() if query in missing]


def test_every_variable_has_something_to_choose_from(at_work: live.Live) -> None:
    found = {
        name: {series["metric"][label] for series in at_work.query(selector) if label in series["metric"]}
        for name, selector, label in dashboard.choices()
    }
    assert found.keys() == dashboard.VARIABLES.keys() - {"datasource"}
    assert found["job"] == set(live.JOBS)
    assert len(found["instance"]) == len(live.JOBS)
    assert found["namespace"] == set()  # a label of Kubernetes, which selects everything here


def test_every_rule_is_evaluated_and_what_it_looks_at_is_there(at_work: live.Live) -> None:
    expressions = [*rules.recorded().values(), *(alert["expr"] for alert in rules.alerts().values())]
    selectors = {selector for expression in expressions for selector in promql.selectors(expression)}
    assert set(WITHOUT_DATA) <= selectors
    assert not at_work.without_data({*rules.recorded().values(), *selectors} - set(WITHOUT_DATA))
    assert not any(at_work.has_data(selector) for selector in WITHOUT_DATA)
    loaded = [rule for group in at_work.get("rules")["groups"] for rule in group["rules"]]
    assert len(loaded) == len(rules.all_rules())
    assert {(rule["health"], rule.get("lastError", "")) for rule in loaded} == {("ok", "")}


def test_a_demo_at_work_wakes_nobody(at_work: live.Live) -> None:
    assert not at_work.without_data(['goalworker_ready{check="goals"} == 1', "job:goalworker_events_late:ratio_rate5m"])
    alerts = {(alert["labels"]["alertname"], alert["labels"]["severity"]) for alert in at_work.get("alerts")["alerts"]}
    assert alerts == {("GoalworkerDeadLettersGrowing", "ticket")}  # the demo sends malformed records on purpose
