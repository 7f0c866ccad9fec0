"""Workers come and go, partitions are added, offsets are lost: no record is lost, doubled or silently skipped."""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable, Collection

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from tests.faults import faulty_servers, rigged, workers
from tests.faults.scenes import does_both, had_ended, signs_up_twice
from tests.faults.traffic import Traffic
from tests.kit import clients, messages_in, support, worker_process

RUNS = 400
STORM_SECONDS = 45


@pytest.mark.fault
async def test_a_storm_of_rebalances_loses_and_doubles_nothing(
    installation: worker_process.Installation,
) -> None:
    chance = random.Random(3)
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "storm")
        for _ in range(3):
            traffic.plan(RUNS, malformed=5)
        sent_record = asyncio.create_task(_slowly(traffic))
        crew = [workers.start(installation, BATCH__MAX_RECORDS=50) for _ in range(3)]
        try:
            loop = asyncio.get_running_loop()
            until = loop.time() + STORM_SECONDS
            while loop.time() < until:
                await asyncio.sleep(chance.uniform(0.5, 4))
                leaver = crew.pop(chance.randrange(3))
                if chance.random() < 0.5 or not leaver.lines("worker_ready"):
                    leaver.kill()
                else:
                    await asyncio.to_thread(leaver.stop)
                crew.append(workers.start(installation, BATCH__MAX_RECORDS=50))
            await sent_record
            await workers.check(traffic)
            for worker in crew:
                await worker.ready()
                await asyncio.to_thread(worker.stop)
        finally:
            sent_record.cancel()
            for worker in crew:
                worker.kill()


async def _slowly(traffic: Traffic) -> None:
    while traffic.unsent:
        await traffic.send(max(0.02, min(1, 60 / len(traffic.unsent))))
        await asyncio.sleep(0.5)


@pytest.mark.fault
async def test_partitions_added_are_read_from_their_beginning(installation: worker_process.Installation) -> None:
    topic = installation.topics["form_submitted"]
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "more")
        traffic.plan(RUNS)
        await traffic.send(0.5)
        async with (
            workers.worker(installation, BATCH__MAX_RECORDS=50),
            workers.worker(installation, BATCH__MAX_RECORDS=50),
        ):
            await workers.wait_for_share(traffic, 0.1)
            await client.admin.create_partitions({topic: NewPartitions(support.PARTITIONS + 3)})
            await client.producer.client.force_metadata_update()
            await traffic.send()
            for number in range(3):
                enrollment = traffic.enrollment("any")
                traffic.started(enrollment, traffic.at(0))
                traffic.achieves(
                    enrollment, one=traffic.submits(enrollment, "one", traffic.at(2), support.PARTITIONS + number)
                )
                traffic.exits(enrollment)
            await traffic.send()
            await workers.check(traffic)


@pytest.mark.fault
async def test_partitions_added_during_a_postgresql_outage_are_read(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    """A rebalance during an outage assigns partitions without an offset."""
    topic = installation.topics["form_submitted"]
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "both")
        traffic.plan(RUNS)
        await traffic.send(0.3)
        async with workers.worker(installation, BATCH__MAX_RECORDS=50) as worker:
            await workers.settle(client)
            servers.postgres.kill()
            try:
                await traffic.send()
                await worker.said("retry", timeout_seconds=30)
                await client.admin.create_partitions({topic: NewPartitions(support.PARTITIONS + 3)})
                await worker.said("partitions_assigned", partitions=31, timeout_seconds=60)
                await asyncio.sleep(5)
            finally:
                await asyncio.to_thread(servers.postgres.start)
            await workers.check(traffic)
            assert worker.is_running


@pytest.mark.fault
async def test_offsets_out_of_range_stop_the_worker_and_skip_nothing(installation: worker_process.Installation) -> None:
    """Records are deleted after the worker started and before it reads them."""
    topic = installation.topics["tag_added"]
    async with clients.connect(installation) as client:
        worker = workers.start(installation)
        try:
            await worker.ready()
            await worker.said("partitions_begun")  # before that it has no position, and begins at the earliest record
            await workers.settle(client)
            async with workers.paused(worker):
                await asyncio.sleep(1)  # lets the fetch in flight return before the deletion
                await client.send(*(messages_in.Record("tag_added", b"{", partition=1) for _ in range(5)))
                await client.admin.delete_records({TopicPartition(topic, 1): RecordsToDelete(before_offset=3)})
            await support.until(lambda: not worker.is_running, 30)
        finally:
            worker.kill()
        assert worker.wait() == 1
        assert f"{topic}[1] at 0" in worker.last_words()
        assert (await client.committed())[TopicPartition(topic, 1)] == 0


@pytest.mark.fault
async def test_half_of_the_records_may_be_malformed_and_the_others_are_judged(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "half")
        traffic.plan(RUNS, malformed=RUNS * 2)
        await traffic.send()
        async with workers.worker(installation, DEAD_LETTERS__MAX_RATIO=1):
            found = await workers.check(traffic)
            assert len(found.dead_letters) > len(found.inputs) / 3


@pytest.mark.fault
async def test_an_enrollment_judged_by_two_workers_is_achieved_once(
    installation: worker_process.Installation,
) -> None:
    """Start, hits and end of each enrollment are in partitions of different workers."""
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "at-once")
        async with (
            workers.worker(installation, BATCH__MAX_RECORDS=20),
            workers.worker(installation, BATCH__MAX_RECORDS=20),
        ):
            for _ in range(5):
                for _ in range(RUNS // 4):
                    for scene in (does_both, had_ended, signs_up_twice):
                        scene(traffic)
                traffic.chance.shuffle(traffic.unsent)
                await traffic.send()
                await workers.settle(client)
            found = await workers.check(traffic)
            assert max(row.revision for row in found.achievements.values()) > 1


@pytest.mark.fault
async def test_a_recreated_topic_is_noticed_by_its_leader_epoch(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    """The broker gives topics no id, and the new topic has more records than were read of the old one."""
    servers.kafka.kill()
    servers.kafka.start()  # starts a new leader epoch
    topic = installation.topics["tag_added"]
    async with clients.connect(installation) as client:
        worker = workers.start(installation, "old-broker")
        try:
            await worker.ready()
            await client.process(*(messages_in.Record("tag_added", b"{", partition=2) for _ in range(5)))
            async with workers.paused(worker):
                await support.until(lambda: _has_no_members(client), workers.SETTLED_SECONDS)
                await _make_anew(client, topic)
                await client.send(*(messages_in.Record("tag_added", b"[", partition=2) for _ in range(9)))
            assert await asyncio.to_thread(worker.wait) == 1
        finally:
            worker.kill()
        assert f"another log: {topic}[2] at 5" in worker.last_words()
        assert "goalworker run --reset-offsets earliest" in worker.last_words()
        async with workers.worker(installation, "old-broker", "--reset-offsets", "earliest"):
            await client.settle()
        values = [letter.value for letter in await client.dead_letters()]
        assert sorted(values) == [b"["] * 9 + [b"{"] * 5


@pytest.mark.fault
async def test_a_worker_that_cannot_join_its_group_is_unready_and_logs_it_once(
    installation: worker_process.Installation,
) -> None:
    """Another member holds up the rebalance; once it stops doing so, the worker joins."""
    async with clients.connect(installation), _undecided(installation) as decide:
        worker = workers.start(installation, "impatient")
        try:
            await worker.said("broker_unjoined")
            # Long enough for several checks.
            await support.until(lambda: (_unjoined_seconds(worker) or 0) >= 4 * rigged.JOIN_SECONDS)
            assert worker.answers("/healthz/ready") == 503
            assert worker.answers("/healthz/live") == 200
            assert worker.metric("ready", check="broker") == 0
            (line,) = worker.lines("broker_unjoined")
            assert f"the consumer group {installation.group_id} has not been joined for" in line["problem"]
            assert "its members do not finish dividing the partitions" in line["problem"]
            decide()
            await worker.ready()
            assert len(worker.lines("broker_back")) == len(worker.lines("broker_unjoined")) == 1
            await asyncio.to_thread(worker.stop)
        finally:
            worker.kill()


def _unjoined_seconds(worker: worker_process.Worker) -> int | None:
    answer = worker_process.get(worker.port, "/healthz/ready").json()
    found = re.search(r"has not been joined for (\d+) s", str(answer.get("checks", {}).get("broker")))
    return found and int(found[1])


@contextlib.asynccontextmanager
async def _undecided(installation: worker_process.Installation) -> AsyncIterator[Callable[[], None]]:
    """Join the group as a member that gives up no partition until the yielded function is called."""
    decided = asyncio.Event()

    class Undecided(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
        async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
            if revoked:
                await decided.wait()

        async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
            pass

    member = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=installation.bootstrap_servers,
        group_id=installation.group_id,
        partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        session_timeout_ms=120_000,
        rebalance_timeout_ms=120_000,
    )
    member.subscribe([installation.topics["tag_added"]], listener=Undecided())
    await member.start()
    try:
        yield decided.set
    finally:
        decided.set()
        await member.stop()


async def _has_no_members(client: clients.Client) -> bool:
    return await client.members() == {}


async def _make_anew(client: clients.Client, topic: str) -> None:
    async def is_made() -> bool:
        response = await client.admin.create_topics([NewTopic(topic, support.PARTITIONS, 1)])
        ((_, code, *_),) = response.topic_errors
        return bool(code == 0)

    await client.admin.delete_topics([topic])
    await support.until(is_made, workers.SETTLED_SECONDS)
