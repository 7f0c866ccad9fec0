"""Rules of deploy/prometheus, and their promtool tests."""

import functools
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.deploy import promql

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
CONFIGURATION = DEPLOY / "prometheus" / "prometheus.yaml"
UNIT_TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yaml"))

# Default prefix of each link to the runbook.
REPOSITORY = "https://github.com/goalworker/goalworker/blob/main/"

ALERT_LABELS = {"alertname", "alertstate", "severity", "check", "topic"}


@functools.cache
def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def all_rules() -> list[dict[str, Any]]:
    return [rule for group in load(RULES)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in all_rules() if "alert" in rule}


def recorded() -> dict[str, str]:
    """Return the expression of each recorded series, by its name."""
    return {rule["record"]: rule["expr"] for rule in all_rules() if "record" in rule}


def known() -> dict[str, set[str]]:
    """Return every series that queries may use: goalworker's, recorded ones, and alerts."""
    levels = {name: set(name.partition(":")[0].split("_")) for name in recorded()}
    return {**promql.exposed(), **levels, "ALERTS": ALERT_LABELS}


def unit_tests() -> list[dict[str, Any]]:
    return [test for path in UNIT_TESTS for test in load(path)["tests"]]
