"""The image: its file, and what its steps make, run by its user on a real Kafka and a real PostgreSQL."""

import asyncio
import contextlib
import json
import signal
import subprocess
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiokafka
import httpx
import pytest

from goalworker import settings
from goalworker.settings import groups
from tests import support
from tests.acceptance import running, saying
from tests.deploy import dockerfile, image, tools

pytestmark = pytest.mark.deploy

BUILD, FINAL = dockerfile.stages(image.FILE)
TOPICS = settings.Topics()
ACME = ("--tenant", saying.TENANT)
WORKFLOW, FORM = "welcome", "newsletter"


@pytest.fixture(scope="module")
def made() -> Iterator[image.Image]:
    with image.built() as built:
        yield built


@dataclass(frozen=True, slots=True)
class Installed:
    """Programs of the image whose environment is the two addresses."""

    image: image.Image
    addresses: dict[str, str]

    def done(self, *words: str) -> str:
        return self.image.done(self.image.program, *words, env=self.addresses)

    @contextlib.asynccontextmanager
    async def serving(self, command: str, port: int) -> AsyncIterator[None]:
        """Have `run` or `api` ready, and end it with SIGTERM, upon which it must exit with 0."""
        with self.image.start(self.image.program, command, env=self.addresses) as process:
            try:
                await support.until(lambda: process.poll() is not None or _is_ready(port))
                yield
                process.send_signal(signal.SIGTERM)
                _, said = await asyncio.to_thread(process.communicate, timeout=running.STOP_SECONDS)
                assert process.returncode == 0, said
            finally:
                process.kill()


@pytest.fixture
def installed(made: image.Image, postgres_url: str, bootstrap_servers: str) -> Iterator[Installed]:
    with support.fresh_database(postgres_url) as database:
        addresses = {
            "GOALWORKER_DATABASE__URL": support.with_database(postgres_url, database),
            "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        }
        yield Installed(made, addresses)


async def test_one_event_gives_one_exit_with_nothing_set_but_two_addresses_and_nothing_to_write_to(
    installed: Installed, bootstrap_servers: str
) -> None:
    installed.done("db", "upgrade")
    installed.done("topics", "create")
    installed.done("goals", "create", WORKFLOW, *ACME, "--type=form_submitted", f"--criteria=form_id={FORM}")
    key = json.loads(installed.done("keys", "create", *ACME, "--scope=goals:read", "--name=test", "--json"))["key"]
    run, now = saying.a_run(WORKFLOW), datetime.now(UTC)
    async with installed.serving("run", groups.OPS_PORTS["run"]), installed.serving("api", groups.OPS_PORTS["api"]):
        await _send(bootstrap_servers, run.started(now), run.submits(FORM, now), run.submits(FORM, now))
        (told,) = await _exits(bootstrap_servers, run, at_least=1)
        known = _enrollment(run, key)
    assert (told["type"], told["data"]["workflow_id"]) == ("workflow.exit.goal", WORKFLOW)
    assert (known["status"], known["exit"]) == ("completed_goal", told["data"])
    assert await _exits(bootstrap_servers, run) == [told]


def test_whoever_starts_it_without_a_command_gets_its_help(made: image.Image) -> None:
    words = [*json.loads(dockerfile.only(FINAL, "ENTRYPOINT").text), *json.loads(dockerfile.only(FINAL, "CMD").text)]
    assert "Usage: goalworker" in made.done(*words, env=made.variables)


def test_in_the_image_both_ports_listen_on_every_address(made: image.Image) -> None:
    shown = json.loads(made.done("goalworker", "config", "show", "--json", env=made.variables))
    assert (shown["GOALWORKER_API__HOST"], shown["GOALWORKER_OPS__HOST"]) == ("0.0.0.0", "0.0.0.0")


def test_what_was_installed_has_no_pip_and_no_writable_file(made: image.Image) -> None:
    home = made.root / "opt/goalworker"
    assert not [path for path in home.rglob("*") if path.stat().st_mode & 0o222]
    assert not list(home.rglob("pip"))


def test_every_package_is_installed_with_the_hash_that_the_repository_has(made: image.Image) -> None:
    installs = [each.command for each in BUILD if each.word == "RUN" and "install" in each.command]
    assert all("--require-hashes" in command or "--no-index --no-deps" in command for command in installs)
    pinned = {line.split("==")[0] for line in _lines("requirements/run.txt") if line[0].isalnum()}
    installed = made.root.glob("opt/goalworker/lib/*/site-packages/*.dist-info")
    found = {path.name.partition("-")[0].replace("_", "-").lower() for path in installed}
    assert found - pinned == {"goalworker"}


def test_the_base_is_pinned_by_who_builds_and_by_nobody_else() -> None:
    assert "ARG PYTHON_IMAGE" in _lines("deploy/Dockerfile")
    assert [stage[0].text.split()[0] for stage in (BUILD, FINAL)] == ["${PYTHON_IMAGE}"] * 2


def test_it_runs_as_a_number_that_is_not_root_and_takes_signals_itself() -> None:
    user, group = map(int, dockerfile.only(FINAL, "USER").text.split(":"))
    assert min(user, group) >= 10_000
    assert dockerfile.only(FINAL, "STOPSIGNAL").text == "SIGTERM"
    assert json.loads(dockerfile.only(FINAL, "ENTRYPOINT").text) == ["goalworker"]


def test_it_exposes_the_ports_that_are_the_settings_defaults() -> None:
    ports = {str(settings.Settings().api.port), *map(str, groups.OPS_PORTS.values())}
    assert set(dockerfile.only(FINAL, "EXPOSE").text.split()) == ports


def test_its_label_has_the_version_of_the_package() -> None:
    version = tomllib.loads((tools.ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert dockerfile.only(FINAL, "LABEL").pairs["org.opencontainers.image.version"] == version


def test_what_is_installed_comes_from_the_building_stage_to_the_same_place() -> None:
    source, target = dockerfile.only(FINAL, "COPY").text.removeprefix("--from=build ").split()
    assert source == target == "/opt/goalworker"  # the programs' first lines name it


def test_nothing_but_what_is_copied_is_sent_to_the_engine() -> None:
    first, *rules = [line for line in _lines("deploy/Dockerfile.dockerignore") if not line.startswith("#")]
    assert first == "*"
    assert {rule[1:] for rule in rules if rule[0] == "!"} == {source.rstrip("/") for source in dockerfile.copied(BUILD)}


def test_hadolint_has_nothing_to_say() -> None:
    said = subprocess.run(
        [tools.tool("hadolint"), str(image.FILE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def _lines(path: str) -> list[str]:
    return [line for line in (tools.ROOT / path).read_text().splitlines() if line]


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _enrollment(run: saying.Run, key: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{settings.Settings().api.port}/api/v1/enrollments/{run.enrollment_id}"
    known: dict[str, Any] = httpx.get(url, headers={"x-api-key": key}, trust_env=False).raise_for_status().json()
    return known


async def _send(bootstrap_servers: str, *records: saying.Record) -> None:
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        for record in records:
            topic = getattr(TOPICS, record.topic)
            await producer.send_and_wait(topic, record.value, headers=list(record.headers))


async def _exits(bootstrap_servers: str, run: saying.Run, at_least: int = 0) -> list[dict[str, Any]]:
    """Read the topic of exits to its end, and on until there are so many of a run; return those of that run."""
    found: list[dict[str, Any]] = []
    consumer = aiokafka.AIOKafkaConsumer(
        TOPICS.workflow_exit, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    )
    async with asyncio.timeout(30), consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while len(found) < at_least or any([await consumer.position(each) < end for each, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                bodies = [saying.body(record.value) for record in records]
                found += [body for body in bodies if body["subject"] == run.enrollment_id]
    return found
