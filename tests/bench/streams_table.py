"""Table of Kafka Streams beside goalworker."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.bench.markdown import judged, spread, table

Results = Mapping[str, Any]
LACKS = (
    "Kafka Streams gives each result once, from topic to topic, to readers of committed records. It lacks corrections "
    "by event time (of enrollments that come after their hits, and by late messages), workflow states, and a database "
    "to ask: its stores are its own files, to be read by key."
)


def of(measured: Results) -> Iterator[str]:
    """Yield the lines of the table, or one that says why Kafka Streams was left out."""
    if "left_out" in measured:
        yield f"Kafka Streams was left out: {measured['left_out']}"
        return
    yield (
        "Kafka Streams (exactly_once_v2, two threads, enrollments and achievements in RocksDB, goals in memory) on the "
        "second of these mixes, each event in the partition of its key, in turn with the product; and from produced to "
        f"the exit seen at {measured['streams_latency']['events_per_second']:,} events/s:"
    )
    yield ""
    heads = ("", "events/s: median (min to max)", "two workers are faster by")
    cells = ("CPU µs an event: program, Kafka, PostgreSQL", "peak MiB", "p50, p99 of an exit")
    yield from table((*heads, *cells), _rows(measured))
    yield ""
    yield LACKS


def _rows(measured: Results) -> Iterator[Sequence[str]]:
    exits = [_exits_seen(measured["product_latency"]), ""]
    for row, seen in zip(measured["product"], exits, strict=True):
        yield _row(f"goalworker, workers: {row['workers']}", row, "", seen)
    exits = [_exits_seen(measured["streams_latency"]), ""]
    for row, seen in zip(measured["streams"], exits, strict=True):
        faster = judged(row["times"]["median"], 1, "times", least=True)
        yield _row(f"Kafka Streams, a commit each {row['commit_ms']:,} ms", row, faster, seen)


def _row(name: str, row: Results, faster: str, exits: str) -> Sequence[str]:
    cpu = ", ".join(f"{row['cpu_us'][who]:g}" for who in ("worker", "broker", "database"))
    return name, spread(row["events_per_second"]), faster, cpu, str(row["peak_mib"]), exits


def _exits_seen(latency: Results) -> str:
    return f"{latency['p50_ms']:g} ms, {latency['p99_ms']:g} ms"
