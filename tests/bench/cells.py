"""Two cells on the same topics, each with a worker and a PostgreSQL of its own, beside one installation."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from goalworker import embedded
from goalworker.domain.cells import ALL_BUCKETS, bucket_of, format_buckets
from goalworker.postgres import migrations
from tests.bench import cpu_quota, drains, figures, limits, load, seed, usage
from tests.kit import support, worker_process

EVENTS, LIMITED_EVENTS, SKIPPED_EVENTS = 1_000_000, 120_000, 1_000_000
# What a new database does once, such as analyzing its tables, takes long where PostgreSQL is the limit: so not too few.
PROCESSORS = 0.15
"""Share of a processor that each PostgreSQL gets where it is to be the limit: two of them leave room for the rest."""

_OUTGOING = ("goal_achieved", "workflow_exit")


@dataclass(frozen=True, slots=True)
class Cell:
    """Server of a cell, the database on it that is cloned for each drain, and the buckets that it owns."""

    server: embedded.Server
    database: str
    buckets: str


@dataclass(frozen=True, slots=True)
class Work:
    """Events a second of the slowest cell; of each cell, CPU microseconds an event, and PostgreSQL's seconds a second.

    Every cell reads every event.
    """

    events_per_second: float
    worker_us: Sequence[float]
    database_us: Sequence[float]
    database_load: Sequence[float]


async def measured(bench: limits.Bench) -> dict[str, Any]:
    """Measure two cells beside one installation, with PostgreSQL as the limit too, and the skipping of a record."""
    async with contextlib.AsyncExitStack() as stack:
        # Both of their own: the bench's other databases would take their part of a server that is limited.
        servers = [stack.enter_context(embedded.postgres()) for _ in range(2)]
        databases = [await stack.enter_async_context(_seeded(server, bench)) for server in servers]
        alone = [Cell(servers[0], databases[0], format_buckets(ALL_BUCKETS))]
        cells = [
            Cell(server, database, format_buckets(buckets))
            for server, database, buckets in zip(servers, databases, _halves(), strict=True)
        ]
        return {
            "unlimited": await _compared(bench, replace(limits.TENTH, events=EVENTS), alone, cells),
            "limited": await _limited(bench, alone, cells) if cpu_quota.is_available() else None,
            "skipping": await _skipping(bench),
        }


@contextlib.asynccontextmanager
async def _seeded(server: embedded.Server, bench: limits.Bench) -> AsyncIterator[str]:
    """Yield a database with goals and enrollments of all tenants, whichever cell owns them."""
    mix = limits.EVERY
    with support.fresh_database(server.address) as database:
        url = support.with_database(server.address, database)
        await asyncio.to_thread(migrations.upgrade, url)
        await seed.goals(url, mix.goals, mix.tenants)
        await seed.enrollments(url, mix.goals, mix.tenants, 0, bench.extent.of(LIMITED_EVENTS, EVENTS // 100))
        await seed.settled(url)
        yield database


def _halves() -> tuple[frozenset[int], frozenset[int]]:
    """Return buckets of every second tenant of the load, and all others."""
    first = frozenset(bucket_of(load.tenant_of(number, limits.TENTH.tenants)) for number in range(0, 10, 2))
    return first, ALL_BUCKETS - first


# --- two cells beside one installation ---


async def _limited(bench: limits.Bench, alone: Sequence[Cell], cells: Sequence[Cell]) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        for cell in cells:
            stack.enter_context(cpu_quota.limited(cell.server.pid, PROCESSORS))
        compared = await _compared(bench, replace(limits.EVERY, events=LIMITED_EVENTS), alone, cells)
    return compared | {"processors": PROCESSORS}


async def _compared(bench: limits.Bench, mix: load.Mix, alone: Sequence[Cell], cells: Sequence[Cell]) -> dict[str, Any]:
    rounds = []
    async with bench.stage(bench.part(mix)) as stage:
        for _ in range(bench.extent.rounds):
            rounds.append((await _drained(stage, alone), await _drained(stage, cells)))
            print("  one, two cells:", *(f"{work.events_per_second:,.0f}" for work in rounds[-1]), flush=True)
    one, two = zip(*rounds, strict=True)
    times = figures.shares([work.events_per_second for work in two], [work.events_per_second for work in one], times=1)
    return {"one": _figures(one), "two": _figures(two), "times": times}


def _figures(done: Sequence[Work]) -> dict[str, Any]:
    return {
        "events_per_second": figures.spread([work.events_per_second for work in done]),
        "worker_us": _medians([work.worker_us for work in done]),
        "database_us": _medians([work.database_us for work in done]),
        "database_load": _medians([work.database_load for work in done]),
    }


def _medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [round(statistics.median(of_cell), 2) for of_cell in zip(*rounds, strict=True)]


async def _drained(stage: drains.Stage, cells: Sequence[Cell]) -> Work:
    """Let the workers of cells work off the same backlog side by side, and check their results together."""
    before = await drains.ends(stage, _OUTGOING)
    async with contextlib.AsyncExitStack() as stack:
        urls = [stack.enter_context(_fresh(cell)) for cell in cells]
        groups = [f"group-{time.time_ns()}-{number}" for number in range(len(cells))]
        workers = [
            await stack.enter_async_context(_worker(stage, cell, url, group))
            for cell, url, group in zip(cells, urls, groups, strict=True)
        ]
        for worker in workers:
            await worker.said("worker_ready")
        pids = [*(worker.process.pid for worker in workers), *(cell.server.pid for cell in cells)]
        used, began = [usage.of(pid).cpu_seconds for pid in pids], time.monotonic()
        speeds = await asyncio.gather(
            *(drains.speed(stage, group, [worker]) for group, worker in zip(groups, workers, strict=True))
        )
        took = time.monotonic() - began
        seconds = [usage.of(pid).cpu_seconds - earlier for pid, earlier in zip(pids, used, strict=True)]
        await drains.check(stage, urls, before)
    each_us = [second * 1e6 / stage.mix.events for second in seconds]
    count = len(cells)
    return Work(min(speeds), each_us[:count], each_us[count:], [second / took for second in seconds[count:]])


@contextlib.contextmanager
def _fresh(cell: Cell) -> Iterator[str]:
    options = f"TEMPLATE {cell.database} STRATEGY FILE_COPY"
    with support.fresh_database(cell.server.address, options) as name:
        yield support.with_database(cell.server.address, name)


@contextlib.asynccontextmanager
async def _worker(stage: drains.Stage, cell: Cell, url: str, group: str) -> AsyncIterator[worker_process.Worker]:
    there = worker_process.Installation(stage.pair.bootstrap_servers, url, stage.topics, stage.folder)
    worker = there.start(KAFKA__GROUP_ID=group, CELL__BUCKETS=cell.buckets, LOG__LEVEL="info")
    async with worker_process.stopping(worker):
        yield worker


# --- a record of another cell ---


async def _skipping(bench: limits.Bench) -> list[dict[str, Any]]:
    """Work off events that match nothing: as their cell, as another one, and as one that trusts keys."""
    tenants = {bucket_of(load.tenant_of(number, limits.NOTHING.tenants)) for number in range(limits.NOTHING.tenants)}
    foreign = format_buckets(ALL_BUCKETS - tenants)
    ways: dict[str, dict[str, Any]] = {
        "its own, which match nothing": {},
        "of other cells": {"CELL__BUCKETS": foreign},
        "of other cells, whose keys are trusted": {"CELL__BUCKETS": foreign, "CELL__TRUST_KEYS": "true"},
    }
    async with bench.stage(bench.part(replace(limits.NOTHING, events=SKIPPED_EVENTS))) as stage:
        rounds = [[await drains.product(stage, **way) for way in ways.values()] for _ in range(bench.extent.rounds)]
    return [
        {
            "name": name,
            "events_per_second": figures.spread([drain.events_per_second for drain in done]),
            "cpu_us": limits.cpu(done),
        }
        for name, done in zip(ways, zip(*rounds, strict=True), strict=True)
    ]
