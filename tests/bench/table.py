"""Tables of the bench for tests/bench/README.md: `python -m tests.bench.table` writes them there."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench import curves, streams_table
from tests.bench.markdown import judged
from tests.bench.markdown import spread as _spread
from tests.bench.markdown import table as _table

RESULTS = Path(__file__).parent / "results.json"
ROOT = Path(__file__).parents[2]
README = ROOT / "tests" / "bench" / "README.md"
BEGIN, END = "<!-- bench: made by `make bench-table` -->\n", "<!-- end of bench -->\n"

Results = Mapping[str, Any]
Costs = Mapping[str, float]
# By rate: the targets of p50 and p99, in milliseconds, where there are any.
LATENCY_GOALS: Mapping[int, tuple[float | None, float]] = {2_000: (20, 60), 5_000: (None, 80)}
ALL_ROWS = 4
SERVERS = ("worker", "Kafka", "PostgreSQL")
COPY_PERCENT = 50
MOST_GOALS_MB, MOST_GOALS_SECONDS, MOST_GOALS_PERCENT = 300, 5, 90
MOST_ENROLLMENTS_PERCENT = 75
BESIDE_INSIGHT_PERCENT, BESIDE_INSIGHT_MS = 85, 80
CELLS_TIMES = 1.7
PLANNED_PER_CPU_SECOND, SAMPLE_MS, BESIDE_BACKFILL_MS = 15_000, 2_000, 100
OF_ANALYZED_PERCENT = 95
HIT_BYTES, FULL_PERCENT, DROP_MS, BESIDE_DROP_MS = 100, 90, 100, 200


def of(results: Results) -> str:
    """Return the results as Markdown; a part that was not measured is left out."""
    parts = [part(results) for name, part in _PARTS.items() if results.get(name)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def updated(known: Results, results: Results) -> Results:
    """Return known results with those of the parts that were measured again; results of other machines are dropped."""
    comparable = known if known.get("cpus") == results["cpus"] else {}
    merged = {**comparable, **results}
    return {name: merged[name] for name in ("cpus", *_PARTS) if name in merged}


def _rows(results: Results) -> Iterator[str]:
    heads = ("backlog of 350-byte events", "events/s: median (min to max)", "of the raw client")
    cells = ("CPU µs an event: worker, Kafka, PostgreSQL", "peak MiB")
    yield from _table((*heads, *cells), map(_row, results["rows"]))
    for row in results["rows"]:
        if "copy_events_per_second" in row:
            share = judged(row["share_of_copy_percent"]["median"], COPY_PERCENT, "%", least=True)
            yield ""
            yield (
                f"COPY of what \u201c{row['name']}\u201d writes, all at once into the same tables: "
                f"{_spread(row['copy_events_per_second'])} events/s; the product is at {share} of that."
            )


def _row(row: Results) -> Sequence[str]:
    share = judged(row["share_percent"]["median"], row["target_percent"], "%", least=True)
    cpu = ", ".join(f"{row['cpu_us'][who]:g}" for who in ("worker", "broker", "database"))
    return row["name"], _spread(row["events_per_second"]), share, cpu, str(row["peak_mib"])


def _arithmetic(results: Results) -> Iterator[str]:
    """Return the cost of each kind of event, from the rows in which 0, 10 and 1, or 100 and 100 % hit and achieve."""
    if len(results["rows"]) < ALL_ROWS:
        return
    nothing, tenth, _, every = (row["cpu_us"] for row in results["rows"])
    yield ""
    yield "So, in microseconds of a processor:"
    yield ""
    yield from _table(("", *SERVERS), _costs(nothing, tenth, every))
    yield ""
    parts = ", ".join(f"{who} {tenth[key] * 0.02:.2g}" for who, key in zip(SERVERS, nothing, strict=True))
    yield f"20,000 events a second of the second mix take, of one processor: {parts}."


def _costs(nothing: Costs, tenth: Costs, every: Costs) -> Iterable[Sequence[str]]:
    achieving = {who: every[who] - nothing[who] for who in nothing}
    hitting = {who: (tenth[who] - nothing[who] - 0.01 * achieving[who]) / 0.09 for who in nothing}
    costs = {"any event": nothing, "that hits a goal, more": hitting, "that achieves one and exits, more": achieving}
    for name, cost in costs.items():
        yield name, *(f"{cost[who]:.2g}" if cost[who] < 10 else f"{cost[who]:.0f}" for who in nothing)


def _fresh(results: Results) -> Iterator[str]:
    new, grown = results["fresh"]["new"], results["fresh"]["grown"]
    yield "The 10 %/1 % mix on databases that nobody analyzes, without autovacuum, each in turn with an analyzed one:"
    yield ""
    heads = (
        "database",
        "events/s: median (min to max)",
        "of the analyzed one",
        "CPU µs an event: PostgreSQL, analyzed",
    )
    names = {"new": new, f"grown from nothing to {grown['enrollments']:,} enrollments under one worker": grown}
    yield from _table(heads, [(name, *_fresh_row(row)) for name, row in names.items()])
    yield ""
    yield f"Meanwhile that worker recorded {_spread(grown['enrollments_per_second'])} enrollments/s."


def _fresh_row(row: Results) -> Sequence[str]:
    share = judged(row["of_analyzed_percent"]["median"], OF_ANALYZED_PERCENT, "%", least=True)
    cpu = f"{row['cpu_us']['database']:g}, {row['analyzed_cpu_us']['database']:g}"
    return _spread(row["events_per_second"]), share, cpu


def _latency(results: Results) -> Iterator[str]:
    yield "From produced to the exit seen by another consumer, a tenth of the events exiting:"
    yield ""
    heads = ("events/s", "p50", "p99")
    yield from _table(heads, map(_latency_row, results["latency"]))


def _latency_row(each: Results) -> Sequence[str]:
    goals = LATENCY_GOALS[each["events_per_second"]]
    times = zip((each["p50_ms"], each["p99_ms"]), goals, strict=True)
    return f"{each['events_per_second']:,}", *(
        f"{ms:g} ms" if goal is None else judged(ms, goal, "ms") for ms, goal in times
    )


def _judging(results: Results) -> Iterator[str]:
    yield "Judging one enrollment, without messages and database:"
    yield ""
    yield from _table(("hits", "µs"), map(_judging_row, results["judging"]))


def _judging_row(row: Results) -> Sequence[str]:
    return row["name"], judged(row["us"], row["target_us"], "µs") if "target_us" in row else f"{row['us']:g} µs"


def _insight(results: Results) -> Iterator[str]:
    measured = results["insight"]
    yield "`goalworker insight`, a process that keeps events and counts their values:"
    yield ""
    heads = (
        "backlog of 350-byte events",
        "events/s: median (min to max)",
        "CPU µs an event: insight, Kafka, PostgreSQL",
    )
    yield from _table((*heads, "peak MiB"), map(_insight_row, measured["rows"]))
    yield ""
    beside, rate = measured["beside"], f"{measured['offered_events_per_second']:,}"
    share = judged(beside["share_percent"]["median"], BESIDE_INSIGHT_PERCENT, "%", least=True)
    yield (
        f"While {rate} events/s are offered besides, a worker makes {_spread(beside['alone_events_per_second'])} "
        f"events/s of the 10 %/1 % mix, and {_spread(beside['events_per_second'])} where insight reads these, "
        f"{_spread(beside['insight_events_per_second'])} events/s of it: {share}."
    )
    yield ""
    p50, p99 = measured["latency"]["p50_ms"], measured["latency"]["p99_ms"]
    yield (
        f"With worker and insight at {rate} events/s, one in a hundred exiting, from produced to the exit seen: "
        f"p50 {p50:g} ms, p99 {judged(p99, BESIDE_INSIGHT_MS, 'ms')}."
    )


def _insight_row(row: Results) -> Sequence[str]:
    median = row["events_per_second"]["median"]
    missed = "" if median >= row["target"] else ", **missed**"
    cpu = ", ".join(f"{row['cpu_us'][who]:g}" for who in ("worker", "broker", "database"))
    speed = f"{_spread(row['events_per_second'])} (goal: >= {row['target']:,}{missed})"
    return row["name"], speed, cpu, str(row["peak_mib"])


def _plans(results: Results) -> Iterator[str]:
    measured, backfill = results["plans"], results["plans"]["backfill"]
    per_second = measured["enrollments_per_cpu_second"]
    missed = "" if per_second["median"] >= PLANNED_PER_CPU_SECOND else ", **missed**"
    yield (
        f"A plan judges {_spread(per_second)} enrollments (goal: >= {PLANNED_PER_CPU_SECOND:,}{missed}) in a second of "
        f"the processor of `goalworker insight`, of a workflow that has {measured['enrollments']:,} and a kept payment "
        f"of each. From the request, a sample of {measured['sample']:,} takes "
        f"{judged(measured['sample_ms']['median'], SAMPLE_MS, 'ms')}."
    )
    yield ""
    yield (
        f"While it backfills a goal, {backfill['contacts_per_second']:,} contacts a second, a worker takes "
        f"{backfill['events_per_second']:,} events/s, a tenth exiting: from produced to the exit seen p50 "
        f"{backfill['p50_ms']:g} ms, p99 {judged(backfill['p99_ms'], BESIDE_BACKFILL_MS, 'ms')}."
    )


def _profile(results: Results) -> Iterator[str]:
    yield "Where the worker's time goes meanwhile, in percent of the samples that py-spy takes of it:"
    yield ""
    profiles = results["profile"]
    rows = [
        (part, *(f"{profile['percent'].get(part, 0):g}" for profile in profiles)) for part in profiles[0]["percent"]
    ]
    yield from _table(("", *(profile["name"] for profile in profiles)), rows)


def _beside(results: Results) -> Iterator[str]:
    measured = results["beside"]
    yield (
        "The usual ways, each on the second of these mixes in turn with the product, which made "
        f"{_spread(measured['events_per_second'])} events/s of it meanwhile, at {measured['cpu_us']:g} µs of its "
        "processor an event:"
    )
    yield ""
    heads = ("", "events/s: median (min to max)", "µs an event", "the product is faster by", "effect once?", "lacks")
    yield from _table(heads, map(_peer, measured["peers"]))


def _peer(peer: Results) -> Sequence[str]:
    times, goal = peer["times"]["median"], peer["target_times"]
    factor = f"{times:g} times" if goal is None else judged(times, goal, "times", least=True)
    return (
        peer["name"],
        _spread(peer["events_per_second"]),
        f"{peer['cpu_us']:g}",
        factor,
        peer["effect_once"],
        peer["lacks"],
    )


def _goals(results: Results) -> Iterator[str]:
    yield "More goals, a hundred of each tenant, and the 10 %/1 % mix:"
    yield ""
    heads = ("goals", "events/s: median (min to max)", "of the first", "ready after", "MB at rest", "MB at most")
    yield from _table(heads, [_goals_row(row, most=row is results["goals"][-1]) for row in results["goals"]])


def _goals_row(row: Results, *, most: bool) -> Sequence[str]:
    share, seconds = row["of_first_percent"]["median"], row["ready_seconds"]["median"]
    figures = [f"{share:g} %", f"{seconds:g} s", f"{row['resting_mb']:g}", f"{row['peak_mb']:g}"]
    if most:
        figures[0] = judged(share, MOST_GOALS_PERCENT, "%", least=True)
        figures[1] = judged(seconds, MOST_GOALS_SECONDS, "s")
        figures[3] = judged(row["peak_mb"], MOST_GOALS_MB, "MB")
    return f"{row['goals']:,}", _spread(row["events_per_second"]), *figures


def _enrollments(results: Results) -> Iterator[str]:
    yield "More enrollments, those that achieve spread over all of them, and the 10 %/1 % mix:"
    yield ""
    rows = results["enrollments"]
    heads = ("enrollments", "events/s: median (min to max)", "of the first")
    yield from _table(heads, [_enrollments_row(row, most=row is rows[-1]) for row in rows])


def _enrollments_row(row: Results, *, most: bool) -> Sequence[str]:
    share = row["of_first_percent"]["median"]
    shown = judged(share, MOST_ENROLLMENTS_PERCENT, "%", least=True) if most else f"{share:g} %"
    return f"{row['enrollments']:,}", _spread(row["events_per_second"]), shown


def _full(results: Results) -> Iterator[str]:
    full, latency = results["full"], results["full"]["latency"]
    share = judged(full["of_none_percent"]["median"], FULL_PERCENT, "%", least=True)
    yield (
        f"A hit that a worker writes takes {judged(full['bytes_each'], HIT_BYTES, 'bytes')}, with its share of every "
        f"index. With {full['hits']:,} hits in place, {full['bytes_each_in_place']:g} bytes each, a worker makes "
        f"{_spread(full['events_per_second'])} events/s of the 10 %/1 % mix, and "
        f"{_spread(full['none_events_per_second'])} with none, in turn: {share}."
    )
    yield ""
    yield (
        f"The {full['due']:,} of a day are gone after {judged(full['drop_ms'], DROP_MS, 'ms')}, and their files, "
        f"without a lock, after {full['deleted_ms']:,.0f} ms, while a worker takes "
        f"{latency['events_per_second']:,} events/s, a tenth exiting: from produced to the exit seen p99 "
        f"{latency['p99_ms']:g} ms, at most {judged(latency['most_ms'], BESIDE_DROP_MS, 'ms')}."
    )


def _steps(part: str, varied: str, words: str) -> Callable[[Results], Iterator[str]]:
    def lines(results: Results) -> Iterator[str]:
        heads = (words, "events/s: median (min to max)")
        yield from _table(heads, [(f"{row[varied]:,}", _spread(row["events_per_second"])) for row in results[part]])

    return lines


def _cells(results: Results) -> Iterator[str]:
    measured = results["cells"]
    yield (
        "Two cells on the same topics, each with a worker, a PostgreSQL and half of the tenants, beside one "
        "installation; every cell reads every event:"
    )
    yield ""
    heads = ("10 %/1 % mix", "events/s: median (min to max)", "CPU µs an event: workers", "PostgreSQL")
    both = {"one installation": measured["unlimited"]["one"], "two cells": measured["unlimited"]["two"]}
    yield from _table(heads, [_cells_row(name, row) for name, row in both.items()])
    if limited := measured["limited"]:
        yield ""
        yield (
            "With PostgreSQL as the limit, every event achieves and exits. The kernel allows each PostgreSQL "
            f"{100 * limited['processors']:g} % of a processor, since one machine has to hold them all: one "
            f"installation makes {_spread(limited['one']['events_per_second'])} events/s, and its PostgreSQL uses "
            f"{_used(limited, 'one')} of what it is allowed; two cells make "
            f"{_spread(limited['two']['events_per_second'])} ({_used(limited, 'two')}): "
            f"{judged(limited['times']['median'], CELLS_TIMES, 'times', least=True)}."
        )
    yield ""
    yield "What a record costs a worker that skips it as another cell's:"
    yield ""
    skipping = ("records", "events/s: median (min to max)", "CPU µs an event: worker")
    yield from _table(skipping, map(_skipping_row, measured["skipping"]))


def _skipping_row(row: Results) -> Sequence[str]:
    return row["name"], _spread(row["events_per_second"]), f"{row['cpu_us']['worker']:g}"


def _cells_row(name: str, row: Results) -> Sequence[str]:
    each = (", ".join(f"{us:.3g}" for us in row[who]) for who in ("worker_us", "database_us"))
    return name, _spread(row["events_per_second"]), *each


def _used(limited: Results, which: str) -> str:
    return " and ".join(f"{100 * load / limited['processors']:.0f} %" for load in limited[which]["database_load"])


def _pictures(results: Results) -> list[str]:
    return [f"![{curve.title}]({curve.file.relative_to(README.parent)})" for curve in curves.of(results)]


# In the order of the README. The pictures are included if the last part was measured: all or none.
_PARTS: Mapping[str, Callable[[Results], Iterable[str]]] = {
    "rows": lambda results: [*_rows(results), *_arithmetic(results)],
    "fresh": _fresh,
    "latency": _latency,
    "judging": _judging,
    "insight": _insight,
    "plans": _plans,
    "profile": _profile,
    "beside": _beside,
    "streams": lambda results: streams_table.of(results["streams"]),
    "goals": _goals,
    "enrollments": _enrollments,
    "full": _full,
    "batches": _steps("batches", "records", "10 %/1 % mix, records in a batch at most"),
    "workers": _steps("workers", "workers", "10 %/1 % mix, workers on this one machine"),
    "cells": _cells,
    "hits": lambda results: [
        *_steps("hits", "hits_percent", "percent of the events that achieve and exit")(results),
        "",
        *_pictures(results),
    ],
}


def placed(readme: str, results: Results) -> str:
    """Return the README with the tables of these results in their place."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + begin + of(results) + end + after


def main() -> int:
    """Put the tables into the README."""
    README.write_text(placed(README.read_text(), json.loads(RESULTS.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
