"""A worker that is killed at any point loses nothing and doubles nothing (design, effect once)."""

import asyncio
import signal

import pytest

from tests.faults import rigged, workers
from tests.faults.traffic import Traffic
from tests.kit import clients, support, worker_process

RUNS = 25
MANY_RUNS = 400


async def test_workers_killed_at_every_point_lose_and_double_nothing(
    installation: worker_process.Installation,
) -> None:
    # Small batches, so that each point is passed more than once although several batches are published together.
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "every-point")
        for point in rigged.POINTS:
            traffic.plan(RUNS, malformed=4)
            await traffic.send()
            worker = workers.start(installation, f"{point}:2", BATCH__MAX_RECORDS=5)
            try:
                await workers.wait_until_killed(worker)
            finally:
                worker.kill()
            await workers.check_so_far(traffic)
            await client.remove_member(worker)
        async with workers.worker(installation):
            await workers.check(traffic)
        await client.rewind()
        async with workers.worker(installation) as last:
            await workers.check(traffic)
            assert last.metric("achievements_total") == last.metric("exits_total") == 0


@pytest.mark.fault
@pytest.mark.parametrize("point", rigged.POINTS)
async def test_workers_killed_repeatedly_at_one_point_lose_and_double_nothing(
    point: str, installation: worker_process.Installation
) -> None:
    """The dead worker stays a member of the group, so the next one waits for its session timeout."""
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "again", seed=len(point))
        traffic.plan(MANY_RUNS, malformed=20)
        await traffic.send()
        for time in (1, 3):
            worker = workers.start(installation, f"{point}:{time}", BATCH__MAX_RECORDS=15)
            try:
                await workers.wait_until_killed(worker)
            finally:
                worker.kill()
            await workers.check_so_far(traffic)
        async with workers.worker(installation):
            await workers.check(traffic)


@pytest.mark.fault
async def test_a_worker_paused_longer_than_its_session_does_no_harm(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "paused")
        traffic.plan(MANY_RUNS * 4, malformed=20)
        await traffic.send(0.5)
        async with workers.worker(installation, BATCH__MAX_RECORDS=20) as first, workers.worker(installation) as second:
            await workers.wait_for_share(traffic, 0.05)
            async with workers.paused(first):
                await traffic.send()
                await support.until(
                    lambda: second.metric("consumer_assigned_partitions") == 28, workers.SETTLED_SECONDS
                )
                await workers.settle(client)
                await workers.check_so_far(traffic)
            await _has(second, 14)
            traffic.plan(RUNS)
            await traffic.send()
            await workers.check(traffic)
            await _has(first, 14)


async def _has_begun(worker: worker_process.Worker) -> None:
    await support.until(lambda: worker.metric("events_total") > 0)


async def _has(worker: worker_process.Worker, partitions: int) -> None:
    await support.until(lambda: worker.metric("consumer_assigned_partitions") == partitions, workers.SETTLED_SECONDS)


@pytest.mark.fault
async def test_sigterm_finishes_the_batch_and_leaves_the_rest(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "sigterm")
        traffic.plan(MANY_RUNS * 4, malformed=20)
        await traffic.send()
        for _ in range(4):
            worker = workers.start(installation, BATCH__MAX_RECORDS=20)
            try:
                await worker.ready()
                await _has_begun(worker)
                worker.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(worker.wait) == 0
            finally:
                worker.kill()
            assert await client.members() == {}
            assert await client.sql("SELECT count(*) FROM outbox") == 0
            assert await client.sql("SELECT count(*) FROM achievements WHERE revoked_at IS NULL") < len(
                traffic.expected.achieved
            )
            await workers.check_so_far(traffic)
        async with workers.worker(installation):
            await workers.check(traffic)
