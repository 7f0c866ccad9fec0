"""Workers stop in good order and share a group: what one leaves, another takes (contract section 6)."""

import asyncio
import time

from tests.acceptance import flood, running, wire

RUNS = 600
# Not the 45 s that a group waits for a member that is just gone.
AT_ONCE_SECONDS = 10.0


async def test_sigterm_drains_leaves_the_group_and_the_next_worker_takes_over_at_once(
    there: running.Installation,
) -> None:
    async with wire.talk(there) as talk:
        stream = await flood.flood(talk, "stopped", RUNS)
        half = len(stream.records) // 2
        await talk.send(*stream.records[:half])
        async with there.worker(BATCH__MAX_RECORDS=50) as first:
            await wire.until(lambda: stream.is_judged(talk, 0.01))
            assert first.stop() < running.STOP_SECONDS
            assert first.lines("stopped")
            assert await talk.members() == {}
            # The batch under way was finished: nothing that was judged is still to be told.
            assert await talk.sql("SELECT count(*) FROM outbox WHERE batch_id IS NOT NULL") == 0
        await talk.send(*stream.records[half:])
        asked = time.monotonic()
        async with there.worker() as second:
            assert time.monotonic() - asked < AT_ONCE_SECONDS
            await stream.check(talk)
            assert second.metric("events_total", outcome="matched") > 0


async def test_a_second_worker_may_join_and_the_first_leave_in_mid_stream(there: running.Installation) -> None:
    async with wire.talk(there) as talk:
        stream = await flood.flood(talk, "shared", RUNS)
        half = len(stream.records) // 2
        await talk.send(*stream.records[:half])
        async with there.worker(BATCH__MAX_RECORDS=100) as first:
            await wire.until(lambda: stream.is_judged(talk, 0.01))
            async with there.worker(BATCH__MAX_RECORDS=100) as second:
                assert len(await talk.members()) == 2
                assert second.metric("consumer_assigned_partitions") == len(wire.INPUTS) * 4 / 2
                sending = asyncio.create_task(talk.send(*stream.records[half:]))
                await wire.until(lambda: stream.is_judged(talk, 0.4))
                first.stop()
                await sending
                await stream.check(talk)
                assert second.metric("consumer_assigned_partitions") == len(wire.INPUTS) * 4
                assert second.metric("consumer_rebalances_total") >= 2
