"""Latency of the API under a steady load, on a database with years of data: `make bench-api`.

The load is open: a request is sent when it is due, whether or not earlier ones have been answered, and its latency
counts from then.
"""

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from goalworker import embedded
from goalworker.embedded import machine
from goalworker.postgres import migrations
from tests.bench import console, feeds, index_use, rows

REQUESTS_PER_SECOND = 50
LOAD_SECONDS = 120
"""Long enough for cached statistics to expire."""
QUICK_SHARE, QUICK_SECONDS = 20, 30
REQUEST_SECONDS, READY_SECONDS = 35.0, 60.0
TARGET_MS = {"create": 50, "list": 50, "enrollment": 50, "stats": 200, "stats, large": 200}
TARGET_MS |= {"workflows": 150, "series, large": 150, "time to goal, large": 150}
TARGET_P99_MS = {"explain": 100}
TARGET_FIRST_MS = 200
# Reports of the console, which are cached after the first answer, as statistics are.
REPORT_PATHS = {
    "workflows": "/api/v1/workflows",
    "series, large": f"/api/v1/workflows/{rows.LARGE}/stats/series",
    "time to goal, large": f"/api/v1/workflows/{rows.LARGE}/stats/time-to-goal",
}
REPORTS = 40
# Explanations come after the load: a person asks for one at a time.
EXPLANATIONS, EXPLANATIONS_PER_SECOND = 200, 5
# Parts of a year of enrollments; the load asks for the whole year.
FIRST_ASKED = (
    ("last day", "2025-12-31T00:00:00Z", None),
    ("last month", "2025-12-01T00:00:00Z", None),
    ("a month in spring", "2025-04-01T00:00:00Z", "2025-05-01T00:00:00Z"),
    ("whole", None, None),
)
POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "8GB"}

# Ten requests; half of the stats are of the large workflow.
MIX = ("create", "list", "enrollment", "enrollment", "list", "create", "enrollment", "stats", "list", "enrollment")

Times = dict[str, list[float]]
"""In milliseconds, by call."""


class Load:
    """Open load, and the latency of each request."""

    def __init__(self, client: httpx.AsyncClient, enrollment_ids: Sequence[str], share: int, seconds: int) -> None:
        self.times: Times = defaultdict(list)
        self.failures: dict[str, int] = defaultdict(int)
        self._client = client
        self._seconds = seconds
        self._enrollment_ids = itertools.cycle(enrollment_ids)
        self._workflows = itertools.cycle(range(1, min(rows.ORDINARY_WORKFLOWS, rows.GOALS // share // 3)))
        self._numbers = itertools.count()

    async def run(self) -> None:
        """Send requests for as long as the load lasts."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as sending:
            for number in range(REQUESTS_PER_SECOND * self._seconds):
                due = began + number / REQUESTS_PER_SECOND
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                name = MIX[number % len(MIX)]
                if name == "stats" and number // len(MIX) % 2:
                    name = "stats, large"
                sending.create_task(self.send(name, due))

    async def explain(self, contact_ids: Sequence[str]) -> None:
        """Ask for explanations of contacts of the large workflow, at a steady pace."""
        began = time.perf_counter()
        for number, contact_id in enumerate(itertools.islice(itertools.cycle(contact_ids), EXPLANATIONS)):
            due = began + number / EXPLANATIONS_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            path = f"/api/v1/workflows/{rows.LARGE}/explanations?contact_id={contact_id}"
            await self.send("explain", max(due, time.perf_counter()), path)

    async def report(self) -> None:
        """Ask for each report of the large workflow again and again, one at a time."""
        for _ in range(REPORTS):
            for name, path in REPORT_PATHS.items():
                await self.send(name, time.perf_counter(), path)

    async def send(self, name: str, due: float, path: str | None = None) -> None:
        """Send one request that was due at a moment of time.perf_counter."""
        try:
            answer = await self._request(name, path)
            fault = "" if answer.is_success else f"status {answer.status_code}"
        except httpx.TransportError as error:
            fault = type(error).__name__
        self.times[name].append((time.perf_counter() - due) * 1000)
        if fault:
            self.failures[f"{name}: {fault}"] += 1

    async def _request(self, name: str, path: str | None) -> httpx.Response:
        workflow = f"/api/v1/workflows/workflow-{next(self._workflows)}"
        match name:
            case "create":
                number = next(self._numbers)
                body = {"goal_type": "tag_added", "criteria": {"tag_id": f"t{number}"}}
                return await self._client.post(f"/api/v1/workflows/new-{number}/goals", json=body)
            case "list":
                return await self._client.get(f"{workflow}/goals")
            case "enrollment":
                return await self._client.get(f"/api/v1/enrollments/{next(self._enrollment_ids)}")
            case "stats":
                return await self._client.get(f"{workflow}/goals/stats")
            case _:
                return await self._client.get(path or f"/api/v1/workflows/{rows.LARGE}/goals/stats")


async def first_asked(load: Load) -> None:
    """Ask for statistics of the large workflow that are not cached yet."""
    for name, since, until in FIRST_ASKED:
        span = {name: moment for name, moment in (("from", since), ("to", until)) if moment}
        path = str(httpx.URL(f"/api/v1/workflows/{rows.LARGE}/goals/stats", params=span))
        await load.send(f"stats, large, {name}, first asked", time.perf_counter(), path)
    for name, path in REPORT_PATHS.items():
        await load.send(f"{name}, first asked", time.perf_counter(), path)


# --- the API as a process ---


@contextlib.asynccontextmanager
async def api(database_url: str, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """Start `goalworker api`; return a client that has a key, and the id of the process."""
    ports = {"API__PORT": str(machine.free_port()), "OPS__PORT": str(machine.free_port())}
    environment = _environment({"DATABASE__URL": database_url, "LOG__LEVEL": "warning", **ports})
    key = _key(environment, folder)
    with _process(environment, folder) as pid:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{ports['API__PORT']}",
            headers={"X-API-Key": key},
            timeout=REQUEST_SECONDS,
            trust_env=False,
        ) as client:
            await _ready(f"http://127.0.0.1:{ports['OPS__PORT']}/healthz/ready")
            yield client, pid


def _key(environment: Mapping[str, str], folder: Path) -> str:
    words = (
        "keys",
        "create",
        "--tenant",
        rows.TENANT,
        "--scope",
        "goals:read,goals:write",
        "--name",
        "bench",
        "--json",
    )
    made = subprocess.run(
        _command(*words), env=environment, cwd=folder, capture_output=True, check=True, timeout=READY_SECONDS
    )
    key: str = json.loads(made.stdout)["key"]
    return key


@contextlib.contextmanager
def _process(environment: Mapping[str, str], folder: Path) -> Iterator[int]:
    process = subprocess.Popen(_command("api"), env=environment, cwd=folder)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(READY_SECONDS)
        finally:
            process.kill()


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "goalworker", *words]


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("GOALWORKER_")}
    return others | {f"GOALWORKER_{name}": value for name, value in settings.items()}


async def _ready(url: str) -> None:
    async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).is_success:
                    return
            await asyncio.sleep(0.1)


# --- results ---


def report(times: Times) -> Iterator[str]:
    """Yield the table, a line for each call."""
    yield f"{'call':<44}{'requests':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}  target p95"
    for name, took in sorted(times.items()):
        p50, p95, p99 = (_percentile(took, percent) for percent in (50, 95, 99))
        target, share = TARGET_P99_MS.get(name), " at p99"
        if target is None:
            target, share = _target_p95(name), ""
        verdict = "met" if (p99 if share else p95) <= target else "missed"
        yield f"{name:<44}{len(took):>10}{p50:>9.1f}{p95:>9.1f}{p99:>9.1f}  {target} ms{share}: {verdict}"


def _target_p95(name: str) -> int:
    is_page = name.startswith("console, ") and not name.endswith("first asked")
    return console.TARGET_MS if is_page else TARGET_MS.get(name, TARGET_FIRST_MS)


def _percentile(took: Sequence[float], percent: int) -> float:
    return took[0] if len(took) == 1 else statistics.quantiles(took, n=100, method="inclusive")[percent - 1]


async def measure(database_url: str, folder: Path, share: int, seconds: int) -> int:
    """Fill the database, load the API, and print the latencies; return 1 if a request failed."""
    began, busy = time.perf_counter(), os.getloadavg()[0]
    enrollment_ids, contact_ids = await rows.fill(database_url, share)
    sizes = f"{rows.GOALS // share:,} goals, {rows.ENROLLMENTS // share:,} enrollments"
    print(f"{sizes}: filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    async with api(database_url, folder) as (client, pid):
        load = Load(client, enrollment_ids, share, seconds)
        await first_asked(load)
        await load.run()
        await load.explain(contact_ids)
        await load.report()
        pages = await console.measure(client, contact_ids[0])
        of_feeds = {
            path: await feeds.share_of_a_processor(client, pid, database_url, path)
            for path in (feeds.API, feeds.CONSOLE)
        }
    machine_is = f"{os.cpu_count()} CPUs, load average {busy:.1f} before"
    print(f"{sizes}; {REQUESTS_PER_SECOND} requests/s for {seconds} s; {machine_is}")
    print(*report(load.times | pages.times), *console.lines(pages.sizes), sep="\n")
    for path, percent in of_feeds.items():
        print(feeds.line(percent, path))
    failures = {**load.failures, **pages.failures}
    for fault, count in sorted(failures.items()):
        print(f"FAILED {fault}: {count} times")
    scans = index_use.Scans()
    await scans.note(database_url)
    print(*index_use.lines(scans.unread()), sep="\n")
    return 1 if failures else 0


def main() -> int:
    """Run everything; QUICK=1 in the environment takes a part of the rows."""
    share, seconds = (QUICK_SHARE, QUICK_SECONDS) if os.environ.get("QUICK") == "1" else (1, LOAD_SECONDS)
    with embedded.postgres(extra_settings=POSTGRES) as server, tempfile.TemporaryDirectory() as folder:
        migrations.upgrade(server.address)
        return asyncio.run(measure(server.address, Path(folder), share, seconds))


if __name__ == "__main__":
    sys.exit(main())
