"""A worker as a process of its own, on topics and in a database that nobody else has."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import parser

from goalworker.embedded import machine
from tests.kit import support

READY_SECONDS = 60.0
STOP_SECONDS = 20.0  # what the contract gives SIGTERM (section 6)
REQUEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Installation:
    """What workers share: topics, a database, a consumer group, settings; folder is where they run and log."""

    bootstrap_servers: str
    database_url: str
    topics: Mapping[str, str]
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def group_id(self) -> str:
        return f"group-of-{self.topics['redrive']}"

    def environment(self, **settings: object) -> dict[str, str]:
        """The environment of a goalworker process; keywords are settings without `GOALWORKER_`, None unsets one."""
        ours = {
            "DATABASE__URL": self.database_url,
            "KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA__GROUP_ID": self.group_id,
            "LOG__FORMAT": "json",
            **{f"TOPICS__{logical.upper()}": name for logical, name in self.topics.items()},
            **self.settings,
            **settings,
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("GOALWORKER_")}
        return others | {f"GOALWORKER_{name}": str(value) for name, value in ours.items() if value is not None}

    def call(self, *words: str, **settings: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "goalworker", *words],
            cwd=self.folder,
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *words: str, **settings: object) -> "Worker":
        """Start a worker, with words behind `run`; who starts one stops it."""
        port = machine.free_port()
        log = self.folder / f"worker-{port}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "goalworker", "run", *words],
                cwd=self.folder,
                env=self.environment(OPS__PORT=port, KAFKA__CLIENT_ID=_client_id(port), **settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return Worker(process, log, port)

    @contextlib.asynccontextmanager
    async def worker(self, *words: str, **settings: object) -> AsyncIterator["Worker"]:
        """A worker that is ready, and that is stopped in good order unless the test ended it."""
        started = self.start(*words, **settings)
        try:
            await started.ready()
            yield started
            started.stop()
        finally:
            started.kill()


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that runs `goalworker run`."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    @property
    def client_id(self) -> str:
        return _client_id(self.port)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    async def ready(self) -> None:
        """Wait until it says so, and answers so."""
        await self.said("worker_ready", timeout_seconds=READY_SECONDS)
        await support.until(lambda: self.answers("/healthz/ready") == 200)

    async def said(self, event: str, *, times: int = 1, timeout_seconds: float = 60.0, **fields: object) -> None:
        """Wait until it has logged an event so often."""
        await support.until(lambda: len(self.lines(event, **fields)) >= times or not self.is_running, timeout_seconds)
        assert len(self.lines(event, **fields)) >= times, self.log.read_text()

    def lines(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The lines that it has logged of an event."""
        written = self.log.read_text(errors="replace").splitlines()
        lines = [json.loads(line) for line in written if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == event and fields.items() <= line.items()]

    def answers(self, path: str) -> int:
        """The status with which the operations port answers; 0: not at all."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample that it exposes, by name and labels."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5, trust_env=False).text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels, and perhaps others."""
        wanted = set(labels.items())
        return sum(
            value
            for (found, having), value in self.metrics().items()
            if found == f"goalworker_{name}" and wanted <= having
        )

    def stop(self) -> float:
        """Ask it to stop; return how many seconds it took to exit with 0."""
        asked = time.monotonic()
        if self.is_running:
            self.process.send_signal(signal.SIGTERM)
        assert self.wait() == 0, self.log.read_text()
        return time.monotonic() - asked

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it as a crash would."""
        if self.is_running:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The sentence that it ended with, the last line of its log; its exit code is that of the process."""
        line: dict[str, Any] = json.loads(self.log.read_text().splitlines()[-1])
        assert (line["event"], line["exit_code"]) == ("ended", self.process.poll())
        return str(line["error"])


def _client_id(port: int) -> str:
    return f"worker-{port}"


@contextlib.contextmanager
def installation(
    bootstrap_servers: str, postgres_url: str, template: str, folder: Path, **settings: object
) -> Iterator[Installation]:
    """Topics and a migrated database, which go away with it."""
    names = support.fresh_topics()
    with support.fresh_database(postgres_url, f"TEMPLATE {template}") as database:
        support.run(support.create_topics(bootstrap_servers, names))
        url = support.with_database(postgres_url, database)
        yield Installation(bootstrap_servers, url, names, folder, {name: str(v) for name, v in settings.items()})
        support.run(support.delete_topics(bootstrap_servers, names))
