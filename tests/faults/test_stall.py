"""A consumer that hangs while its heartbeats go on is noticed by the stall watch (hazard 2)."""

from tests.faults import workers
from tests.faults.traffic import Traffic
from tests.kit import clients, support, worker_process

STALL_SECONDS = 4


async def test_a_stuck_consumer_ends_the_worker_with_exit_code_6(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "stuck")
        traffic.plan(20)
        await traffic.send()
        worker = workers.start(installation, "stuck", OPS__STALL_SECONDS=STALL_SECONDS)
        try:
            await worker.ready()
            assert worker.answers("/healthz/live") == 200
            await support.until(lambda: not worker.is_running, 60)
        finally:
            worker.kill()
        assert worker.wait() == 6, worker.log.read_text()
        sentence = worker.last_words()
        assert f"has lag, and no offset was committed for {STALL_SECONDS} s" in sentence
        assert "Traceback" not in worker.log.read_text()
        assert await client.members() == {}
        async with workers.worker(installation, OPS__STALL_SECONDS=STALL_SECONDS):
            await workers.check(traffic)
