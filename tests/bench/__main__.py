"""`make bench`: how fast the product is beside Kafka's own client, in one run; `make bench QUICK=1` takes 3 minutes.

Each row has a backlog of its own, which the raw drain and the product work off in turn, round after round. What came of
it is counted after every round: a speed with anything missing, or too much, is no result. The machine is shared, so
only ratios within a run mean something; `make bench-table` puts the last results into the README.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goalworker import embedded
from tests import support
from tests.bench import drains, latency, load, plain, seed, table

ROUNDS, QUICK_SHARE = 3, 8
ENROLLMENTS = 100_000
PLAIN_EVENTS = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """A mix that is worked off; target is the share of the raw drain that it is meant to reach, in percent."""

    name: str
    mix: load.Mix
    target: float
    settings: Mapping[str, int] = field(default_factory=dict)


TENTH = load.Mix(1_000_000, hits=10, achieved=1)
ROWS = (
    Row("nothing matches", load.Mix(2_000_000, hits=0, achieved=0), 75),
    Row("10 % hit a goal, 1 % achieve", TENTH, 30),
    Row("the same, batches of 5,000", TENTH, 40, {"BATCH__MAX_RECORDS": 5_000}),
    Row("every event achieves and exits", load.Mix(200_000, hits=100, achieved=100), 4),
)
RATES = (2_000, 5_000)


async def measured(pair: embedded.Pair, database: str, folder: Path, row: Row, rounds: int) -> dict[str, Any]:
    """Work a row's backlog off in turn: by the raw drain, by the product."""
    raw, product = [], []
    async with drains.backlog(pair, row.mix) as topics:
        stage = drains.Stage(pair, database, topics, folder, row.mix)
        for _ in range(rounds):
            raw.append(await drains.program(stage, "tests.bench.raw"))
            product.append(await drains.product(stage, **row.settings))
            print(f"  raw {raw[-1].events_per_second:,.0f}, product {product[-1].events_per_second:,.0f}", flush=True)
    shares = [100 * ours.events_per_second / limit.events_per_second for limit, ours in zip(raw, product, strict=True)]
    return {
        "name": row.name,
        "events": row.mix.events,
        "raw_events_per_second": spread([drain.events_per_second for drain in raw]),
        "events_per_second": spread([drain.events_per_second for drain in product]),
        "share_percent": spread(shares),
        "target_percent": row.target,
        "cpu_us": {who: round(statistics.median(d.cpu_us[who] for d in product), 1) for who in product[0].cpu_us},
        "peak_mib": max(drain.peak_bytes for drain in product) >> 20,
    }


async def beside_a_plain_loop(pair: embedded.Pair, database: str, folder: Path, rounds: int) -> dict[str, Any]:
    """The same mix by a loop as one writes it first: pydantic, SQLAlchemy, a transaction and a commit an event."""
    mix = load.Mix(PLAIN_EVENTS, TENTH.hits, TENTH.achieved)
    speeds = []
    async with drains.backlog(pair, mix) as topics:
        stage = drains.Stage(pair, database, topics, folder, mix)
        for _ in range(rounds):
            speeds.append(await plain.drained(stage))
            print(f"  plain loop {speeds[-1]:,.0f}", flush=True)
    return {"events": mix.events, "events_per_second": spread(speeds)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest and largest."""
    digits = 1 if max(values) < 1_000 else 0
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in named.items()}


async def run(pair: embedded.Pair, database: str, folder: Path, share: int) -> dict[str, Any]:
    """Measure everything, on one part of so many of the events."""
    url = support.with_database(pair.database_url, database)
    await seed.goals(url, TENTH.goals, TENTH.tenants)
    await seed.enrollments(url, TENTH.goals, TENTH.tenants, 0, max(ENROLLMENTS, *(r.mix.achievements for r in ROWS)))
    rounds = 1 if share > 1 else ROUNDS
    results: dict[str, Any] = {"cpus": os.cpu_count(), "rows": [], "latency": []}
    for row in ROWS:
        print(row.name, flush=True)
        part = Row(row.name, row.mix.part(share), row.target, row.settings)
        results["rows"].append(await measured(pair, database, folder, part, rounds))
    for rate in RATES:
        results["latency"].append(await latency.measured(pair, database, folder, rate, 30 // min(share, 3)))
        print(results["latency"][-1], flush=True)
    results["plain"] = await beside_a_plain_loop(pair, database, folder, rounds)
    return results


def main() -> int:
    """Run it all and write the results; QUICK=1 in the environment takes a part, and writes nothing."""
    quick = os.environ.get("QUICK") == "1"
    with (
        embedded.pair() as pair,
        tempfile.TemporaryDirectory() as folder,
        support.migrated_database(pair.database_url) as database,
    ):
        results = asyncio.run(run(pair, database, Path(folder), QUICK_SHARE if quick else 1))
    print(table.of(results))
    if not quick:
        table.RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
