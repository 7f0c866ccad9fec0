"""`make bench`: the speed of goalworker beside Kafka's client, PostgreSQL's COPY and other programs, in one run.

Each program works off a backlog of its own, in turn with the others, round after round. After each round the results
are counted: a speed with missing or surplus results is discarded. The machine is shared, so only ratios within a run
are meaningful; `make bench-table` writes the last results into tests/bench/README.md. At the end stand the indexes that
nothing has read in any of the measured databases.

QUICK=1: the first rows and a plain loop only, on an eighth of the events; exits with 1 where goalworker has become
slow (guard.py). SHARE=20: everything on a twentieth, as a smoke test, whose results are in dist/bench.json only.
ONLY="goals hits": these parts, whose results replace their last ones.
"""

import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from goalworker import embedded
from tests.bench import (
    beside,
    cells,
    figures,
    fresh,
    full,
    guard,
    index_use,
    insight,
    judging,
    latency,
    limits,
    plans,
    profile,
    scale,
    seed,
    steps,
    streams,
    table,
)
from tests.kit import support

ROUNDS, QUICK_SHARE = 3, 8
ENROLLMENTS = 20_000
"""At least so many, for the latency is measured at its full rate in any case."""
RATES, LATENCY_SECONDS = (2_000, 5_000), 30
PART = Path("dist/bench.json")

Results = dict[str, Any]


async def rows(bench: limits.Bench) -> list[Results]:
    """Measure goalworker beside the raw client."""
    return [await _told(row.name, limits.measured(bench, row)) for row in limits.ROWS]


async def guarded(bench: limits.Bench, known: Mapping[str, Any]) -> tuple[list[Results], list[str]]:
    """Measure rows, those that seem slow twice, and return sentences about those that still do."""
    done, sentences = [], []
    for row in limits.ROWS:
        for _ in range(guard.ATTEMPTS):
            result = await _told(row.name, limits.measured(bench, row))
            sentence = guard.slow(result, known)
            if sentence is None:
                break
        done.append(result)
        sentences += [sentence] if sentence else []
    return done, sentences


async def latencies(bench: limits.Bench, rates: tuple[int, ...] = RATES) -> list[Results]:
    """Measure the milliseconds from an event to its exit."""
    seconds = bench.extent.of(LATENCY_SECONDS, 10)
    return [
        await latency.measured(bench.pair, bench.database, bench.folder, rate, seconds, scans=bench.scans)
        for rate in rates
    ]


PARTS: Mapping[str, Callable[[limits.Bench], Awaitable[Any]]] = {
    "rows": rows,
    "fresh": fresh.measured,
    "latency": latencies,
    "judging": judging.measured,
    "insight": insight.measured,
    "plans": plans.measured,
    "profile": profile.measured,
    "beside": beside.measured,
    "streams": streams.measured,
    "goals": scale.goals,
    "enrollments": scale.enrollments,
    "full": full.measured,
    "batches": steps.batches,
    "workers": steps.workers,
    "cells": cells.measured,
    "hits": steps.hits,
}


async def everything(bench: limits.Bench) -> Results:
    """Measure all parts, one after the other; what is measured is kept if a later part fails."""
    results: Results = {"cpus": os.cpu_count()}
    for name in os.environ.get("ONLY", "").split() or PARTS:
        results[name] = await _told(name, PARTS[name](bench))
        results["unread_indexes"] = bench.scans.unread()
        _write(PART, results)
    print(*index_use.lines(results["unread_indexes"]), sep="\n")
    return results


def _write(file: Path, results: Mapping[str, Any]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")


async def quick(bench: limits.Bench) -> tuple[Results, list[str]]:
    """Measure the parts that show whether goalworker has become slow, and take little time."""
    done, sentences = await guarded(bench, json.loads(table.RESULTS.read_text()))
    results = {"rows": done, "latency": await latencies(bench, RATES[:1])}
    return results | {"beside": await _told("beside", beside.measured(bench, (beside.PLAIN,)))}, sentences


async def _told(name: str, work: Awaitable[Any]) -> Any:
    print(name, flush=True)
    began = time.monotonic()
    result = await work
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return result


async def _seed(bench: limits.Bench) -> None:
    url = support.with_database(bench.pair.database_url, bench.database)
    mix = limits.TENTH
    await seed.goals(url, mix.goals, mix.tenants)
    await seed.enrollments(url, mix.goals, mix.tenants, 0, bench.extent.of(limits.EVERY.achievements, ENROLLMENTS))


def _run(extent: figures.Extent, work: Callable[[limits.Bench], Awaitable[Any]]) -> Any:
    """Start the servers, seed a database, and measure."""
    with (
        embedded.pair() as pair,
        tempfile.TemporaryDirectory() as folder,
        support.migrated_database(pair.database_url) as empty,
        support.fresh_database(pair.database_url, f"TEMPLATE {empty}") as database,
    ):
        bench = limits.Bench(pair, empty, database, Path(folder), extent)

        async def seeded() -> Any:
            await _seed(bench)
            return await work(bench)

        return asyncio.run(seeded())


def main() -> int:
    """Measure, print the table, and write the results; return 1 if a quick run found something slow."""
    logging.getLogger("aiokafka").setLevel(
        logging.CRITICAL
    )  # silences the client's warnings about new topics and groups
    if os.environ.get("QUICK") == "1":
        results, sentences = _run(figures.Extent(QUICK_SHARE, 1), quick)
        print(table.of(results))
        print(*sentences or ["the product has not become slow"], sep="\n")
        return 1 if sentences else 0
    share = int(os.environ.get("SHARE") or 1)
    results = _run(figures.Extent(share, ROUNDS if share == 1 else 1), everything)
    if share == 1:
        _write(table.RESULTS, table.updated(json.loads(table.RESULTS.read_text()), results))
    print(table.of(results))
    print(f"written to {table.RESULTS if share == 1 else PART}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
