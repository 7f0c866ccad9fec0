"""README's table of the bench, made from its results: `python -m tests.bench.table` puts it there."""

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- bench: made by `make bench-table` -->\n", "<!-- end of bench -->\n"


def of(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| backlog of 350-byte events | events/s: median (min to max) | of the raw client | CPU µs an event: worker,"
        " Kafka, PostgreSQL | peak MiB |",
        "|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        cpu = row["cpu_us"]
        lines.append(
            f"| {row['name']} | {_spread(row['events_per_second'])} | {row['share_percent']['median']:g} % "
            f"(goal: {row['target_percent']:g} %) | {cpu['worker']:g}, {cpu['broker']:g}, {cpu['database']:g} "
            f"| {row['peak_mib']} |"
        )
    plain = results["plain"]["events_per_second"]
    times = results["rows"][1]["events_per_second"]["median"] / plain["median"]
    lines += [
        "",
        f"The second row by a plain loop (aiokafka, pydantic and SQLAlchemy, an event at a time, goals cached, effects"
        f" not once): {plain['median']:,.0f} events/s, {times:.0f} times less.",
        "",
        "From produced to the exit seen by another consumer, a tenth of the events exiting:",
        *(
            f"{each['events_per_second']:,} events/s: p50 {each['p50_ms']:g} ms, p99 {each['p99_ms']:g} ms"
            f"{';' if each is not results['latency'][-1] else '.'}"
            for each in results["latency"]
        ),
    ]
    return "\n".join(lines) + "\n"


def _spread(spread: dict[str, float]) -> str:
    return f"{spread['median']:,.0f} ({spread['min']:,.0f} to {spread['max']:,.0f})"


def placed(readme: str, results: dict[str, Any]) -> str:
    """Return the README with the table of these results in its place."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + begin + of(results) + end + after


def main() -> int:
    """Put the table into the README."""
    README.write_text(placed(README.read_text(), json.loads(RESULTS.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
