"""Insight: how fast it keeps events, and what it takes from the worker beside it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.bench import drains, figures, latency, limits, load, usage
from tests.kit import support, worker_process

BACKLOG = load.Mix(2_000_000, hits=5, achieved=5)
"""Contacts with an enrollment are those of the events that achieve."""

OFFERED = 20_000
OFFERED_SECONDS, LATENCY_SECONDS = 600, 30
FOLLOWING = {"HISTORY__DELAY_SECONDS": 1}


@dataclass(frozen=True, slots=True)
class Row:
    """Events to keep; target is the least number of events a second that a process has to read."""

    name: str
    keep: str
    target: int

    def kept(self, mix: load.Mix) -> int:
        """Return the number of events that are kept of a mix."""
        return mix.events if self.keep == "all" else mix.achievements


ROWS = (Row("5 % kept: HISTORY__KEEP=enrolled", "enrolled", 80_000), Row("all kept: HISTORY__KEEP=all", "all", 40_000))


async def measured(bench: limits.Bench) -> dict[str, Any]:
    """Measure what a process keeps in a second, and the worker with and without it on the same machine."""
    return {
        "rows": await _history(bench),
        "offered_events_per_second": OFFERED,
        "beside": await _beside(bench),
        "latency": await _latency(bench),
    }


# --- history alone ---


async def _history(bench: limits.Bench) -> list[dict[str, Any]]:
    """Let a process read a backlog, whose events of enrolled contacts or of everyone it keeps."""
    async with bench.stage(bench.part(BACKLOG)) as stage:
        rounds = [[await _read(stage, row) for row in ROWS] for _ in range(bench.extent.rounds)]
    return [_result(row, own) for row, own in zip(ROWS, zip(*rounds, strict=True), strict=True)]


async def _read(stage: drains.Stage, row: Row) -> drains.Drain:
    async with stage.fresh() as url:
        there = worker_process.Installation(stage.pair.bootstrap_servers, url, stage.topics, stage.folder)
        group, cpu = f"group-{time.time_ns()}", dict[str, float]()
        settings = {"KAFKA__GROUP_ID": group, "HISTORY__KEEP": row.keep, "HISTORY__DELAY_SECONDS": 0}
        async with worker_process.stopping(there.launch("insight", **settings)) as process:
            await process.said("insight_ready")  # the CPU of the start does not count
            with stage.used([process], cpu):
                speed = await drains.speed(stage, f"{group}-insight", [process], ready="insight_ready")
            peak_bytes = usage.of(process.process.pid).peak_bytes
        found = await _count(url, "SELECT count(*) FROM history_events")
    assert found == row.kept(stage.mix), f"{found} events kept, {row.kept(stage.mix)} expected"
    print(f"  {row.name}: {speed:,.0f}", flush=True)
    return drains.Drain(speed, cpu, peak_bytes)


def _result(row: Row, done: Sequence[drains.Drain]) -> dict[str, Any]:
    return {
        "name": row.name,
        "events_per_second": figures.spread([drain.events_per_second for drain in done]),
        "target": row.target,
        "cpu_us": limits.cpu(done),
        "peak_mib": max(drain.peak_bytes for drain in done) >> 20,
    }


# --- the worker beside it ---


async def _beside(bench: limits.Bench) -> dict[str, Any]:
    """Let the worker work off a backlog while events are offered to other topics, which insight reads or does not."""
    alone, together, followed = [], [], []
    async with bench.stage(bench.part(limits.TENTH)) as stage:
        for _ in range(bench.extent.rounds):
            async with _offered(bench, follow=False):
                alone.append((await drains.product(stage)).events_per_second)
            async with _offered(bench, follow=True) as rates:
                together.append((await drains.product(stage)).events_per_second)
            followed += rates
            print(f"  alone {alone[-1]:,.0f}, beside insight {together[-1]:,.0f}", flush=True)
    return {
        "alone_events_per_second": figures.spread(alone),
        "events_per_second": figures.spread(together),
        "share_percent": figures.shares(together, alone),
        "insight_events_per_second": figures.spread(followed),
    }


@contextlib.asynccontextmanager
async def _offered(bench: limits.Bench, *, follow: bool) -> AsyncIterator[list[float]]:
    """Offer events at a steady rate during the block; the yielded list gets the events a second that insight read."""
    topics, rates = support.fresh_topics(), list[float]()
    await support.create_topics(bench.pair.bootstrap_servers, topics)
    mix = load.Mix(OFFERED * OFFERED_SECONDS, hits=10, achieved=5)
    stage = drains.Stage(bench.pair, bench.database, topics, bench.folder, mix, scans=bench.scans)
    async with _following(stage) if follow else contextlib.nullcontext() as url:
        began = time.monotonic()
        offering = asyncio.create_task(load.offer(bench.pair.bootstrap_servers, topics, mix, OFFERED))
        try:
            yield rates
            assert not offering.done(), f"more than {OFFERED_SECONDS} s"
        finally:
            seconds = time.monotonic() - began
            offering.cancel()
            await asyncio.gather(offering, return_exceptions=True)
        if url is not None:
            rates.append(await _count(url, "SELECT sum(next_offset)::bigint FROM history_positions") / seconds)
    await support.delete_topics(bench.pair.bootstrap_servers, topics)


@contextlib.asynccontextmanager
async def _following(stage: drains.Stage) -> AsyncIterator[str]:
    """Run insight on a database of its own, and yield its URL."""
    async with stage.fresh() as url:
        there = worker_process.Installation(stage.pair.bootstrap_servers, url, stage.topics, stage.folder)
        async with _insight(there):
            yield url


@contextlib.asynccontextmanager
async def _insight(there: worker_process.Installation) -> AsyncIterator[None]:
    async with worker_process.stopping(there.launch("insight", **FOLLOWING)) as process:
        await process.said("insight_ready")
        yield


async def _latency(bench: limits.Bench) -> dict[str, Any]:
    """Measure the time to the exit while insight reads the same events."""
    seconds = bench.extent.of(LATENCY_SECONDS, 10)
    return await latency.measured(
        *(bench.pair, bench.database, bench.folder, OFFERED, seconds),
        achieved=1,
        beside=_insight,
        scans=bench.scans,
    )


async def _count(url: str, query: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()
