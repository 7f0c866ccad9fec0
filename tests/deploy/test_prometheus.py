"""The rules are valid, and each alert fires only when it should and links to its section of the runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from goalworker import __main__, config
from tests.deploy import promql, rules

pytestmark = pytest.mark.deploy

RUNBOOK = (rules.DEPLOY / "RUNBOOK.md").read_text()
ALERTS = rules.alerts()
FIRING = re.compile(r'ALERTS(?:\{alert(?:name|state)(=~?)"([^"]*)")?')


def promtool(*arguments: str | Path) -> str:
    """Run promtool, which must succeed."""
    command = shutil.which("promtool")
    assert command, "promtool is missing: install Prometheus, on Debian with `apt-get install prometheus`"
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_and_the_configuration_are_valid() -> None:
    assert f"{len(rules.all_rules())} rules found" in promtool("check", "rules", rules.RULES)
    assert "1 rule files found" in promtool("check", "config", rules.CONFIGURATION)


@pytest.mark.parametrize("path", rules.UNIT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def alert_tests() -> list[dict[str, Any]]:
    return [case for test in rules.unit_tests() for case in test.get("alert_rule_test", ())]


def silences(test: dict[str, Any]) -> set[str]:
    """Return the alerts that a test expects to stay silent although their series exist."""
    quiet = {case["alertname"] for case in test.get("alert_rule_test", ()) if not case.get("exp_alerts")}
    for case in test.get("promql_expr_test", ()):
        found = FIRING.search(case["expr"])
        if found and not case.get("exp_samples"):
            named = '"'.join(found.groups(default="")[1:]) if "alertname" in found[0] else ".*"
            quiet |= {alert for alert in ALERTS if re.fullmatch(named, alert)}
    there = {promql.name_of(series["series"]) for series in test["input_series"]}
    return {alert for alert in quiet if there & sources(ALERTS[alert]["expr"])}


def sources(expression: str) -> set[str]:
    """Return the metrics that an expression uses, also through recorded series."""
    recorded = rules.recorded()
    found = promql.names(expression)
    return found | {source for name in found & recorded.keys() for source in sources(recorded[name])}


def test_each_alert_has_a_test_that_fires_it_and_one_that_keeps_it_silent() -> None:
    fired = {case["alertname"] for case in alert_tests() if case.get("exp_alerts")}
    silent = set[str]().union(*(silences(test) for test in rules.unit_tests()))
    assert fired == set(ALERTS)
    assert silent == set(ALERTS)


def test_rules_name_only_metrics_and_labels_that_exist() -> None:
    for rule in rules.all_rules():
        assert not promql.strangers(rule["expr"], rules.known()), rule


def test_installations_are_told_apart_wherever_series_are_put_together() -> None:
    for rule in rules.all_rules():
        for labels in promql.groupings(rule["expr"]):
            assert labels >= {"namespace", "job"} or labels == {"check"}, rule


def test_a_share_of_two_rates_is_kept_between_0_and_1() -> None:
    shares = [rule["expr"] for rule in rules.all_rules() if promql.divides_rates(rule["expr"])]
    assert len(shares) >= 7
    for expression in shares:
        assert ("clamp_min(" if re.search(r"\b1 - ", expression) else "clamp_max(") in expression, expression


def test_the_unit_tests_are_about_series_that_exist() -> None:
    elsewhere = {"up"}
    known = promql.exposed()
    for series in (series["series"] for test in rules.unit_tests() for series in test["input_series"]):
        name = promql.name_of(series)
        if name not in elsewhere:
            assert known[name] <= promql.labels(series) <= known[name] | promql.TARGET_LABELS, series


def test_the_objective_is_the_same_over_every_window() -> None:
    for series, windows in {
        "job:goalworker_events_late:ratio_rate": ["5m", "30m", "1h", "6h", "3d"],
        "job:goalworker_events:increase": ["1h", "6h", "3d"],
    }.items():
        expressions = {
            name.removeprefix(series): expression
            for name, expression in rules.recorded().items()
            if name.startswith(series)
        }
        assert list(expressions) == windows
        assert len({expression.replace(f"[{window}]", "") for window, expression in expressions.items()}) == 1


def test_each_alert_says_how_urgent_it_is_and_what_it_is_about() -> None:
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in {"page", "ticket"}, name
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}, name


# --- the runbook ---


def sections() -> dict[str, str]:
    return dict(re.findall(r"^## (Goalworker\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, flags=re.MULTILINE | re.DOTALL))


def test_each_alert_has_its_section_in_the_runbook_and_each_section_its_alert() -> None:
    assert list(sections()) == list(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["annotations"]["runbook_url"] == f"{rules.REPOSITORY}deploy/RUNBOOK.md#{name.lower()}"


def test_each_section_says_what_it_means_how_to_look_and_what_to_do() -> None:
    for name, section in sections().items():
        for part in ("**It means**", "**Look**", "**Do**"):
            assert section.count(part) == 1, (name, part)


def test_commands_and_settings_that_the_runbook_names_exist() -> None:
    named = {tuple(words.split()) for words in re.findall(r"\bgoalworker ([a-z][a-z-]*(?: [a-z]+)?)", code(RUNBOOK))}
    assert len(named) > 8
    for command, *subcommand in named:
        assert command in __main__.COMMANDS
        assert set(subcommand) <= set(getattr(__main__.load(command), "commands", ())), (command, subcommand)
    names = {row.name.removeprefix("GOALWORKER_") for row in config.table()}
    assert set(re.findall(r"`([A-Z]+__[A-Z_]+)`", RUNBOOK)) <= names


def test_the_runbook_needs_no_tool_of_kafka_which_the_image_lacks() -> None:
    assert not re.findall(r"\b(?:kafka-[a-z-]+|kcat|psql)\b", RUNBOOK)


def code(text: str) -> str:
    return "\n".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)])
