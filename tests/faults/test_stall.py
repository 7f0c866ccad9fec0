"""A consumer that says nothing more, while the group believes that it lives, is noticed from beside it (hazard 2)."""

from tests.faults import story, workers
from tests.kit import conversation, support, worker_process

STALL_SECONDS = 4


async def test_a_stuck_consumer_ends_the_worker_with_code_6_and_a_sentence(there: worker_process.Installation) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "stuck")
        told.plan(20)
        await told.tell()
        worker = workers.start(there, "stuck", OPS__STALL_SECONDS=STALL_SECONDS)
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
        assert await talk.members() == {}
        async with workers.worker(there, OPS__STALL_SECONDS=STALL_SECONDS):
            await workers.check(told)
