"""The same load with much more data: a million goals or ten million enrollments, in rounds with an ordinary amount."""

import contextlib
import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from tests.bench import drains, figures, limits, load, seed, usage
from tests.kit import support, worker_process

GOALS = (1_000, 10_000, 100_000, 1_000_000)
GOALS_PER_TENANT = 100
ENROLLMENTS = (100_000, 1_000_000, 10_000_000)
EVENTS = 500_000
READY_SECONDS = 120.0
MB = 1_000_000

Rounds = list[list[drains.Drain]]
"""Of each round what each database gave."""


async def goals(bench: limits.Bench) -> list[dict[str, Any]]:
    """Work off the 10 %/1 % mix with each number of goals, a hundred of each tenant."""
    counts = [bench.extent.of(count, GOALS[0]) for count in GOALS]
    mixes = [spread_out(bench.part(_mix(count)), ENROLLMENTS[0]) for count in counts]
    async with staged(bench, mixes, [ENROLLMENTS[0]] * len(mixes)) as stages:
        rounds = [await _round(stages) for _ in range(bench.extent.rounds)]
        loads = [[await _loaded(stage) for stage in stages] for _ in range(bench.extent.rounds)]
    return [
        {"goals": mix.goals, "tenants": mix.tenants} | speed | memory
        for mix, speed, memory in zip(mixes, _speeds(rounds), _memory(rounds, loads), strict=True)
    ]


@contextlib.asynccontextmanager
async def most_goals(bench: limits.Bench) -> AsyncIterator[drains.Stage]:
    """Measure the largest number of goals alone."""
    mix = spread_out(bench.part(_mix(bench.extent.of(GOALS[-1], GOALS[0]))), ENROLLMENTS[0])
    async with staged(bench, [mix], [ENROLLMENTS[0]]) as (stage,):
        yield stage


async def enrollments(bench: limits.Bench) -> list[dict[str, Any]]:
    """Work off the 10 %/1 % mix with each number of enrollments, with the achieving ones spread over all."""
    counts = [bench.extent.of(count, ENROLLMENTS[0] // 10) for count in ENROLLMENTS]
    mixes = [spread_out(bench.part(_mix(GOALS[0])), count) for count in counts]
    async with staged(bench, mixes, counts) as stages:
        rounds = [await _round(stages) for _ in range(bench.extent.rounds)]
    return [{"enrollments": count} | speed for count, speed in zip(counts, _speeds(rounds), strict=True)]


def _mix(goals: int) -> load.Mix:
    return replace(limits.TENTH, events=EVENTS, goals=goals, tenants=goals // GOALS_PER_TENANT)


def spread_out(mix: load.Mix, enrollments: int) -> load.Mix:
    """Return a stride that spreads achieving enrollments as far as possible and meets every goal in turn."""
    furthest = enrollments // max(mix.achievements, 1)
    return replace(mix, stride=next(each for each in range(furthest, 0, -1) if math.gcd(each, mix.goals) == 1))


@contextlib.asynccontextmanager
async def staged(
    bench: limits.Bench, mixes: list[load.Mix], enrollments: list[int]
) -> AsyncIterator[list[drains.Stage]]:
    """Yield a stage with a database of its own for each mix, which is not cloned."""
    async with contextlib.AsyncExitStack() as stack:
        stages = []
        for mix, count in zip(mixes, enrollments, strict=True):
            database = stack.enter_context(support.fresh_database(bench.pair.database_url, f"TEMPLATE {bench.empty}"))
            url = support.with_database(bench.pair.database_url, database)
            began = time.monotonic()
            await seed.goals(url, mix.goals, mix.tenants)
            await seed.enrollments(url, mix.goals, mix.tenants, 0, count)
            print(f"  {mix.goals:,} goals, {count:,} enrollments: {time.monotonic() - began:.0f} s", flush=True)
            stages.append(await stack.enter_async_context(bench.stage(mix, database, in_place=True)))
        await seed.settled(*(support.with_database(bench.pair.database_url, stage.database) for stage in stages))
        yield stages


async def _round(stages: list[drains.Stage]) -> list[drains.Drain]:
    done = [await drains.product(stage) for stage in stages]
    print("  ", *(f"{drain.events_per_second:,.0f}" for drain in done), flush=True)
    return done


async def _loaded(stage: drains.Stage) -> tuple[float, int]:
    """Start an idle worker; return the seconds until it was ready, and its memory then."""
    topics = support.fresh_topics()
    await support.create_topics(stage.pair.bootstrap_servers, topics)
    url = support.with_database(stage.pair.database_url, stage.database)
    began = time.monotonic()
    worker = worker_process.Installation(stage.pair.bootstrap_servers, url, topics, stage.folder).start()
    try:
        await worker.said("worker_ready", timeout_seconds=READY_SECONDS)
        seconds, resting = time.monotonic() - began, usage.resting_bytes(worker.process.pid)
        worker.stop()
    finally:
        worker.kill()
    await support.delete_topics(stage.pair.bootstrap_servers, topics)
    return seconds, resting


def _speeds(rounds: Rounds) -> list[dict[str, Any]]:
    """Return the speeds, each relative to the first of its round."""
    by_stage = [[drain.events_per_second for drain in done] for done in zip(*rounds, strict=True)]
    return [
        {"events_per_second": figures.spread(own), "of_first_percent": figures.shares(own, by_stage[0])}
        for own in by_stage
    ]


def _memory(rounds: Rounds, loads: list[list[tuple[float, int]]]) -> Iterator[dict[str, Any]]:
    for done, loaded in zip(zip(*rounds, strict=True), zip(*loads, strict=True), strict=True):
        yield {
            "ready_seconds": figures.spread([seconds for seconds, _ in loaded]),
            "resting_mb": max(resting for _, resting in loaded) // MB,
            "peak_mb": max(drain.peak_bytes for drain in done) // MB,
        }
