"""README.md and the guides that it points to say what the code has."""

import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import jsonschema_rs
import prometheus_client

from goalworker import config, metrics, schemas
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events, ids
from goalworker.stores import api_keys
from tests.bench import curves, table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "deploy" / "README.md").read_text()
DOCUMENTS = [
    path for folder in (".", "goalworker", "deploy", "tests", "tests/bench") for path in (ROOT / folder).glob("*.md")
]
BENCH = (ROOT / "tests" / "bench" / "README.md").read_text()


def rows(heading: str) -> list[tuple[str, ...]]:
    section = GUIDE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split(" |")) for line in lines]


def test_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 200


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_between_the_documents_leads_somewhere() -> None:
    links = [
        (path, link)
        for path in DOCUMENTS
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text())
        if not link.startswith("http")
    ]
    assert len(links) > 20
    dead = []
    for path, link in links:
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text())):
            dead.append((str(path.relative_to(ROOT)), link))
    assert dead == []


def test_the_table_of_settings_is_the_settings() -> None:
    assert rows("Settings") == [(f"`{row.name}`", row.default, row.description) for row in config.table()]


def test_the_table_of_metrics_is_the_metrics() -> None:
    kinds = prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram
    found = [
        (f"`{name}`", ", ".join(metric._labelnames), metric._documentation)
        for name, metric in vars(metrics).items()
        if isinstance(metric, kinds)
    ]
    assert rows("Metrics") == found


def test_every_scope_is_named() -> None:
    assert api_keys.SCOPES
    assert [scope for scope in api_keys.SCOPES if f"`{scope}`" not in README] == []


def test_the_make_targets_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    texts = [path.read_text() for path in DOCUMENTS]
    named = {name for text in texts for name in re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)}
    assert named
    assert named <= targets


def test_the_events_shown_are_taken_and_the_payment_is_the_same_in_both_modes() -> None:
    now = datetime(2026, 5, 2, tzinfo=UTC)
    decoder = Decoder(config.Settings().topics.event_types, Limits())
    shown = [block.encode() for block in re.findall(r"^```json\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]
    payment, started, exit_ = shown
    ((headers, body),) = re.findall(r"^```text\n(ce_.*?)\n\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    pairs = [line.split(": ", 1) for line in headers.splitlines()]
    binary = decoder.decode(
        "payment-completed", body.encode(), tuple((name, value.encode()) for name, value in pairs), 0, now
    )
    assert isinstance(binary, events.Event)
    assert decoder.decode("payment-completed", payment, (), 0, now) == binary
    assert isinstance(decoder.decode("workflow-lifecycle", started, (), 0, now), events.Event)
    jsonschema_rs.validate(schemas.message_schemas()["workflow.exit.goal"], json.loads(exit_))


def test_the_enrollment_id_without_tracking_is_the_one_that_is_made() -> None:
    assert f"`{ids.contact_enrollment_id('welcome', 'c-17')}`" in README


def test_the_extras_named_exist_and_all_are_named() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"pip install 'goalworker\[(\w+)\]'", README)) == set(pyproject["optional-dependencies"])


def test_each_row_of_what_happens_when_names_its_test() -> None:
    folder = Path(__file__).parents[1] / "faults"
    tests = {name for file in folder.glob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = [row[-1].strip("` ") for row in rows("What happens when")]
    assert named
    assert set(named) <= tests


def test_the_table_of_the_bench_is_its_last_results() -> None:
    assert table.placed(BENCH, json.loads(table.RESULTS.read_text())) == BENCH


def test_the_pictures_of_the_bench_are_of_its_last_results() -> None:
    for curve in curves.of(json.loads(table.RESULTS.read_text())):
        assert curve.mark in curve.file.read_text()
