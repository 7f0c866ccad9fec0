"""The Dockerfile, and the image that its steps build, run by its user on a real Kafka and a real PostgreSQL."""

import asyncio
import contextlib
import json
import signal
import subprocess
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiokafka
import httpx
import pytest

from goalworker import config
from goalworker.config import groups
from tests.deploy import dockerfile, image, readme, tools
from tests.kit import support, worker_process

pytestmark = pytest.mark.deploy

BUILD, FINAL = dockerfile.stages(image.FILE)


@pytest.fixture(scope="module")
def made() -> Iterator[image.Image]:
    with image.built() as built:
        yield built


@dataclass(frozen=True, slots=True)
class Installed:
    """Programs of the image with only the two addresses in their environment."""

    image: image.Image
    addresses: dict[str, str]

    def done(self, *words: str) -> str:
        return self.image.done(self.image.program, *words, env=self.addresses)

    def lag(self) -> int:
        return sum(row["lag"] for row in json.loads(self.done("lag", "--json")))

    @contextlib.asynccontextmanager
    async def serving(self, command: str, port: int) -> AsyncIterator[None]:
        """Start a service, wait until it is ready, and stop it by SIGTERM, which must give exit code 0."""
        with self.image.start(self.image.program, command, env=self.addresses) as process:
            try:
                await support.until(lambda: process.poll() is not None or _is_ready(port))
                assert process.poll() is None, process.communicate()
                yield
                process.send_signal(signal.SIGTERM)
                _, said = await asyncio.to_thread(process.communicate, timeout=worker_process.STOP_SECONDS)
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


async def test_one_event_gives_one_exit_with_two_addresses_set_and_a_read_only_disk(
    installed: Installed, bootstrap_servers: str
) -> None:
    installed.done("db", "upgrade")
    installed.done("topics", "create")
    installed.done(*_told("goals create"))
    key = json.loads(installed.done(*_told("keys create"), "--json"))["key"]
    run, api, insight = (installed.serving(command, port) for command, port in groups.OPS_PORTS.items())
    async with _listening(bootstrap_servers) as listening, run, api, insight:
        await _send_what_the_readme_sends(bootstrap_servers)
        (told,) = await _exits(listening, at_least=1)
        await support.until(lambda: not installed.lag())
        assert await _exits(listening) == []
        known = _enrollment(told["subject"], key)
    assert (told["type"], told["tenantid"], told["data"]["workflow_id"]) == ("workflow.exit.goal", "acme", "welcome")
    assert (known["status"], known["exit"]) == ("completed_goal", told["data"])


def test_whoever_starts_it_without_a_command_gets_its_help(made: image.Image) -> None:
    words = [*json.loads(dockerfile.only(FINAL, "ENTRYPOINT").text), *json.loads(dockerfile.only(FINAL, "CMD").text)]
    assert "Usage: goalworker" in made.done(*words, env=made.variables)


def test_in_the_image_both_ports_listen_on_every_address(made: image.Image) -> None:
    shown = json.loads(made.done("goalworker", "config", "show", "--json", env=made.variables))
    hosts = [shown[f"GOALWORKER_{group}__HOST"]["value"] for group in ("API", "OPS")]
    assert hosts == ["0.0.0.0", "0.0.0.0"]


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
    ports = {str(config.Settings().api.port), *map(str, groups.OPS_PORTS.values())}
    assert set(dockerfile.only(FINAL, "EXPOSE").text.split()) == ports


def test_its_label_has_the_version_of_the_package() -> None:
    version = tomllib.loads((tools.ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert dockerfile.only(FINAL, "LABEL").pairs["org.opencontainers.image.version"] == version


def test_what_is_installed_comes_from_the_building_stage_to_the_same_place() -> None:
    source, target = dockerfile.only(FINAL, "COPY").text.removeprefix("--from=build ").split()
    assert source == target == "/opt/goalworker"  # the shebang lines name it


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
        return worker_process.get(port, "/healthz/ready").status_code == 200
    except httpx.TransportError:
        return False


def _enrollment(enrollment_id: str, key: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{config.Settings().api.port}/api/v1/enrollments/{enrollment_id}"
    known: dict[str, Any] = httpx.get(url, headers={"x-api-key": key}, trust_env=False).raise_for_status().json()
    return known


def _told(command: str) -> list[str]:
    """Return the arguments of a command, which the README has in each of its three ways, always the same."""
    (words,) = {tuple(words) for words in readme.commands() if " ".join(words[:2]) == command}
    return list(words)


async def _send_what_the_readme_sends(bootstrap_servers: str) -> None:
    """Send the enrollment, and the event twice, as a sender does that missed the acknowledgement."""
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        for topic, name in (*readme.events(), readme.events()[-1]):
            (line,) = (tools.DEPLOY / "first-exit" / name).read_bytes().splitlines()
            await producer.send_and_wait(topic, line)


@contextlib.asynccontextmanager
async def _listening(bootstrap_servers: str) -> AsyncIterator[aiokafka.AIOKafkaConsumer]:
    """Yield a consumer of the exits that are sent from now on."""
    topic = config.Topics().workflow_exit
    async with aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers) as consumer:
        for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
            consumer.seek(partition, end)
        yield consumer


async def _exits(listening: aiokafka.AIOKafkaConsumer, at_least: int = 0) -> list[dict[str, Any]]:
    """Read to the end, and on until there are this many exits."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(30):
        while len(found) < at_least or await _is_behind(listening):
            for records in (await listening.getmany(timeout_ms=500)).values():
                found += [json.loads(record.value) for record in records]
    return found


async def _is_behind(listening: aiokafka.AIOKafkaConsumer) -> bool:
    ends = await listening.end_offsets(listening.assignment())
    return any([await listening.position(partition) < end for partition, end in ends.items()])
