"""Speed by batch size, by number of workers, and by share of hits."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.bench import drains, figures, limits, load

BATCHES = (500, 1_000, 2_000, 5_000, 10_000)
WORKERS = (1, 2, 3)
# Fewer events where each costs more.
HITS = {0: 1_000_000, 1: 600_000, 10: 200_000, 50: 100_000, 100: 60_000}
BATCH_EVENTS, WORKER_EVENTS = 500_000, 1_000_000


async def batches(bench: limits.Bench) -> list[dict[str, Any]]:
    """Work off the 10 %/1 % mix in batches of each size."""
    async with bench.stage(bench.part(replace(limits.TENTH, events=BATCH_EVENTS))) as stage:
        rounds = [
            [await drains.product(stage, BATCH__MAX_RECORDS=records) for records in BATCHES] for _ in _rounds(bench)
        ]
    return _results("records", BATCHES, rounds)


async def workers(bench: limits.Bench) -> list[dict[str, Any]]:
    """Work off the 10 %/1 % mix with each number of workers, all on this machine."""
    async with bench.stage(bench.part(replace(limits.TENTH, events=WORKER_EVENTS))) as stage:
        rounds = [[await drains.product(stage, workers=count) for count in WORKERS] for _ in _rounds(bench)]
    return _results("workers", WORKERS, rounds)


async def hits(bench: limits.Bench) -> list[dict[str, Any]]:
    """Work off mixes with each percentage of hits, all of which achieve and exit."""
    mixes = [bench.part(load.Mix(events, hits=share, achieved=share)) for share, events in HITS.items()]
    async with contextlib.AsyncExitStack() as stack:
        stages = [await stack.enter_async_context(bench.stage(mix)) for mix in mixes]
        rounds = [[await drains.product(stage) for stage in stages] for _ in _rounds(bench)]
    return _results("hits_percent", list(HITS), rounds)


def _rounds(bench: limits.Bench) -> range:
    return range(bench.extent.rounds)


def _results(name: str, steps: Sequence[int], rounds: list[list[drains.Drain]]) -> list[dict[str, Any]]:
    by_step = [[drain.events_per_second for drain in done] for done in zip(*rounds, strict=True)]
    for step, speeds in zip(steps, by_step, strict=True):
        print(f"  {step:,}:", *(f"{speed:,.0f}" for speed in speeds), flush=True)
    return [{name: step, "events_per_second": figures.spread(own)} for step, own in zip(steps, by_step, strict=True)]
