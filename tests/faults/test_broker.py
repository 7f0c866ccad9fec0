"""The broker dies, hangs or is away: no offset is committed before its results are published, and workers recover."""

import asyncio
import time

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.admin import NewTopic

from goalworker import config
from goalworker.kafka import broker_errors, records
from goalworker.kafka.sender import Sender
from tests.faults import evidence, faulty_servers, scenes, workers
from tests.faults.traffic import Traffic
from tests.kit import clients, support, worker_process

RUNS = 400
AWAY_SECONDS = 70
ALL_PARTITIONS = 28


@pytest.mark.fault
async def test_a_broker_that_is_killed_repeatedly_delays_work_only(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "killed")
        traffic.plan(RUNS * 3, malformed=20)
        await traffic.send()
    async with workers.worker(installation, BATCH__MAX_RECORDS=50) as worker:
        for share in (0.2, 0.5):
            async with clients.connect(installation) as client:
                traffic.client = client
                await workers.wait_for_share(traffic, share)
            await asyncio.to_thread(servers.kafka.kill)
            await asyncio.to_thread(servers.kafka.start)
        async with clients.connect(installation) as client:
            traffic.client = client
            await workers.check(traffic)
            assert worker.is_running
            await workers.rejoin(client, worker)


@pytest.mark.fault
async def test_a_broker_outage_of_more_than_a_minute_delays_work_only(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "away")
        traffic.plan(RUNS * 3, malformed=20)
        await traffic.send()
    async with (
        workers.worker(installation, BATCH__MAX_RECORDS=50) as first,
        workers.worker(installation, BATCH__MAX_RECORDS=50) as second,
    ):
        async with clients.connect(installation) as client:
            traffic.client = client
            await workers.wait_for_share(traffic, 0.2)
        both = (first, second)
        before = [(workers.resident_bytes(each), workers.open_files(each)) for each in both]
        await asyncio.to_thread(servers.kafka.kill)
        try:
            await asyncio.sleep(AWAY_SECONDS)
            assert [each.answers("/healthz/live") for each in both] == [200, 200]
            assert [each.answers("/healthz/ready") for each in both] == [503, 503]
        finally:
            await asyncio.to_thread(servers.kafka.start)
        back = time.monotonic()
        async with clients.connect(installation) as client:
            traffic.client = client
            traffic.plan(RUNS)
            await traffic.send()
            await workers.check(traffic)
            print(f"Kafka away for {AWAY_SECONDS} s: caught up in {time.monotonic() - back:.1f} s")
            await workers.rejoin(client, *both)
            for each, (bytes_before, sockets_before) in zip(both, before, strict=True):
                assert workers.resident_bytes(each) < bytes_before + 60 * 1024 * 1024
                assert workers.open_files(each) <= sockets_before + 5


@pytest.mark.fault
@pytest.mark.parametrize("seconds", [3, 40])
async def test_connections_to_the_broker_that_hang_are_given_up(
    seconds: float, servers: faulty_servers.FaultyServers, behind_proxies: worker_process.Installation
) -> None:
    async with clients.connect(behind_proxies) as client:
        traffic = await Traffic.begin(client, "black-hole")
        traffic.plan(RUNS, malformed=10)
        await traffic.send()
        async with workers.worker(behind_proxies, BATCH__MAX_RECORDS=50) as worker:
            await workers.wait_for_share(traffic, 0.2)
            sockets = workers.open_files(worker)
            servers.broker_proxy.black_hole()
            await asyncio.sleep(seconds)
            assert worker.answers("/healthz/live") == 200
            servers.broker_proxy.heal()
            traffic.plan(RUNS)
            await traffic.send()
            await workers.check(traffic, 180)
            assert worker.is_running
            await workers.rejoin(client, worker)
            await support.until(lambda: worker.metric("consumer_assigned_partitions") == ALL_PARTITIONS)
            assert workers.open_files(worker) <= sockets + 5


@pytest.mark.fault
@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_connections_that_are_cut_under_load_are_opened_again(
    how: str, servers: faulty_servers.FaultyServers, behind_proxies: worker_process.Installation
) -> None:
    async with clients.connect(behind_proxies) as client:
        traffic = await Traffic.begin(client, how)
        traffic.plan(RUNS * 2, malformed=20)
        await traffic.send()
        async with workers.worker(behind_proxies, BATCH__MAX_RECORDS=50) as worker:
            for share in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
                await workers.wait_for_share(traffic, share)
                getattr(servers.broker_proxy, how)()
            await workers.check(traffic, 180)
            assert worker.is_running


@pytest.mark.fault
@pytest.mark.parametrize("topic", ["goal_achieved", "workflow_exit", "dead_letters"])
async def test_a_worker_waits_for_a_deleted_output_topic_and_commits_nothing(
    topic: str, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "no-topic")
        # A short stall timeout: waiting for a topic must not count as a stall.
        async with workers.worker(installation, OPS__STALL_SECONDS=10) as worker:
            await client.admin.delete_topics([installation.topics[topic]])
            await support.until(lambda: worker.answers("/healthz/ready") == 503, 30)
            traffic.plan(RUNS, malformed=20)
            await traffic.send()
            await asyncio.sleep(20)
            assert worker.is_running, worker.log.read_text()
            assert worker.answers("/healthz/live") == 200
            assert await evidence.lag(client) > 0
            names = {"dead_letters": {"max.message.bytes": str(support.DEAD_LETTER_BYTES)}}
            await client.admin.create_topics(
                [NewTopic(installation.topics[topic], support.PARTITIONS, 1, topic_configs=names.get(topic, {}))]
            )
            await workers.check(traffic, 120)
            await support.until(lambda: worker.answers("/healthz/ready") == 200)


@pytest.mark.fault
async def test_an_input_topic_that_is_recreated_is_read_from_its_beginning(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "deleted")
        deleted = installation.topics["stage_changed"]
        async with workers.worker(installation) as worker:
            await client.admin.delete_topics([deleted])
            await support.until(lambda: worker.answers("/healthz/ready") == 503, 30)
            # The other topics are still processed.
            traffic.plan(RUNS, malformed=10, without={scenes.wins_one_of_two_deals})
            await traffic.send()
            await support.until(lambda: workers.is_judged(traffic, 1), workers.SETTLED_SECONDS)
            await client.admin.create_topics([NewTopic(deleted, support.PARTITIONS, 1)])
            await support.until(lambda: worker.answers("/healthz/ready") == 200, 30)
            traffic.plan(RUNS)
            for _ in range(5):
                traffic.malformed("stage_changed")
            await traffic.send()
            await workers.check(traffic)


async def test_failed_producers_leave_no_task_behind(
    servers: faulty_servers.FaultyServers, behind_proxies: worker_process.Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goalworker.kafka.clients.SEND_TIMEOUT_SECONDS", 1)
    sender = Sender(config.load(behind_proxies.environment(), env_file=None, secrets_dir=None))
    record = records.Record(behind_proxies.topics["goal_achieved"], b"key", b"value")
    await sender.send([record])
    servers.broker_proxy.black_hole()
    for _ in range(2):
        with pytest.raises((broker_errors.NotAcknowledgedError, kafka_errors.KafkaError, TimeoutError)):
            async with asyncio.timeout(10):
                await sender.send([record])
    servers.broker_proxy.heal()
    await support.until(lambda: not _tasks_of_the_client())
    await sender.send([record])
    await sender.stop()
    assert not _tasks_of_the_client()


def _tasks_of_the_client() -> list[str]:
    return [name for task in asyncio.all_tasks() if "aiokafka" in (name := repr(task.get_coro()))]
