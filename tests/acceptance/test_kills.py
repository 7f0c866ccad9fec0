"""Workers that are killed, and input that is replayed, have every effect once (design, effect once)."""

import asyncio
import functools

import pytest

from tests.kit import clients, flood, worker_process

pytestmark = pytest.mark.unmeasured

RUNS = 800
SHARES = (0.05, 0.3, 0.6)


async def test_a_worker_killed_repeatedly_loses_and_doubles_nothing(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        stream = await flood.flood(client, "killed", RUNS)
        sending = asyncio.create_task(client.send(*stream.records))
        for share in SHARES:
            worker = installation.start(BATCH__MAX_RECORDS=100)
            try:
                await clients.until(functools.partial(stream.is_judged, client, share))
            finally:
                worker.kill()
            await client.remove_member(worker)
        await sending
        async with installation.worker():
            await stream.check(client)

        await client.rewind()
        async with installation.worker() as worker:
            await stream.check(client)
            assert worker.metric("achievements_total") == worker.metric("exits_total") == 0
