"""The limit: aiokafka drains the same topics and does nothing with the records. A program that drains.py runs."""

import asyncio
import json
import sys
import time

import aiokafka
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from tests.bench import usage

MAX_RECORDS = 2_000


async def drain(bootstrap_servers: str, group_id: str, wanted: int, topics: list[str]) -> dict[str, float]:
    """Read this many records as the worker's consumer does; the clock starts with the first batch."""
    consumer = aiokafka.AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap_servers,
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
    )
    await consumer.start()
    try:
        read, counted, began = 0, 0, 0.0
        while read < wanted:
            fetched = await consumer.getmany(timeout_ms=1_000, max_records=MAX_RECORDS)
            got = sum(map(len, fetched.values()))
            if not began and got:
                began, counted = time.perf_counter(), -got
            read += got
        seconds = time.perf_counter() - began
    finally:
        await consumer.stop()
    used = usage.of_this_process()
    return {
        "events": read + counted,
        "seconds": seconds,
        "cpu_seconds": used.cpu_seconds,
        "peak_bytes": used.peak_bytes,
    }


if __name__ == "__main__":
    servers, group, events, *names = sys.argv[1:]
    print(json.dumps(asyncio.run(drain(servers, group, int(events), names))))
