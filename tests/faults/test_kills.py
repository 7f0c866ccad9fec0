"""A worker that is killed, wherever it is just then, loses nothing and doubles nothing (design, effect once)."""

import asyncio
import signal

import pytest

from tests.faults import rigged, story, workers
from tests.kit import conversation, support, worker_process

RUNS = 25
MANY_RUNS = 400


async def test_workers_killed_at_every_point_one_after_the_other_lose_and_double_nothing(
    there: worker_process.Installation,
) -> None:
    # In batches so small that each point is passed more than once, though several of them are told together.
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "every-point")
        for point in rigged.POINTS:
            told.plan(RUNS, malformed=4)
            await told.tell()
            worker = workers.start(there, f"{point}:2", BATCH__MAX_RECORDS=5)
            try:
                await workers.died_of_its_rig(worker)
            finally:
                worker.kill()
            await workers.check_so_far(told)
            await talk.bury(worker)
        async with workers.worker(there):
            await workers.check(told)
        await talk.rewind()
        async with workers.worker(there) as last:
            await workers.check(told)
            assert last.metric("achievements_total") == last.metric("exits_total") == 0


@pytest.mark.fault
@pytest.mark.parametrize("point", rigged.POINTS)
async def test_workers_killed_again_and_again_lose_and_double_nothing_after(
    point: str, there: worker_process.Installation
) -> None:
    """The group is told nothing: the next worker waits until the dead one is missed."""
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "again", seed=len(point))
        told.plan(MANY_RUNS, malformed=20)
        await told.tell()
        for time in (1, 3):
            worker = workers.start(there, f"{point}:{time}", BATCH__MAX_RECORDS=15)
            try:
                await workers.died_of_its_rig(worker)
            finally:
                worker.kill()
            await workers.check_so_far(told)
        async with workers.worker(there):
            await workers.check(told)


@pytest.mark.fault
async def test_a_worker_paused_beyond_its_session_does_no_harm_when_it_wakes(
    there: worker_process.Installation,
) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "paused")
        told.plan(MANY_RUNS * 4, malformed=20)
        await told.tell(0.5)
        async with workers.worker(there, BATCH__MAX_RECORDS=20) as first, workers.worker(there) as second:
            await workers.wait_for_share(told, 0.05)
            async with workers.paused(first):
                await told.tell()
                await support.until(
                    lambda: second.metric("consumer_assigned_partitions") == 28, workers.SETTLED_SECONDS
                )
                await workers.settled(talk)
                await workers.check_so_far(told)
            await _has(second, 14)
            told.plan(RUNS)
            await told.tell()
            await workers.check(told)
            await _has(first, 14)


async def _has_begun(worker: worker_process.Worker) -> None:
    await support.until(lambda: worker.metric("events_total") > 0)


async def _has(worker: worker_process.Worker, partitions: int) -> None:
    await support.until(lambda: worker.metric("consumer_assigned_partitions") == partitions, workers.SETTLED_SECONDS)


@pytest.mark.fault
async def test_sigterm_in_mid_batch_finishes_the_batch_and_leaves_the_rest(there: worker_process.Installation) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "sigterm")
        told.plan(MANY_RUNS * 4, malformed=20)
        await told.tell()
        for _ in range(4):
            worker = workers.start(there, BATCH__MAX_RECORDS=20)
            try:
                await worker.ready()
                await _has_begun(worker)
                worker.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(worker.wait) == 0
            finally:
                worker.kill()
            assert await talk.members() == {}
            assert await talk.sql("SELECT count(*) FROM outbox") == 0
            assert await talk.sql("SELECT count(*) FROM achievements") < len(told.expected.achieved)
            await workers.check_so_far(told)
        async with workers.worker(there):
            await workers.check(told)
