"""The commands, files and names in deploy/README.md exist."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from aiokafka import codec

from goalworker import config
from goalworker.embedded import jars
from goalworker.inspection import kafka_topics
from tests.deploy import command_line, readme, tools

pytestmark = pytest.mark.deploy

COMPOSE = (tools.DEPLOY / "compose.yaml").read_text()
SETTINGS = {row.name for row in config.table()}
FILES = (
    r"(?:deploy|requirements|first-exit|helm|prometheus|grafana|systemd)/[\w./-]+|[\w.-]+\.md|Dockerfile|compose\.yaml"
)


@pytest.mark.smoke
def test_every_command_exists_with_its_options() -> None:
    commands = readme.commands()
    assert {" ".join(words[:2]) for words in commands} >= {
        "db upgrade",
        "db roles",
        "topics create",
        "goals create",
        "keys create",
    }
    for words in commands:
        command_line.assert_taken(words)


@pytest.mark.smoke
def test_every_file_exists() -> None:
    typed = re.findall(rf"(?<![\w/.-])({FILES})", "\n".join(readme.lines()))
    spans = [span for span in readme.SPANS if re.fullmatch(FILES, span)]
    assert {"deploy/first-exit/started.json", "requirements/run.txt", "prometheus/rules.yaml"} <= {*typed, *spans}
    missing = {
        path for path in (*typed, *spans) if not any((top / path).exists() for top in (tools.ROOT, tools.DEPLOY))
    }
    assert missing == set()


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", readme.TEXT):
        path, _, anchor = target.partition("#")
        page = (tools.DEPLOY / path).resolve() if path else readme.FILE
        assert anchor in _anchors(page), target


@pytest.mark.smoke
def test_every_setting_exists() -> None:
    named = set(re.findall(r"GOALWORKER_[A-Z_]+[A-Z]", readme.TEXT))
    assert {"GOALWORKER_DATABASE__URL", "GOALWORKER_EVENTS__LATENESS"} <= named
    assert named <= SETTINGS


def test_every_value_of_the_chart_exists() -> None:
    schema = json.loads((tools.DEPLOY / "helm/goalworker/values.schema.json").read_text())
    assert {"database.existingSecret", "kafka.bootstrapServers"} <= readme.values()
    assert [name for name in readme.values() if not _has(schema, schema, name.split("."))] == []


def test_every_service_and_profile_of_compose_exists() -> None:
    services = set(
        re.findall(r"^  ([\w-]+):$", COMPOSE.partition("\nsecrets:")[0].partition("\nservices:")[2], re.MULTILINE)
    )
    profiles = set(re.findall(r"profiles: \[([\w-]+)\]", COMPOSE))
    said = "\n".join([*readme.lines(), *readme.SPANS])
    used = set(re.findall(r"docker compose exec (?:--no-TTY )?([\w-]+)", said)) | set(
        re.findall(r"--scale ([\w-]+)=", said)
    )
    assert {"worker", "api", "kafka"} <= used <= services
    assert set(re.findall(r"--profile (\w+)", said)) == profiles


def test_every_unit_exists() -> None:
    units = {path.stem for path in (tools.DEPLOY / "systemd").glob("*.service")}
    started = [line for line in [*readme.lines(), *readme.SPANS] if re.search(r"systemctl (re)?(start|enable)", line)]
    assert {unit for line in started for unit in re.findall(r"goalworker-\w+", line)} == units
    assert {span.removesuffix(".env") for span in readme.SPANS if re.fullmatch(r"goalworker-\w+\.env", span)} <= units


def test_topics_are_all_in_the_table_as_topics_create_makes_them() -> None:
    table = readme.TEXT.partition("## Topics")[2].partition("\n- ")[0]
    rows = {name: row for row in table.splitlines() for name in re.findall(r"`([\w.-]+)`", row.partition(" | ")[0])}
    names = dict(config.Topics())
    assert set(rows) == set(names.values())
    for which, configuration in kafka_topics.CONFIGURATION.items():
        for key, value in configuration.items():
            assert f"`{key}={value}`" in rows[names[which]], which


def test_versions_are_those_of_the_package_and_of_the_tests() -> None:
    version = tomllib.loads((tools.ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert set(re.findall(r"goalworker[:-](\d+\.\d+\.\d+)", readme.TEXT)) == {version}
    assert set(re.findall(r"apache/kafka:(\S+)", readme.TEXT)) == {jars.VERSION}


def test_it_names_the_compressions_that_can_be_read_and_no_others() -> None:
    (named,) = re.findall(r"^- Senders may compress with (.*?)\.", readme.TEXT, re.MULTILINE)
    known = {"gzip": codec.has_gzip, "snappy": codec.has_snappy, "lz4": codec.has_lz4, "zstd": codec.has_zstd}
    assert set(re.findall(r"\b(?!or\b)\w+", named)) == {name for name, can in known.items() if can()}


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {"", *(re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings)}


def _has(schema: dict[str, Any], part: dict[str, Any], path: list[str]) -> bool:
    """Say whether the schema allows a value with this name."""
    while "$ref" in part:
        *_, name = part["$ref"].split("/")
        part = schema["definitions"][name]
    if not path:
        return True
    inner = part.get("properties", {}).get(path[0])
    return inner is not None and _has(schema, inner, path[1:])
