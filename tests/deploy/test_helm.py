"""The chart renders valid documents, equal to the stored ones."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import jsonschema_rs
import pytest
import yaml  # type: ignore[import-untyped]

from goalworker import config
from tests.deploy import golden, helm, rules

pytestmark = pytest.mark.deploy

CUSTOM: Final = json.loads((Path(__file__).parent / "custom_resources.json").read_text())
"""What of the operators' own kinds is used, written by hand: the Kubernetes schemas do not have them."""
OLDEST: Final = "1.30.0"
VERSIONS: Final = (OLDEST, "1.36.0", "1.37.0")
COPIES: Final = {"rules.yaml": "deploy/prometheus/rules.yaml", "goalworker.json": "deploy/grafana/goalworker.json"}

each_values = pytest.mark.parametrize("values", helm.VALUES)


def validated(version: str, *files: Path) -> subprocess.CompletedProcess[str]:
    program = helm.TOOLS / "bin" / "kubernetes-validate"
    assert program.exists(), "kubernetes-validate is missing: `make check-deploy` installs it"
    return subprocess.run(
        [program, "--strict", "-k", version, *files], capture_output=True, text=True, check=False, timeout=60
    )


@each_values
def test_helm_lints_the_chart_and_has_nothing_to_say(values: str) -> None:
    answer = helm.run("lint", "--strict", helm.CHART, "--values", helm.VALUES[values])
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "[WARNING]" not in answer.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_fits_the_schemas_of_kubernetes_strictly(version: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{values}.yaml" for values in helm.VALUES]
    for file in files:
        file.write_text(yaml.safe_dump_all(helm.rendered(file.stem)))
    answer = validated(version, *files)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    said = answer.stdout + answer.stderr
    assert said.count(" passed for resource ") == sum(
        document["kind"] not in CUSTOM for values in helm.VALUES for document in helm.rendered(values)
    )
    assert set(re.findall(r"find schema for kind (\w+)", said)) == set(CUSTOM)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_does_not_fit(version: str, tmp_path: Path) -> None:
    file = tmp_path / "misspelt.yaml"
    file.write_text(yaml.safe_dump_all(helm.rendered("minimal")).replace("readOnlyRootFilesystem", "readOnlyRootFs"))
    assert "readOnlyRootFs" in file.read_text()
    assert validated(version, file).returncode != 0


@each_values
def test_every_custom_resource_has_only_fields_that_its_operator_takes(values: str) -> None:
    for document in helm.rendered(values):
        if document["kind"] in CUSTOM:
            jsonschema_rs.validator_for(CUSTOM[document["kind"]]).validate(document["spec"])
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}


@each_values
def test_no_name_is_taken_twice(values: str) -> None:
    names = [(document["kind"], document["metadata"]["name"]) for document in helm.rendered(values)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("values", golden.KEPT)
def test_the_rendering_is_the_one_that_is_kept(values: str) -> None:
    """Run `.venv/bin/python -m tests.deploy.golden` if a difference is intended."""
    assert golden.text(values) == (golden.FOLDER / f"{values}.yaml").read_text()


@pytest.mark.parametrize(("copy", "original"), COPIES.items())
def test_the_charts_copies_are_the_files_themselves(copy: str, original: str) -> None:
    there = helm.ROOT / original
    assert there.exists(), f"{original} is missing, and the chart has a copy of it"
    assert (helm.CHART / "files" / copy).read_text() == there.read_text(), (
        f"run: cp {original} deploy/helm/goalworker/files/{copy}"
    )


def test_rules_and_dashboard_arrive_unchanged_but_for_the_links() -> None:
    [rule] = helm.of_kind("PrometheusRule", "everything")
    [dashboard] = helm.of_kind("ConfigMap", "everything")
    files = helm.CHART / "files"
    original = (files / "rules.yaml").read_text()
    prefix = "https://git.example.com/goalworker/blob/main/"
    assert rule["spec"] == yaml.safe_load(original.replace(rules.REPOSITORY, prefix))
    links = [
        each["annotations"]["runbook_url"]
        for group in rule["spec"]["groups"]
        for each in group["rules"]
        if "alert" in each
    ]
    assert links
    assert all(link.startswith(prefix) for link in links)
    assert json.loads(dashboard["data"]["goalworker.json"]) == json.loads((files / "goalworker.json").read_text())
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_charts_version_is_the_projects() -> None:
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())
    project = tomllib.loads((helm.ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
    assert chart["kubeVersion"] == f">={OLDEST}-0"


def test_the_schema_of_values_knows_exactly_the_settings_there_are() -> None:
    schema = json.loads((helm.CHART / "values.schema.json").read_text())
    names = [row.name.removeprefix(config.PREFIX) for row in config.table()]
    assert schema["properties"]["settings"]["propertyNames"]["enum"] == names
