"""Time from sending an event until another consumer reads its exit, at a steady rate."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiokafka

from goalworker import embedded
from tests.bench import index_use, load
from tests.kit import support, worker_process

SLICE_SECONDS = 0.01
WARM_UP_SECONDS = 3
BUILDING_SECONDS = 40e-6
"""Time to build a record, at most."""
SEEN_SECONDS = 60.0

Beside = Callable[[worker_process.Installation], contextlib.AbstractAsyncContextManager[None]]
"""What to run beside the worker, in the same installation."""


async def measured(
    pair: embedded.Pair,
    database: str,
    folder: Path,
    events_per_second: int,
    seconds: int,
    *,
    achieved: int = 10,
    beside: Beside | None = None,
    in_place: bool = False,
    scans: index_use.Scans | None = None,
) -> dict[str, Any]:
    """Send at a rate, with an exit for this many in a hundred events, and return p50, p99 and most in milliseconds.

    The database is cloned unless it is used in_place.
    """
    mix = mix_of(events_per_second, seconds, achieved)
    topics = support.fresh_topics()
    await support.create_topics(pair.bootstrap_servers, topics)
    clone = support.fresh_database(pair.database_url, f"TEMPLATE {database} STRATEGY FILE_COPY")
    with contextlib.nullcontext(database) if in_place else clone as name:
        url = support.with_database(pair.database_url, name)
        there = worker_process.Installation(pair.bootstrap_servers, url, topics, folder)
        async with there.worker(LOG__LEVEL="info"), beside(there) if beside else contextlib.nullcontext():
            took = await timed(pair.bootstrap_servers, topics, mix, events_per_second)
        if scans is not None:
            await scans.note(url)
    await support.delete_topics(pair.bootstrap_servers, topics)
    return took


def mix_of(events_per_second: int, seconds: int, achieved: int = 10) -> load.Mix:
    """Return the events of these seconds at a rate, and of some before to warm up."""
    return load.Mix(events_per_second * (seconds + WARM_UP_SECONDS), hits=10, achieved=achieved)


async def timed(
    bootstrap_servers: str, topics: Mapping[str, str], mix: load.Mix, events_per_second: int
) -> dict[str, Any]:
    """Send at a rate to a program that is ready, and return p50 and p99 in milliseconds."""
    seen = asyncio.create_task(_seen(bootstrap_servers, topics["workflow_exit"], mix.achievements))
    sent = await _sent(bootstrap_servers, topics, mix, events_per_second)
    exits = await asyncio.wait_for(seen, SEEN_SECONDS)
    warm = min(sent.values()) + WARM_UP_SECONDS
    took = [(at - sent[contact]) * 1000 for contact, at in exits.items() if sent[contact] >= warm]
    quantiles = statistics.quantiles(took, n=100)
    return {
        "events_per_second": events_per_second,
        "hits": mix.events * mix.hits // 100,
        "exits": len(took),
        "p50_ms": round(quantiles[49], 1),
        "p99_ms": round(quantiles[98], 1),
        "most_ms": round(max(took), 1),
    }


@dataclass(frozen=True, slots=True)
class Slice:
    """Records to send together, by topic and partition, and the contacts of their events."""

    batches: Mapping[tuple[str, int], Any]
    contacts: Sequence[str]


async def _sent(bootstrap_servers: str, topics: Mapping[str, str], mix: load.Mix, rate: int) -> dict[str, float]:
    """Send each record when it is due, whatever the lag; return when each contact's event was sent."""
    sent: dict[str, float] = {}
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks=1, linger_ms=0, max_request_size=2**20
    ) as producer:
        for topic in {topics[topic] for topic, *_ in load.KINDS}:
            await producer.partitions_for(topic)
        start = time.time() + mix.events * BUILDING_SECONDS
        slices = list(_slices(producer, mix, rate, start))
        await asyncio.sleep(max(0.0, start - time.time()))
        began = time.perf_counter()
        for number, due in enumerate(slices):
            await asyncio.sleep(max(0.0, began + number * SLICE_SECONDS - time.perf_counter()))
            sent |= dict.fromkeys(due.contacts, time.perf_counter())
            for (topic, partition), batch in due.batches.items():
                await producer.send_batch(batch, topics[topic], partition=partition)
    return sent


def _slices(producer: aiokafka.AIOKafkaProducer, mix: load.Mix, rate: int, start: float) -> Iterator[Slice]:
    """Build all records before the first is sent: that takes half a processor, which no installation lacks for it."""
    for number, events in enumerate(load.paced(mix, max(int(rate * SLICE_SECONDS), 1))):
        milliseconds = int((start + number * SLICE_SECONDS) * 1000)
        batches: dict[tuple[str, int], Any] = {}
        for topic, key, value in events:
            place = topic, load.partition_of(key)
            if place not in batches:
                batches[place] = producer.create_batch()
            batches[place].append(key=key, value=value, timestamp=milliseconds, headers=load.HEADERS)
        yield Slice(batches, [key.partition(b":")[2].decode() for _, key, _ in events])


async def _seen(bootstrap_servers: str, topic: str, wanted: int) -> dict[str, float]:
    """Return when the exit of each contact was read."""
    consumer = aiokafka.AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=10,
        isolation_level="read_committed",
    )
    await consumer.start()
    seen: dict[str, float] = {}
    try:
        while len(seen) < wanted:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                now = time.perf_counter()
                for record in records:
                    contact = record.key.partition(b":")[2].decode()
                    assert contact not in seen, "an exit came twice"
                    seen[contact] = now
        return seen
    finally:
        await consumer.stop()
