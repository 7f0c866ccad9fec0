"""Cost of open live feeds to the API's process."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg
import httpx

from tests.bench import rows, usage

FEEDS, ACHIEVEMENTS_PER_SECOND, SECONDS = 200, 20, 60
OPEN_SECONDS = 120
TARGET_PERCENT = 5

# Achievements of goals that the workflow does not have, so that nobody else finds them.
_ACHIEVED = """
INSERT INTO achievements (tenant_id, enrollment_id, goal_id, workflow_id, contact_id, goal_version, goal_type,
    enrolled_at, achieved_at, event_source, event_id, data, revision)
SELECT $1, 'feed-' || $2 || '-' || n, gen_random_uuid(), 'feed', 'c-' || n, 1, 'tag_added', now(), now(), '/feed',
    'evt-' || n, '{"contact_id": "c", "tag_id": "t"}', 1
FROM generate_series(1, $3::integer) AS n
"""


API, CONSOLE = "/api/v1/feed", "/console/feed"
"""Addresses of the feed: as JSON, and as entries of the console's list."""


def line(percent: float, path: str) -> str:
    """Return the line of the report."""
    verdict = "met" if percent <= TARGET_PERCENT else "missed"
    load = f"{FEEDS} feeds of {path}, {ACHIEVEMENTS_PER_SECOND} achievements/s"
    return f"{load}: {percent:.1f} % of a processor; target {TARGET_PERCENT} %: {verdict}"


async def share_of_a_processor(client: httpx.AsyncClient, pid: int, database_url: str, path: str) -> float:
    """Return the percentage of a processor that a process takes while its feeds show achievements."""
    connection = await asyncpg.connect(database_url)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=client.base_url, headers=client.headers, timeout=60, limits=limits, trust_env=False
    ) as readers:
        if path == CONSOLE:
            await readers.post("/console/login", data={"key": client.headers["X-API-Key"]})
        received = [0] * FEEDS
        opened = [asyncio.Event() for _ in range(FEEDS)]
        reading = [
            asyncio.create_task(_read(readers, path, received, number, opened[number])) for number in range(FEEDS)
        ]
        try:
            opening = asyncio.create_task(_wait_for(opened))
            await asyncio.wait([*reading, opening], timeout=OPEN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            _raise_ends(reading)
            began, cpu = time.monotonic(), usage.of(pid).cpu_seconds
            for number in range(SECONDS):
                await connection.execute(_ACHIEVED, rows.TENANT, str(number), ACHIEVEMENTS_PER_SECOND)
                await asyncio.sleep(max(0.0, began + number + 1 - time.monotonic()))
            _raise_ends(reading)
            took = usage.of(pid).cpu_seconds - cpu
            # A poll takes a moment beyond its second, and is received as one piece or several.
            assert min(received) > SECONDS / 2, "a feed stands still"
            return 100 * took / (time.monotonic() - began)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            await connection.close()


async def _wait_for(events: Sequence[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _raise_ends(reading: Sequence[asyncio.Task[None]]) -> None:
    for task in reading:
        if task.done():
            task.result()
            raise RuntimeError("a feed has ended")


async def _read(client: httpx.AsyncClient, path: str, received: list[int], number: int, opened: asyncio.Event) -> None:
    async with client.stream("GET", path) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"feed {number}: {(await answer.aread()).decode()}")
        async for _ in answer.aiter_bytes():
            opened.set()
            received[number] += 1
