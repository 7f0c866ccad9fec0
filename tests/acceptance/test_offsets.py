"""Where reading begins, and that nothing is skipped silently (design, hazard 9)."""

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from tests.acceptance import running, saying, wire


async def test_a_partition_without_a_commit_is_read_from_its_earliest_record(there: running.Installation) -> None:
    async with wire.talk(there) as talk:
        goal = await talk.goal("before", "form_submitted", form_id="f")
        run, at = saying.a_run("before"), saying.later(goal.created_at, 1)
        await talk.send(run.started(at), run.submits("f", at))
        async with there.worker():
            await talk.settled()
            assert wire.kinds(await talk.heard(run)) == [("goal.achieved", 1), ("exit.goal", None)]
            # Explicitly, everywhere: a partition that gets its first record later is no new case.
            assert len(await talk.committed()) == 4 * len(wire.INPUTS)


async def test_an_offset_out_of_range_stops_the_worker_with_a_sentence(there: running.Installation) -> None:
    async with wire.talk(there) as talk:
        await talk.send(*(saying.Record("tag_added", b"{", partition=2) for _ in range(5)))
        await talk.rewind()
        deleted = TopicPartition(there.topics["tag_added"], 2)
        await talk.admin.delete_records({deleted: RecordsToDelete(before_offset=3)})
        worker = there.start()
        try:
            assert worker.wait() == 1
        finally:
            worker.kill()
        sentence = worker.last_words()
        assert f"{deleted.topic}[2] at 0" in sentence
        assert "Traceback" not in worker.log.read_text()
        assert (await talk.committed())[deleted] == 0
        assert await talk.members() == {}
