"""Whatever is killed, whenever, and however often input is replayed: once (design, effect once)."""

import asyncio
import functools

from tests.kit import conversation, flood, worker_process

RUNS = 800
SHARES = (0.05, 0.3, 0.6)


async def test_a_worker_killed_again_and_again_loses_nothing_and_doubles_nothing(
    there: worker_process.Installation,
) -> None:
    async with conversation.talk(there) as talk:
        stream = await flood.flood(talk, "killed", RUNS)
        sending = asyncio.create_task(talk.send(*stream.records))
        for share in SHARES:
            worker = there.start(BATCH__MAX_RECORDS=100)
            try:
                await conversation.until(functools.partial(stream.is_judged, talk, share))
            finally:
                worker.kill()
            await talk.bury(worker)
        await sending
        async with there.worker():
            await stream.check(talk)

        await talk.rewind()
        async with there.worker() as worker:
            await stream.check(talk)
            assert worker.metric("achievements_total") == worker.metric("exits_total") == 0
