"""Databases that nobody analyzes: a new one beside an analyzed one, and one that grows from nothing under a worker."""

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import asyncpg

from tests.bench import drains, figures, limits, load, scale, seed
from tests.kit import support, worker_process

ENROLLMENTS = 1_000_000
EVENTS = 500_000
# Autovacuum would analyze the tables now and then, and hide what a worker does without.
_TABLES = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"


async def measured(bench: limits.Bench) -> dict[str, Any]:
    """Measure the second mix on a database that nobody analyzed, and on one that grew from nothing."""
    return {"new": await _new(bench), "grown": await _grown(bench)}


# --- a new database ---


async def _new(bench: limits.Bench) -> dict[str, Any]:
    """Work off the mix on a new database and on a copy of it that is analyzed, in turn."""
    with _copy(bench, bench.database) as new:
        await _switch_off_autovacuum(_url(bench, new))
        with _copy(bench, new) as copy:
            await support.execute(_url(bench, copy), "VACUUM ANALYZE")
            async with bench.stage(bench.part(limits.TENTH), new) as stage:
                in_turn = drains.in_turn(bench.extent.rounds, stage, replace(stage, database=copy))
                async for done, analyzed in in_turn:
                    _print("new", done, analyzed)
    return _result(done, analyzed)


# --- from nothing ---


async def _grown(bench: limits.Bench) -> dict[str, Any]:
    """Let a worker grow a database from nothing, then work off the mix; the same is done by one that starts anew."""
    count = bench.extent.of(ENROLLMENTS, 10_000)
    mix = scale.spread_out(bench.part(replace(limits.TENTH, events=EVENTS)), count)
    growing, done, analyzed = list[float](), list[drains.Drain](), list[drains.Drain]()
    for _ in range(bench.extent.rounds):
        with _copy(bench, bench.empty) as name:
            await seed.goals(_url(bench, name), mix.goals, mix.tenants)
            await _switch_off_autovacuum(_url(bench, name))
            async with _arriving(bench, mix, count) as (topics, no_enrollments):
                stage = drains.Stage(bench.pair, name, topics, bench.folder, mix, in_place=True, scans=bench.scans)
                rate, drain = await _grow(stage, count)
                growing.append(rate)
                done.append(drain)
                await support.execute(_url(bench, name), "VACUUM ANALYZE")
                without = {**topics, load.LIFECYCLE: no_enrollments}
                analyzed.append(await drains.product(replace(stage, topics=without)))
        _print(f"{count:,} enrollments at {growing[-1]:,.0f}/s, then", done, analyzed)
    enrolled = {"enrollments": count, "enrollments_per_second": figures.spread(growing)}
    return enrolled | _result(done, analyzed)


@contextlib.asynccontextmanager
async def _arriving(bench: limits.Bench, mix: load.Mix, count: int) -> AsyncIterator[tuple[dict[str, str], str]]:
    """Create topics with a backlog of enrollments, and one without any; delete them afterwards."""
    topics, servers = support.fresh_topics(), bench.pair.bootstrap_servers
    empty = {load.LIFECYCLE: support.fresh_topics()[load.LIFECYCLE]}
    for each in (topics, empty):
        await support.create_topics(servers, each)
    try:
        await load.send_all(servers, topics, load.enrollments(mix, count))
        yield topics, empty[load.LIFECYCLE]
    finally:
        for each in (topics, empty):
            await support.delete_topics(servers, each)


async def _grow(stage: drains.Stage, count: int) -> tuple[float, drains.Drain]:
    """Let one worker record all enrollments, and then the mix; return the enrollments a second, and the drain."""
    async with stage.fresh() as url:
        there = worker_process.Installation(stage.pair.bootstrap_servers, url, stage.topics, stage.folder)
        group, cpu = f"group-{time.time_ns()}", dict[str, float]()
        before = await drains.ends(stage, ("goal_achieved", "workflow_exit"))
        async with worker_process.stopping(there.start(KAFKA__GROUP_ID=group, LOG__LEVEL="info")) as worker:
            rate = await drains.speed(replace(stage, mix=replace(stage.mix, events=count)), group, [worker])
            with _frozen(worker):
                await load.send(stage.pair.bootstrap_servers, stage.topics, stage.mix)
            with stage.used([worker], cpu):
                speed = await drains.speed(stage, group, [worker], before=count)
            await drains.check(stage, [url], before)
    return rate, drains.Drain(speed, cpu)


@contextlib.contextmanager
def _frozen(worker: worker_process.Worker) -> Iterator[None]:
    """Stop a worker, so that all its work is there at once when it continues."""
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)


# --- both ---


@contextlib.contextmanager
def _copy(bench: limits.Bench, database: str) -> Iterator[str]:
    with support.fresh_database(bench.pair.database_url, f"TEMPLATE {database} STRATEGY FILE_COPY") as name:
        yield name


def _url(bench: limits.Bench, database: str) -> str:
    return support.with_database(bench.pair.database_url, database)


async def _switch_off_autovacuum(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for (table,) in await connection.fetch(_TABLES):
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    finally:
        await connection.close()


def _print(name: str, done: Sequence[drains.Drain], analyzed: Sequence[drains.Drain]) -> None:
    speeds = f"{done[-1].events_per_second:,.0f}, analyzed {analyzed[-1].events_per_second:,.0f}"
    print(f"  {name} {speeds}", flush=True)


def _result(done: Sequence[drains.Drain], analyzed: Sequence[drains.Drain]) -> dict[str, Any]:
    own, other = ([drain.events_per_second for drain in drained] for drained in (done, analyzed))
    return {
        "events_per_second": figures.spread(own),
        "analyzed_events_per_second": figures.spread(other),
        "of_analyzed_percent": figures.shares(own, other),
        "cpu_us": limits.cpu(done),
        "analyzed_cpu_us": limits.cpu(analyzed),
    }
