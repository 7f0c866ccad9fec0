"""`goalworker api` as a process: readiness, drain, and refused starts."""

import asyncio
import contextlib
import functools
import json
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib import parse

import httpx
import pytest

from goalworker.embedded import machine
from goalworker.runtime import service
from tests.kit import shells, support
from tests.kit.forker import Outcome
from tests.kit.running_api import GOALS, TAG, TENANT, problem

T = TypeVar("T")

STOP_SECONDS = 20


@pytest.fixture
def shell_of_api(with_database: shells.Shell) -> shells.Shell:
    return with_database.set({"GOALWORKER_OPS__PORT": "0", "GOALWORKER_LOG__FORMAT": "json"})


@contextlib.contextmanager
def started(shell: shells.Shell, *words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a process, wait until it is ready, and stop it as Kubernetes does."""
    process = shell.started("api", "--port", "0", *words, **variables)
    try:
        ready = said(process, "api_ready")
        yield process, f"http://{ready['host']}:{ready['port']}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[bytes], event: str) -> dict[str, Any]:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"{"):
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
    raise AssertionError(f"{event} was not logged, and it ended with {process.wait()}")


def test_the_collector_passes_over_what_the_api_has_imported(shell_of_api: shells.Shell, tmp_path: Path) -> None:
    found = tmp_path / "frozen"
    note = f"import atexit, gc; atexit.register(lambda: open({str(found)!r}, 'w').write(str(gc.get_freeze_count())))"
    (tmp_path / "sitecustomize.py").write_text(note)
    with started(shell_of_api, "--insecure-tenant", TENANT, PYTHONPATH=str(tmp_path)):
        pass
    assert int(found.read_text()) > 50_000


async def test_it_reports_ready_serves_and_drains(shell_of_api: shells.Shell) -> None:
    ops_port = machine.free_port()
    with started(shell_of_api, "--insecure-tenant", TENANT, GOALWORKER_OPS__PORT=str(ops_port)) as (process, url):
        async with httpx.AsyncClient(trust_env=False) as client:
            ops = f"http://127.0.0.1:{ops_port}"
            assert (await client.get(f"{ops}/healthz/ready")).json() == {"status": "ready"}
            assert (await client.get(f"{ops}/healthz/startup")).status_code == 200
            answer = await client.post(f"{url}{GOALS}", json=TAG, headers={"x-request-id": "r-1"})
            assert answer.status_code == 201
            line = said(process, "request")
            assert (line["method"], line["status"], line["request_id"]) == ("POST", 201, "r-1")
            assert (line["tenant_id"], line["route"]) == (TENANT, "/api/v1/workflows/{workflow_id}/goals")
            exposed = (await client.get(f"{ops}/metrics")).text.splitlines()
            assert 'goalworker_ready{check="database"} 1.0' in exposed
            assert 'goalworker_db_transaction_duration_seconds_count{operation="stats"} 0.0' in exposed
            # An idle connection and one in mid-request do not delay the drain.
            with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as half_asked:
                half_asked.sendall(b"GET / HTTP/1.1\r\n")
                asked = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert process.wait(STOP_SECONDS) == 0
                assert time.monotonic() - asked < STOP_SECONDS


async def test_a_stop_ends_open_feeds_instead_of_waiting_for_them(shell_of_api: shells.Shell) -> None:
    with started(shell_of_api, "--insecure-tenant", TENANT) as (process, url):
        async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", f"{url}/api/v1/feed") as feed:
            lines = feed.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert [line async for line in lines if line] == []
            assert process.wait(STOP_SECONDS) == 0
            assert time.monotonic() - asked < service.DRAIN_SECONDS


@dataclass(slots=True)
class Line:
    """A proxy to the database that can be open, cut or silent."""

    state: str = "whole"
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    def becomes(self, state: str) -> None:
        self.state = state
        for writer in self.open if state != "silent" else ():
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        if self.state == "cut":
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(host, port)
        self.open |= {writer, there_writer}
        await asyncio.gather(self._pass_on(reader, there_writer), self._pass_on(there_reader, writer))
        self.open -= {writer, there_writer}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.state != "silent":
                    writer.write(data)
        writer.transport.abort()


@contextlib.asynccontextmanager
async def line_to(database_url: str) -> AsyncIterator[tuple[Line, str]]:
    """Start a proxy to the database; yield it and the URL through it."""
    line, there = Line(), parse.urlsplit(database_url)
    assert there.hostname
    assert there.port
    serve = functools.partial(line.serve, host=there.hostname, port=there.port)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    here = server.sockets[0].getsockname()[1]
    user = there.netloc.rpartition("@")[0]
    try:
        yield line, there._replace(netloc=f"{user}@127.0.0.1:{here}").geturl()
    finally:
        line.becomes("cut")
        server.close()


async def test_while_the_database_is_away_it_lives_and_is_not_ready(
    shell_of_api: shells.Shell, database_url: str
) -> None:
    ops_port = machine.free_port()
    async with line_to(database_url) as (line, url_of_line), httpx.AsyncClient(trust_env=False, timeout=20) as client:
        settings = {"GOALWORKER_DATABASE__URL": url_of_line, "GOALWORKER_OPS__PORT": str(ops_port)}
        async with in_thread(started(shell_of_api, "--insecure-tenant", TENANT, **settings)) as (process, url):
            health = f"http://127.0.0.1:{ops_port}/healthz"

            async def statuses() -> list[int]:
                await asyncio.sleep(0.05)  # each request is a line in a pipe that is not read meanwhile
                return [(await client.get(address)).status_code for address in (f"{url}{GOALS}", f"{health}/ready")]

            assert await statuses() == [200, 200]
            for state in ("cut", "silent"):
                line.becomes(state)
                asked = time.monotonic()
                answer = await client.get(f"{url}{GOALS}")
                problem(answer, 503, "unavailable")
                assert answer.headers["retry-after"] == "2"
                assert time.monotonic() - asked < 8
                async with asyncio.timeout(20):
                    while await statuses() != [503, 503]:
                        pass
                assert (await client.get(f"{health}/live")).status_code == 200
                line.becomes("whole")
                async with asyncio.timeout(20):
                    while await statuses() != [200, 200]:
                        pass
            assert process.poll() is None


@contextlib.asynccontextmanager
async def in_thread(manager: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave a blocking context in a thread, so that the loop runs on."""
    value = await asyncio.to_thread(manager.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def test_it_does_not_start_if_it_could_not_serve(
    shell: shells.Shell, shell_of_api: shells.Shell, postgres_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(shell_of_api("api", "--port", port), 4, f"The API cannot listen on 127.0.0.1:{port}", "API__PORT")
    behind = shell_of_api("api", GOALWORKER_DATABASE__URL=postgres_url)
    refused(behind, 5, "goalworker db upgrade")
    refused(shell_of_api.set(shells.NOWHERE)("api"), 4, "127.0.0.1:1", "nobody:***")
    refused(shell("api"), 3, "GOALWORKER_DATABASE__URL is not set")


def test_an_insecure_tenant_needs_a_loopback_address(shell_of_api: shells.Shell) -> None:
    outcome = shell_of_api("api", "--host", "0.0.0.0", "--insecure-tenant", TENANT)
    refused(outcome, 3, "--insecure-tenant", "0.0.0.0", "goalworker keys create")


def test_another_tracking_mode_than_the_stored_one_is_refused(shell_of_api: shells.Shell, database_url: str) -> None:
    support.run(support.execute(database_url, "INSERT INTO installation VALUES (1, false)"))
    refused(shell_of_api("api"), 3, "GOALWORKER_ENROLLMENTS__TRACKING=true")


def refused(outcome: Outcome, code: int, *parts: str) -> None:
    """Check the exit code, and that the last line contains all of these."""
    assert (outcome.code, outcome.out) == (code, ""), outcome
    for part in parts:
        assert part in shells.last_words(outcome)
