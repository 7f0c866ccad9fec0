"""Two cells, as Compose and the chart run them, share the topics and own every bucket once (contract section 10)."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from goalworker import config
from goalworker.domain.cells import ALL_BUCKETS
from tests.deploy import helm, readme
from tests.deploy.test_compose import compose

pytestmark = pytest.mark.deploy

CELLS: Final = ("first-cell", "second-cell")
URL: Final = "postgresql://goalworker:secret@db:5432/goalworker"
COMPONENTS: Final = ("worker", "api", "insight")


def loaded(variables: Mapping[str, str]) -> config.Settings:
    given = {"GOALWORKER_DATABASE__URL": URL, **variables}
    return config.load(given, env_file=None, secrets_dir=None)


def assert_cells(first: config.Settings, second: config.Settings) -> None:
    """Assert that two cells own every bucket once, and share the topics and nothing else."""
    assert not first.cell.buckets & second.cell.buckets
    assert first.cell.buckets | second.cell.buckets == ALL_BUCKETS
    assert first.cell.trust_keys == second.cell.trust_keys
    assert first.kafka.group_id != second.kafka.group_id
    assert (first.topics, first.bootstrap_servers()) == (second.topics, second.bootstrap_servers())


# --- Compose ---


def services(**variables: str) -> dict[str, dict[str, Any]]:
    said = compose("config", "--format", "json", variables=variables)
    assert said.returncode == 0, said.stderr
    found: dict[str, dict[str, Any]] = json.loads(said.stdout)["services"]
    return found


def assert_compose_runs_two_cells(found: Mapping[str, dict[str, Any]]) -> None:
    for component in COMPONENTS:
        first, second = found[component], found[f"second-{component}"]
        assert_cells(loaded(first["environment"]), loaded(second["environment"]))
        assert [secret["source"] for cell in (first, second) for secret in cell["secrets"]] == [
            "database_url",
            "second_database_url",
        ]
    assert found["postgres"]["volumes"] != found["second-postgres"]["volumes"]


def test_the_second_cell_of_compose_owns_nothing_until_it_is_told_to() -> None:
    found = services()
    assert_compose_runs_two_cells(found)
    assert loaded(found["worker"]["environment"]).cell.buckets == ALL_BUCKETS


def test_the_cells_of_compose_split_the_buckets_as_the_guide_says() -> None:
    said = dict(re.findall(r"\b((?:FIRST|SECOND)_CELL_BUCKETS)=([\d,-]+)", "\n".join(readme.lines())))
    assert set(said) == {"FIRST_CELL_BUCKETS", "SECOND_CELL_BUCKETS"}
    found = services(**said)
    assert_compose_runs_two_cells(found)
    assert loaded(found["worker"]["environment"]).cell.buckets not in (ALL_BUCKETS, frozenset())


def test_the_guide_compares_the_cells_of_compose_by_a_url_that_is_the_second_ones() -> None:
    (url,) = re.findall(r'^second="(\S+)"$', "\n".join(readme.lines()), re.MULTILINE)
    assert url.partition("@")[2] == "second-postgres:5432/goalworker"
    assert 'printf %s "$second" > secrets/second_database_url' in readme.lines()
    assert 'docker compose exec worker goalworker cells check --database "$second"' in readme.lines()


# --- the chart ---


def settings_of(cell: str, component: str) -> config.Settings:
    found = helm.environment(helm.pods(cell)[component])
    given = {name: each["value"] for name, each in found.items() if "value" in each}
    return loaded({"GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092", **given})


def test_the_values_of_two_cells_split_the_buckets() -> None:
    for component in COMPONENTS:
        first, second = (settings_of(cell, component) for cell in CELLS)
        assert first.cell.buckets | second.cell.buckets == ALL_BUCKETS
        assert not first.cell.buckets & second.cell.buckets
    for component in ("worker", "insight"):
        assert_cells(*(settings_of(cell, component) for cell in CELLS))


def test_the_values_of_two_cells_name_a_database_for_each() -> None:
    databases = [
        helm.environment(pod)["GOALWORKER_DATABASE__URL"]["valueFrom"]["secretKeyRef"]["name"]
        for cell in CELLS
        for component, pod in helm.pods(cell).items()
        if component != "topics"
    ]
    assert set(databases) == {"goalworker-first-database", "goalworker-second-database"}
    assert databases == sorted(databases)


def test_the_topics_rules_and_dashboard_come_once() -> None:
    kinds = [document["kind"] for cell in CELLS for document in helm.rendered(cell, "monitoring.enabled=true")]
    assert [kinds.count(kind) for kind in ("PrometheusRule", "ConfigMap", "ServiceMonitor")] == [1, 1, 2]
    assert [component for cell in CELLS for component in helm.pods(cell) if component == "topics"] == ["topics"]


def test_the_guide_installs_a_release_of_each_cell() -> None:
    files = [helm.CHART.parent / "cells" / f"{cell}.yaml" for cell in CELLS]
    installed = re.findall(r"--install (\S+) deploy/helm/goalworker --values (deploy/helm/cells/\S+)", readme.TEXT)
    assert [helm.ROOT / values for _, values in installed] == files
    assert len({release for release, _ in installed}) == len(CELLS)
    assert all(yaml.safe_load(file.read_text()) for file in files)
