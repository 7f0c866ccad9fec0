"""Kafka Streams beside goalworker: the second mix by both in turn, and the time from an event to its exit."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from goalworker import errors
from goalworker.embedded import machine, server
from tests.bench import drains, figures, latency, limits, streams_app, usage
from tests.kit import support

MIX = replace(limits.TENTH, events=2_000_000, keyed=True)
"""With each event in the partition of its key: an application would have to repartition others, goalworker need not."""
WORKERS = (1, 2)
WARM_SHARE = 4
"""The clock starts when a quarter of the events is done: the JVM has compiled the program by then."""
RATE, LATENCY_SECONDS = 2_000, 30

CONFIGURATION: Mapping[str, object] = MappingProxyType(
    {
        "processing.guarantee": "exactly_once_v2",
        "num.stream.threads": 2,
        "topology.optimization": "all",
    }
)
"""Larger caches and polls than by default do not make it faster (README.md)."""
COMMIT_MS = (100, 1_000)
"""The default with exactly_once_v2, and one for more throughput at the price of latency."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Number of events done by a time, and the CPU seconds of the application and of the broker until then."""

    at: float
    done: int
    cpu: Mapping[str, float]

    def drain(self, end: "Mark", peak_bytes: int) -> drains.Drain:
        events = end.done - self.done
        cpu_us = {who: round((end.cpu[who] - seconds) * 1e6 / events, 2) for who, seconds in self.cpu.items()}
        return drains.Drain(events / (end.at - self.at), cpu_us, peak_bytes)


async def measured(bench: limits.Bench) -> dict[str, Any]:
    """Compare speed, CPU and latency; return only why where its jars cannot be fetched."""
    try:
        needed = streams_app.fetched()
    except errors.DependencyError as error:
        return {"left_out": str(error)}
    with streams_app.compiled(needed) as java:
        return await _compared(bench, java)


async def _compared(bench: limits.Bench, java: Sequence[str]) -> dict[str, Any]:
    ours: list[list[drains.Drain]] = [[] for _ in WORKERS]
    theirs: list[list[drains.Drain]] = [[] for _ in COMMIT_MS]
    async with bench.stage(bench.part(MIX)) as stage:
        for _ in range(bench.extent.rounds):
            for workers, own in zip(WORKERS, ours, strict=True):
                own.append(await drains.product(stage, workers=workers))
            for commit_ms, their in zip(COMMIT_MS, theirs, strict=True):
                their.append(await _drained(stage, java, commit_ms))
            last = [done[-1].events_per_second for done in (*ours, *theirs)]
            print("  product, Kafka Streams", *(f"{speed:,.0f}" for speed in last), flush=True)
    seconds = bench.extent.of(LATENCY_SECONDS, 10)
    return {
        "product": [_figures(own) | {"workers": workers} for workers, own in zip(WORKERS, ours, strict=True)],
        "streams": [
            _figures(their) | {"commit_ms": commit_ms, "times": _times(ours[-1], their)}
            for commit_ms, their in zip(COMMIT_MS, theirs, strict=True)
        ],
        "product_latency": await latency.measured(bench.pair, bench.database, bench.folder, RATE, seconds),
        "streams_latency": await _latency(bench, java, seconds),
    }


def _times(ours: Sequence[drains.Drain], theirs: Sequence[drains.Drain]) -> dict[str, float]:
    return figures.shares(_speeds(ours), _speeds(theirs), times=1)


def _figures(done: Sequence[drains.Drain]) -> dict[str, Any]:
    return {
        "events_per_second": figures.spread(_speeds(done)),
        "cpu_us": limits.cpu(done),
        "peak_mib": max(drain.peak_bytes for drain in done) >> 20,
    }


def _speeds(done: Sequence[drains.Drain]) -> list[float]:
    return [drain.events_per_second for drain in done]


def _configuration(commit_ms: int) -> dict[str, object]:
    return {**CONFIGURATION, "commit.interval.ms": commit_ms}


async def _drained(stage: drains.Stage, java: Sequence[str], commit_ms: int) -> drains.Drain:
    """Let the application work off the backlog, and check its results."""
    async with streams_app.prepared(stage) as (app, enrollments):
        with app.running(java, _configuration(commit_ms)) as jvm:
            drain = await _watched(app, enrollments, jvm)
        await streams_app.check(app)
    return drain


async def _watched(app: streams_app.Application, enrollments: int, jvm: server.Server) -> drains.Drain:
    """Return the speed and the CPU from when tables are read and the JVM is warm, to the last event."""
    events, deadline = app.stage.mix.events, time.monotonic() + drains.DONE_SECONDS
    cold, warm = _mark(app, jvm, 0), None
    async with support.admin_client(app.stage.pair.bootstrap_servers) as admin:
        while (done := await drains.committed(admin, app.name, app.stage.inputs)) < events:
            assert time.monotonic() < deadline, f"only {done} of {events} events within {drains.DONE_SECONDS} s"
            _require_running(jvm)
            # Not looked at more often than needed, since the many threads of two JVMs make that costly.
            if not done:
                cold = _mark(app, jvm, 0)
            elif warm is None and done >= events // WARM_SHARE:
                read = await drains.committed(admin, app.name, [app.enrollments])
                warm = _mark(app, jvm, done) if read >= enrollments else None
            await asyncio.sleep(drains.POLL_SECONDS)
    return (warm or cold).drain(_mark(app, jvm, events), usage.of(jvm.pid).peak_bytes)


def _require_running(jvm: server.Server) -> None:
    assert Path("/proc", str(jvm.pid)).exists(), machine.log_end(jvm.log.read_text())


def _mark(app: streams_app.Application, jvm: server.Server, done: int) -> Mark:
    at, pids = time.monotonic(), {"worker": jvm.pid, "broker": app.stage.pair.kafka.pid}
    cpu = {who: usage.of(pid).cpu_seconds for who, pid in pids.items()}
    return Mark(at, done, {**cpu, "database": 0.0})


async def _latency(bench: limits.Bench, java: Sequence[str], seconds: int) -> dict[str, Any]:
    """Return the milliseconds from an event to its exit, at the same rate and in the same way as the product's."""
    mix, topics = latency.mix_of(RATE, seconds), support.fresh_topics()
    servers = bench.pair.bootstrap_servers
    await support.create_topics(servers, topics)
    stage = drains.Stage(bench.pair, bench.database, topics, bench.folder, mix)
    async with streams_app.prepared(stage) as (app, enrollments), support.admin_client(servers) as admin:
        with app.running(java, _configuration(COMMIT_MS[0])):

            async def tables_are_read() -> bool:
                return await drains.committed(admin, app.name, [app.enrollments]) >= enrollments

            await support.until(tables_are_read)
            took = await latency.timed(servers, {**topics, "workflow_exit": app.exits}, mix, RATE)
        await streams_app.check(app)
    await support.delete_topics(servers, topics)
    return took
