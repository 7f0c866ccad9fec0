"""Workers start reading at the right offset, and never skip a record silently (design, hazard 9)."""

import asyncio
import signal
import uuid
from datetime import UTC, datetime, timedelta

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from tests.kit import clients, messages_in, support, worker_process


async def test_a_partition_without_a_commit_is_read_from_its_earliest_record(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        goal = await client.create_goal("before", "form_submitted", form_id="f")
        enrollment, at = messages_in.new_enrollment("before"), messages_in.later(goal.created_at, 1)
        await client.send(enrollment.started(at), enrollment.submits("f", at))
        async with installation.worker():
            await client.settle()
            assert clients.kinds(await client.messages_about(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]
            # Every partition has an offset, so that its first record needs no special case.
            assert len(await client.committed()) == 4 * len(clients.INPUTS)


async def test_an_offset_out_of_range_stops_the_worker_with_a_sentence(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        await client.send(*(messages_in.Record("tag_added", b"{", partition=2) for _ in range(5)))
        await client.rewind()
        deleted = TopicPartition(installation.topics["tag_added"], 2)
        await client.admin.delete_records({deleted: RecordsToDelete(before_offset=3)})
        worker = installation.start()
        try:
            assert worker.wait() == 1
        finally:
            worker.kill()
        sentence = worker.last_words()
        assert f"{deleted.topic}[2] at 0" in sentence
        assert "goalworker run --reset-offsets earliest" in sentence
        assert "Traceback" not in worker.log.read_text()
        assert (await client.committed())[deleted] == 0
        assert await client.members() == {}


GARBAGE = [messages_in.Record("tag_added", b"{", partition=partition) for partition in (2, 3) for _ in range(5)]


@pytest.mark.parametrize(
    ("target", "to_offset", "skipped_records"),
    [("earliest", 3, 0), ("latest", 5, 2), ((datetime.now(UTC) + timedelta(hours=1)).isoformat(), 5, 2)],
    ids=["earliest", "latest", "later"],
)
async def test_reset_offsets_resets_offsets_out_of_range_and_no_others(
    installation: worker_process.Installation, target: str, to_offset: int, skipped_records: int
) -> None:
    async with clients.connect(installation) as client:
        await client.send(*GARBAGE)
        await client.rewind()
        deleted = TopicPartition(installation.topics["tag_added"], 2)
        await client.admin.delete_records({deleted: RecordsToDelete(before_offset=3)})
        async with installation.worker("--reset-offsets", target) as worker:
            await client.settle()
            (line,) = worker.lines("offset_reset")
            assert (line["topic"], line["partition"], line["from_offset"]) == (*deleted, 0)
            assert (line["to_offset"], line["skipped_records"]) == (to_offset, skipped_records)
            # The other partition's offset was in range, so nothing of it is skipped.
            assert len(await client.dead_letters()) == 5 - to_offset + 5


async def test_reset_offsets_to_a_time_rewinds_the_redrive_topic_to_its_beginning(
    installation: worker_process.Installation,
) -> None:
    def dated(topic: str, minute: int) -> messages_in.Record:
        return messages_in.Record(
            topic, b"{", partition=0, timestamp_ms=int((start + timedelta(minutes=minute)).timestamp() * 1000)
        )

    start = datetime.now(UTC) - timedelta(hours=1)
    async with clients.connect(installation) as client:
        await client.send(*(dated(topic, minute) for topic in ("tag_added", "redrive") for minute in range(5)))
        async with installation.worker():
            await client.settle()
        async with installation.worker("--reset-offsets", (start + timedelta(minutes=3)).isoformat()) as worker:
            await client.settle()
            moved = {line["topic"]: (line["from_offset"], line["to_offset"]) for line in worker.lines("offset_reset")}
            assert moved == {installation.topics["tag_added"]: (5, 3), installation.topics["redrive"]: (5, 0)}
            assert len(await client.dead_letters()) == 5 + 5 + 2 + 5


@pytest.mark.real_world("confluent-kafka-python#1787", "a topic is deleted and made anew while its consumer is frozen")
async def test_a_topic_recreated_while_a_worker_is_frozen_stops_it(installation: worker_process.Installation) -> None:
    topic = installation.topics["tag_added"]
    async with clients.connect(installation) as client:
        worker = installation.start(KAFKA__SESSION_TIMEOUT_SECONDS=6)
        try:
            await worker.ready()
            await client.process(*(messages_in.Record("tag_added", b"{", partition=2) for _ in range(5)))
            worker.process.send_signal(signal.SIGSTOP)
            await clients.until(lambda: _has_no_members(client))
            await client.admin.delete_topics([topic])
            await clients.until(lambda: _is_made(client, topic))
            await client.send(*(messages_in.Record("tag_added", b"[", partition=2) for _ in range(9)))
            worker.process.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(worker.wait) == 1
        finally:
            worker.kill()
        assert f"{topic} was deleted and recreated" in worker.log.read_text()
        assert "goalworker run --reset-offsets earliest" in worker.log.read_text()
        assert "Traceback" not in worker.log.read_text()
        async with installation.worker("--reset-offsets", "earliest"):
            await client.settle()
        values = [letter.value for letter in await client.dead_letters()]
        assert sorted(values) == [b"["] * 9 + [b"{"] * 5


async def _has_no_members(client: clients.Client) -> bool:
    return await client.members() == {}


async def _is_made(client: clients.Client, topic: str) -> bool:
    response = await client.admin.create_topics([NewTopic(topic, support.PARTITIONS, 1)])
    ((_, code, *_),) = response.topic_errors
    return bool(code == 0)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [(str(uuid.uuid4()), "was deleted and recreated"), (":1000", "the committed offsets belong to another log")],
    ids=["topic id", "leader epoch"],
)
async def test_an_offset_of_another_log_stops_a_worker_until_it_is_reset(
    installation: worker_process.Installation, metadata: str, sentence: str
) -> None:
    async with clients.connect(installation) as client:
        await client.send(*GARBAGE)
        async with installation.worker():
            await client.settle()
        other, same = (TopicPartition(installation.topics["tag_added"], number) for number in (2, 3))
        found = await client.admin.list_consumer_group_offsets(installation.group_id)
        of_log, _, cell_id = found[same].metadata.partition("/")
        topic_id, _, epoch = of_log.partition(":")
        known = f"{uuid.UUID(topic_id)}:{int(epoch)}/{uuid.UUID(cell_id)}"
        assert found[other].metadata == found[same].metadata == known
        group = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=installation.bootstrap_servers, group_id=installation.group_id, enable_auto_commit=False
        )
        async with group:
            group.assign([other])
            await group.commit({other: (4, metadata)})
        worker = installation.start()
        try:
            assert await asyncio.to_thread(worker.wait) == 1
        finally:
            worker.kill()
        assert sentence in worker.last_words()
        assert other.topic in worker.last_words()
        async with installation.worker("--reset-offsets", "earliest") as mended:
            await client.settle()
            (line,) = mended.lines("offset_reset")
            assert (line["partition"], line["from_offset"], line["to_offset"]) == (2, 4, 0)
        assert len(await client.dead_letters()) == 10 + 5


async def test_offsets_are_not_reset_while_another_worker_runs(installation: worker_process.Installation) -> None:
    async with clients.connect(installation) as client, installation.worker():
        await client.process(*GARBAGE)
        before = await client.committed()
        second = installation.start("--reset-offsets", "PT1H")
        try:
            assert second.wait() == 1
        finally:
            second.kill()
        assert "stop all workers, then start one with --reset-offsets" in second.last_words()
        assert await client.committed() == before


def test_an_invalid_offset_reset_target_is_a_usage_error(installation: worker_process.Installation) -> None:
    assert installation.call("run", "--reset-offsets", "yesterday").code == 2
