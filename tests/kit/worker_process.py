"""Worker as a process of its own, with topics and a database that nothing else uses."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from prometheus_client import parser

from goalworker.embedded import machine
from tests.kit import support
from tests.kit.forker import Forked, Forker, Outcome
from tests.kit.support import NO_TLS

READY_SECONDS = 60.0
STOP_SECONDS = 20.0  # from SIGTERM to the exit, as the contract limits it (section 6)
REQUEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Installation:
    """Topics, database, consumer group and settings that workers share; they run and log in the folder.

    `python` is the interpreter whose packages they are run from.
    """

    bootstrap_servers: str
    database_url: str
    topics: Mapping[str, str]
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    forker: Forker | None = None
    python: str = sys.executable

    @property
    def group_id(self) -> str:
        return f"group-of-{self.topics['redrive']}"

    def environment(self, **settings: object) -> dict[str, str]:
        """Return the environment of a process; keywords are settings without `GOALWORKER_`, and None unsets one."""
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

    def call(self, *words: str, **settings: object) -> Outcome:
        """Run a command to its end."""
        assert self.forker is not None
        return self.forker([*words], self.environment(**settings), folder=self.folder)

    def start(self, *words: str, **settings: object) -> "Worker":
        """Start a worker, with words after `run`; the caller stops it."""
        return self.launch("run", *words, **settings)

    def launch(self, *words: str, **settings: object) -> "Worker":
        """Start a command with an operations port and a log; the caller stops it."""
        return self._launch(None, words, settings)

    def launch_by(self, script: str, *words: str, **settings: object) -> "Worker":
        """Start a script that ends with a command, with an operations port and a log; the caller stops it."""
        return self._launch(script, words, settings)

    def _launch(self, script: str | None, words: Sequence[str], settings: Mapping[str, object]) -> "Worker":
        port = machine.free_port()
        log = self.folder / f"process-{port}.log"
        log.touch()
        environment = self.environment(**{"OPS__PORT": port, "KAFKA__CLIENT_ID": _client_id(port), **settings})
        if self.forker is not None and "LD_PRELOAD" not in environment:
            return Worker(self.forker.start(words, environment, self.folder, log, script), log, port)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [self.python, *([script] if script else ("-m", "goalworker")), *words],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return Worker(process, log, port)

    @contextlib.asynccontextmanager
    async def worker(self, *words: str, **settings: object) -> AsyncIterator["Worker"]:
        """Run a worker that is ready, and stop it in good order unless the test ended it."""
        async with stopping(self.start(*words, **settings)) as worker:
            await worker.ready()
            yield worker


@dataclass(frozen=True, slots=True)
class Worker:
    """Process of an installation, with its log and its operations port."""

    process: subprocess.Popen[bytes] | Forked
    log: Path
    port: int

    @property
    def client_id(self) -> str:
        return _client_id(self.port)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    async def ready(self) -> None:
        """Wait until the worker logs that it is ready, and its probe says so."""
        await self.said("worker_ready", timeout_seconds=READY_SECONDS)
        await support.until(lambda: self.answers("/healthz/ready") == 200)

    async def said(self, event: str, *, times: int = 1, timeout_seconds: float = 60.0, **fields: object) -> None:
        """Wait until the process has logged an event this many times."""
        await support.until(lambda: len(self.lines(event, **fields)) >= times or not self.is_running, timeout_seconds)
        assert len(self.lines(event, **fields)) >= times, self.log.read_text()

    def lines(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Return the lines logged for an event."""
        written = self.log.read_text(errors="replace").splitlines()
        mark = f'"{event}"'  # spares the parser most lines of a long log
        lines = [json.loads(line) for line in written if mark in line and line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == event and fields.items() <= line.items()]

    def answers(self, path: str) -> int:
        """Return the status code of the operations port, 0 if it does not answer."""
        try:
            return get(self.port, path).status_code
        except httpx.TransportError:
            return 0

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return every exposed sample, by name and labels."""
        text = get(self.port, "/metrics").text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels, whatever other labels they have."""
        wanted = set(labels.items())
        return sum(
            value
            for (found, having), value in self.metrics().items()
            if found == f"goalworker_{name}" and wanted <= having
        )

    def stop(self) -> float:
        """Send SIGTERM, assert exit code 0, and return how many seconds that took."""
        asked = time.monotonic()
        if self.is_running:
            self.process.send_signal(signal.SIGTERM)
        assert self.wait() == 0, self.log.read_text()
        return time.monotonic() - asked

    def wait(self) -> int:
        """Wait for the process to end, and return its exit code."""
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End the process by SIGKILL, as a crash would."""
        if self.is_running:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """Return the sentence in the last line of the log, whose exit code must be that of the process."""
        line: dict[str, Any] = json.loads(self.log.read_text().splitlines()[-1])
        assert (line["event"], line["exit_code"]) == ("ended", self.process.poll())
        return str(line["error"])


def get(port: int, path: str) -> httpx.Response:
    """Request a path from a port of this machine."""
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5, trust_env=False, verify=NO_TLS)


def _client_id(port: int) -> str:
    return f"worker-{port}"


@contextlib.asynccontextmanager
async def stopping(worker: Worker) -> AsyncIterator[Worker]:
    """Stop a process in good order after the block unless it has ended; kill it if the block fails."""
    try:
        yield worker
        await asyncio.to_thread(worker.stop)
    finally:
        worker.kill()


@contextlib.contextmanager
def module_worker(shared: Installation, **settings: object) -> Iterator[Worker]:
    """Run a worker that is ready, for a fixture of a whole module, and stop it in good order."""
    worker = shared.start(**settings)
    try:
        support.run(worker.ready())
        yield worker
        worker.stop()
    finally:
        worker.kill()


@contextlib.contextmanager
def installation(
    bootstrap_servers: str,
    postgres_url: str,
    template: str,
    folder: Path,
    *,
    forker: Forker | None = None,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Installation]:
    """Create topics and a migrated database, and remove them afterwards."""
    names = support.fresh_topics()
    given = {name: str(value) for name, value in settings.items()}
    with support.fresh_database(postgres_url, f"TEMPLATE {template} STRATEGY FILE_COPY") as database:
        support.run(support.create_topics(bootstrap_servers, names))
        url = support.with_database(postgres_url, database)
        yield Installation(bootstrap_servers, url, names, folder, given, forker)
        support.run(support.delete_topics(bootstrap_servers, names))
