"""Goalworker beside the raw client: four mixes, each worked off by both in turn."""

import contextlib
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goalworker import embedded
from tests.bench import copying, drains, figures, index_use, load


@dataclass(frozen=True, slots=True)
class Row:
    """Mix to work off; target is the intended share of the raw drain, in percent."""

    name: str
    mix: load.Mix
    target: float
    settings: Mapping[str, int] = field(default_factory=dict)
    beside_copy: bool = False


NOTHING = load.Mix(2_000_000, hits=0, achieved=0)
TENTH = load.Mix(1_000_000, hits=10, achieved=1)
EVERY = load.Mix(200_000, hits=100, achieved=100)
ROWS = (
    Row("nothing matches", NOTHING, 75),
    Row("10 % hit a goal, 1 % achieve", TENTH, 30),
    Row("the same, batches of 5,000", TENTH, 40, {"BATCH__MAX_RECORDS": 5_000}),
    Row("every event achieves and exits", EVERY, 4, beside_copy=True),
)


@dataclass(frozen=True, slots=True)
class Bench:
    """Servers, databases to be cloned (empty and seeded), a folder, and the extent of the run."""

    pair: embedded.Pair
    empty: str
    database: str
    folder: Path
    extent: figures.Extent
    scans: index_use.Scans = field(default_factory=index_use.Scans)

    @contextlib.asynccontextmanager
    async def stage(self, mix: load.Mix, database: str = "", *, in_place: bool = False) -> AsyncIterator[drains.Stage]:
        """Send a mix, and yield its stage."""
        async with drains.backlog(self.pair, mix) as topics:
            yield drains.Stage(self.pair, database or self.database, topics, self.folder, mix, in_place, self.scans)

    def part(self, mix: load.Mix) -> load.Mix:
        """Return the measured part of a mix."""
        return mix.part(self.extent.share)


@dataclass(slots=True)
class _Rounds:
    raw: list[drains.Drain] = field(default_factory=list)
    product: list[drains.Drain] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)


async def measured(bench: Bench, row: Row) -> dict[str, Any]:
    """Work off a row's backlog in turn: by the raw drain, by goalworker, and by COPY of the written rows if asked."""
    rounds, reference = _Rounds(), copying.Reference(bench.folder)
    async with bench.stage(bench.part(row.mix)) as stage:
        for _ in range(bench.extent.rounds):
            rounds.raw.append(await drains.program(stage, "tests.bench.raw"))
            afterwards = reference.take if row.beside_copy and not reference.taken else None
            rounds.product.append(await drains.product(stage, afterwards=afterwards, meanwhile=None, **row.settings))
            if row.beside_copy:
                rounds.copy.append(await reference.events_per_second(stage))
            print(f"  raw {_last(rounds.raw)}, product {_last(rounds.product)}", *_of_copy(rounds.copy), flush=True)
        return {"name": row.name, "events": stage.mix.events, "target_percent": row.target} | _result(rounds)


def _last(done: Sequence[drains.Drain]) -> str:
    return f"{done[-1].events_per_second:,.0f}"


def _of_copy(copy: Sequence[float]) -> list[str]:
    return [f"COPY {copy[-1]:,.0f}"] if copy else []


def _result(rounds: _Rounds) -> dict[str, Any]:
    raw = [drain.events_per_second for drain in rounds.raw]
    ours = [drain.events_per_second for drain in rounds.product]
    result = {
        "raw_events_per_second": figures.spread(raw),
        "events_per_second": figures.spread(ours),
        "share_percent": figures.shares(ours, raw),
        "cpu_us": cpu(rounds.product),
        "peak_mib": max(drain.peak_bytes for drain in rounds.product) >> 20,
    }
    if rounds.copy:
        result["copy_events_per_second"] = figures.spread(rounds.copy)
        result["share_of_copy_percent"] = figures.shares(ours, rounds.copy)
    return result


def cpu(done: Sequence[drains.Drain]) -> dict[str, float]:
    """Return the medians of the CPU microseconds an event, by process."""
    return {who: round(statistics.median(drain.cpu_us[who] for drain in done), 1) for who in done[0].cpu_us}
