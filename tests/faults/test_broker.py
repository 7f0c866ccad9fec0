"""The broker dies, hangs, is away: nothing is committed that is not published, and the consumer comes back."""

import asyncio
import time

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.admin import NewTopic

from goalworker import config
from goalworker.kafka import broker_errors, clients, records
from goalworker.kafka.sender import Sender
from tests.faults import evidence, machines, story, workers
from tests.kit import conversation, support, worker_process

RUNS = 400
AWAY_SECONDS = 70
ALL_PARTITIONS = 28


@pytest.mark.fault
async def test_the_broker_killed_and_started_again_and_again(
    bad: machines.Machines, there: worker_process.Installation
) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "killed")
        told.plan(RUNS * 3, malformed=20)
        await told.tell()
    async with workers.worker(there, BATCH__MAX_RECORDS=50) as worker:
        for share in (0.2, 0.5):
            async with conversation.talk(there) as talk:
                told.talk = talk
                await workers.wait_for_share(told, share)
            await asyncio.to_thread(bad.kafka.kill)
            await asyncio.to_thread(bad.kafka.start)
        async with conversation.talk(there) as talk:
            told.talk = talk
            await workers.check(told)
            assert worker.is_running
            assert list((await talk.members()).values()) == [worker.client_id]


@pytest.mark.fault
async def test_the_broker_away_for_more_than_a_minute(
    bad: machines.Machines, there: worker_process.Installation
) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "away")
        told.plan(RUNS * 3, malformed=20)
        await told.tell()
    async with (
        workers.worker(there, BATCH__MAX_RECORDS=50) as first,
        workers.worker(there, BATCH__MAX_RECORDS=50) as second,
    ):
        async with conversation.talk(there) as talk:
            told.talk = talk
            await workers.wait_for_share(told, 0.2)
        both = (first, second)
        before = [(workers.resident_bytes(each), workers.open_files(each)) for each in both]
        await asyncio.to_thread(bad.kafka.kill)
        try:
            await asyncio.sleep(AWAY_SECONDS)
            assert [each.answers("/healthz/live") for each in both] == [200, 200]
            assert [each.answers("/healthz/ready") for each in both] == [503, 503]
        finally:
            await asyncio.to_thread(bad.kafka.start)
        back = time.monotonic()
        async with conversation.talk(there) as talk:
            told.talk = talk
            told.plan(RUNS)
            await told.tell()
            await workers.check(told)
            print(f"Kafka away for {AWAY_SECONDS} s: caught up in {time.monotonic() - back:.1f} s")
            assert sorted((await talk.members()).values()) == sorted(each.client_id for each in both)
            for each, (bytes_before, sockets_before) in zip(both, before, strict=True):
                assert workers.resident_bytes(each) < bytes_before + 60 * 1024 * 1024
                assert workers.open_files(each) <= sockets_before + 5


@pytest.mark.fault
@pytest.mark.parametrize("seconds", [3, 40])
async def test_a_black_hole_before_the_broker(
    seconds: float, bad: machines.Machines, behind_wires: worker_process.Installation
) -> None:
    async with conversation.talk(behind_wires) as talk:
        told = await story.begin(talk, "black-hole")
        told.plan(RUNS, malformed=10)
        await told.tell()
        async with workers.worker(behind_wires, BATCH__MAX_RECORDS=50) as worker:
            await workers.wait_for_share(told, 0.2)
            sockets = workers.open_files(worker)
            bad.broker_wire.black_hole()
            await asyncio.sleep(seconds)
            assert worker.answers("/healthz/live") == 200
            bad.broker_wire.heal()
            told.plan(RUNS)
            await told.tell()
            await workers.check(told, 180)
            assert worker.is_running
            assert list((await talk.members()).values()) == [worker.client_id]
            await support.until(lambda: worker.metric("consumer_assigned_partitions") == ALL_PARTITIONS)
            assert workers.open_files(worker) <= sockets + 5


@pytest.mark.fault
@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_connections_that_end_in_the_midst_of_everything(
    how: str, bad: machines.Machines, behind_wires: worker_process.Installation
) -> None:
    async with conversation.talk(behind_wires) as talk:
        told = await story.begin(talk, how)
        told.plan(RUNS * 2, malformed=20)
        await told.tell()
        async with workers.worker(behind_wires, BATCH__MAX_RECORDS=50) as worker:
            for share in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
                await workers.wait_for_share(told, share)
                getattr(bad.broker_wire, how)()
            await workers.check(told, 180)
            assert worker.is_running


@pytest.mark.fault
@pytest.mark.parametrize("topic", ["goal_achieved", "workflow_exit", "dead_letters"])
async def test_the_worker_waits_for_a_deleted_topic_out_and_commits_nothing_meanwhile(
    topic: str, there: worker_process.Installation
) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "no-topic")
        # Short: the worker must know that this is something to wait for, and no stall.
        async with workers.worker(there, OPS__STALL_SECONDS=10) as worker:
            await talk.admin.delete_topics([there.topics[topic]])
            await support.until(lambda: worker.answers("/healthz/ready") == 503, 30)
            told.plan(RUNS, malformed=20)
            await told.tell()
            await asyncio.sleep(20)
            assert worker.is_running, worker.log.read_text()
            assert worker.answers("/healthz/live") == 200
            assert await evidence.lag(talk) > 0
            names = {"dead_letters": {"max.message.bytes": str(support.DEAD_LETTER_BYTES)}}
            await talk.admin.create_topics(
                [NewTopic(there.topics[topic], support.PARTITIONS, 1, topic_configs=names.get(topic, {}))]
            )
            await workers.check(told, 120)
            await support.until(lambda: worker.answers("/healthz/ready") == 200)


@pytest.mark.fault
async def test_a_topic_in_that_is_deleted_and_made_anew_is_read_from_its_beginning(
    there: worker_process.Installation,
) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "deleted")
        deleted = there.topics["stage_changed"]
        async with workers.worker(there) as worker:
            await talk.admin.delete_topics([deleted])
            await support.until(lambda: worker.answers("/healthz/ready") == 503, 30)
            # The others go on.
            told.plan(RUNS, malformed=10)
            await told.tell()
            await support.until(lambda: workers.is_judged(told, 1), workers.SETTLED_SECONDS)
            await talk.admin.create_topics([NewTopic(deleted, support.PARTITIONS, 1)])
            await support.until(lambda: worker.answers("/healthz/ready") == 200, 30)
            for _ in range(5):
                told.garbage("stage_changed")
            await told.tell()
            await workers.check(told)


async def test_producers_that_failed_leave_nothing_behind(
    bad: machines.Machines, behind_wires: worker_process.Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SEND_TIMEOUT_SECONDS", 1)
    sender = Sender(config.load(behind_wires.environment(), env_file=None, secrets_dir=None))
    record = records.Record(behind_wires.topics["goal_achieved"], b"key", b"value")
    await sender.send([record])
    bad.broker_wire.black_hole()
    for _ in range(2):
        with pytest.raises((broker_errors.NotAcknowledgedError, kafka_errors.KafkaError, TimeoutError)):
            async with asyncio.timeout(10):
                await sender.send([record])
    bad.broker_wire.heal()
    await support.until(lambda: not _tasks_of_the_client())
    await sender.send([record])
    await sender.stop()
    assert not _tasks_of_the_client()


def _tasks_of_the_client() -> list[str]:
    return [name for task in asyncio.all_tasks() if "aiokafka" in (name := repr(task.get_coro()))]
