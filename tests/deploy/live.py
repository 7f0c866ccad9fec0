"""A working demo, and a real Prometheus that scrapes it every second."""

import contextlib
import dataclasses
import math
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml  # type: ignore[import-untyped]

from goalworker.embedded import machine
from tests.deploy import rules
from tests.kit import demo_process

PATIENCE_SECONDS = 60
RECORDS_PER_SECOND = 300
LAG_RECORDS = RECORDS_PER_SECOND  # the records of one second
JOBS = {"goalworker-worker": "worker", "goalworker-api": "api", "goalworker-insight": "insight"}


@dataclasses.dataclass(frozen=True)
class Live:
    """Prometheus, and the API that it monitors."""

    prometheus: httpx.Client
    api: httpx.Client

    def get(self, path: str, **parameters: str) -> Any:
        answer = self.prometheus.get(f"/api/v1/{path}", params=parameters)
        assert answer.is_success, (parameters, answer.text)
        return answer.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression has now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def has_data(self, expression: str) -> bool:
        """Say whether there is a number; 0 / 0 gives NaN."""
        return any(math.isfinite(float(series["value"][1])) for series in self.query(expression))

    def without_data(self, expressions: Iterable[str]) -> set[str]:
        """Return the expressions that still have no data after a while, during which the API is used."""
        missing = set(expressions)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while missing and time.monotonic() < deadline:
            self._use_the_api()
            missing = {expression for expression in missing if not self.has_data(expression)}
            time.sleep(0.2)
        return missing

    def _use_the_api(self) -> None:
        self.api.get("/api/v1/workflows/checkout/goals").raise_for_status()
        self.api.get("/api/v1/workflows/checkout/goals/stats").raise_for_status()
        self.api.put("/api/v1/workflows/unused/goal-settings", json={"logic": "any"}).raise_for_status()
        assert self.api.get("/api/v1/enrollments/unknown").status_code == 404
        intake = {"enrollments": [{"enrollment_id": "e", "contact_id": "c", "enrolled_at": "2026-01-01T00:00:00Z"}]}
        self.api.post("/api/v1/workflows/unused/enrollments", json=intake).raise_for_status()
        self.api.post("/api/v1/workflows/checkout/plans", json={"sample": 1})  # refused while many wait


@contextlib.contextmanager
def live() -> Iterator[Live]:
    with demo_process.demo("--rate", str(RECORDS_PER_SECOND), "--events", "1000000") as demo:
        demo.until(lambda: all(_ready(demo.said, name) for name in JOBS.values()) and "export GW=" in demo.said)
        demo.until(lambda: _lag(demo.said) < LAG_RECORDS)  # records from before the worker's start are late
        ports = {job: _operations_port(_ready(demo.said, name)) for job, name in JOBS.items()}
        url, key = re.findall(r"export GW=(\S+) KEY=(\S+)", demo.said)[0]
        with _prometheus(ports) as prometheus, httpx.Client(base_url=url, headers={"x-api-key": key}) as api:
            yield Live(prometheus, api)


def _ready(said: str, name: str) -> int:
    """Return the pid of a ready process of the demo, or 0."""
    return int(next(iter(re.findall(rf"{name} (\d+) is ready", said)), 0))


def _lag(said: str) -> float:
    """Return the lag of the demo's worker, from the last line that shows it."""
    said_so_far = re.findall(r"\| lag ([\d,]+)", said)
    return float(said_so_far[-1].replace(",", "")) if said_so_far else math.inf


def _operations_port(pid: int) -> int:
    environment = Path(f"/proc/{pid}/environ").read_text()
    return int(re.findall(r"\bGOALWORKER_OPS__PORT=(\d+)", environment)[0])


@contextlib.contextmanager
def _prometheus(ports: Mapping[str, int]) -> Iterator[httpx.Client]:
    command = shutil.which("prometheus")
    assert command, "prometheus is missing: on Debian, `apt-get install prometheus`"
    address = f"127.0.0.1:{machine.free_port()}"
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        configuration = Path(folder) / "prometheus.yaml"
        configuration.write_text(yaml.safe_dump(_configuration(ports)))
        process = subprocess.Popen(
            [
                command,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=10) as client:
                _until(lambda: _is_ready(client), (Path(folder) / "log").read_text)
                yield client
        finally:
            process.terminate()
            process.wait(20)


def _configuration(ports: Mapping[str, int]) -> dict[str, Any]:
    """Return our own configuration with the demo's addresses and short intervals, without the second cell."""
    ours: dict[str, Any] = rules.load(rules.CONFIGURATION)
    ours["scrape_configs"] = [job for job in ours["scrape_configs"] if "second" not in job["job_name"]]
    assert [job["job_name"] for job in ours["scrape_configs"]] == list(ports)
    jobs = [
        {
            **{name: value for name, value in job.items() if name != "dns_sd_configs"},
            "static_configs": [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}],
        }
        for job in ours["scrape_configs"]
    ]
    assert ours["rule_files"] == [rules.RULES.name]
    hurry = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    return {**ours, "global": hurry, "rule_files": [str(rules.RULES)], "scrape_configs": jobs}


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").is_success
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], bool], why_not: Callable[[], str]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, why_not()
        time.sleep(0.1)
