"""Insight is killed, paused, or cut off from a server: history holds each event once, and counts each value once."""

import asyncio

import asyncpg
import pytest

from tests.faults import faulty_servers, kept, standby, workers
from tests.faults.traffic import Traffic
from tests.kit import clients, support, worker_process

RUNS = 400
ALL_PARTITIONS = 7 * support.PARTITIONS  # of five goal topics, redrive and exits


async def test_a_commit_of_history_whose_reply_is_lost_takes_effect_once(
    servers: faulty_servers.FaultyServers, behind_proxies: worker_process.Installation
) -> None:
    async with clients.connect(behind_proxies) as client:
        traffic = await Traffic.begin(client, "lost-reply")
        async with kept.insight(behind_proxies) as process:
            for _ in range(3):
                traffic.plan(RUNS // 4, malformed=5)
                servers.database_proxy.lose_reply(b"COMMIT\0", after=b"COPY")
                await traffic.send()
                await support.until(lambda: servers.database_proxy.replies_lost == 1)
                servers.database_proxy.heal()
            await kept.check(client)
            assert process.is_running


@pytest.mark.fault
async def test_insight_that_is_killed_repeatedly_keeps_each_event_once(
    installation: worker_process.Installation,
) -> None:
    """The dead process stays a member of the group, so the next one waits for its session timeout."""
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "killed")
        for share in (0.1, 0.3, 0.5):
            traffic.plan(RUNS * 2, malformed=20)
            await traffic.send()
            process = kept.start(installation)
            try:
                await kept.wait_for_share(client, share)
            finally:
                process.kill()
        async with kept.insight(installation):
            await kept.check(client)


@pytest.mark.fault
async def test_insight_killed_while_it_makes_the_partition_of_a_day_keeps_each_event_once(
    installation: worker_process.Installation,
) -> None:
    """Someone else makes days at that time, so that the process waits for them in the midst of its transaction."""
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "days")
        traffic.plan(RUNS * 2, malformed=20)
        await traffic.send()
        other = await asyncpg.connect(installation.database_url)
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE history_events IN SHARE UPDATE EXCLUSIVE MODE")
                process = kept.start(installation)
                try:
                    await support.until(lambda: _waits_for_days(installation))
                finally:
                    process.kill()
        finally:
            await other.close()
        async with kept.insight(installation):
            await kept.check(client)
        days = await kept.read(installation, "SELECT 1 FROM pg_inherits WHERE inhparent = 'history_events'::regclass")
        assert len(days) >= 3


@pytest.mark.fault
async def test_insight_reads_again_what_a_standby_lacks_after_a_failover(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "failover")
        traffic.plan(RUNS, malformed=10)
        await traffic.send()
        async with kept.insight(installation):
            await kept.check(client)
        await standby.copy(servers, installation)
        traffic.plan(RUNS, malformed=10)
        await traffic.send()
        async with kept.insight(installation) as process:
            await kept.check(client)
            await standby.take_over(servers, installation)
            traffic.plan(RUNS, malformed=10)
            await traffic.send()
            await kept.check(client)
            assert process.is_running
            assert process.lines("history_gap") == []
            assert process.lines("history_fenced") != []


@pytest.mark.fault
async def test_insight_paused_longer_than_its_session_keeps_each_event_once(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "paused")
        traffic.plan(RUNS * 4, malformed=20)
        await traffic.send(0.5)
        async with kept.insight(installation) as first, kept.insight(installation) as second:
            await kept.wait_for_share(client, 0.1)
            async with workers.paused(first):
                await traffic.send()
                await support.until(lambda: _partitions(second) == ALL_PARTITIONS, workers.SETTLED_SECONDS)
                await kept.check(client)
            traffic.plan(RUNS)
            await traffic.send()
            await kept.check(client)
            await support.until(lambda: 0 < _partitions(first) < ALL_PARTITIONS, workers.SETTLED_SECONDS)
            assert first.is_running


@pytest.mark.fault
@pytest.mark.parametrize("server", ["broker", "database"])
@pytest.mark.parametrize("seconds", [3, 40])
async def test_insight_that_is_cut_off_from_a_server_keeps_each_event_once(
    server: str, seconds: float, servers: faulty_servers.FaultyServers, behind_proxies: worker_process.Installation
) -> None:
    proxy = {"broker": servers.broker_proxy, "database": servers.database_proxy}[server]
    async with clients.connect(behind_proxies) as client:
        traffic = await Traffic.begin(client, "cut-off")
        traffic.plan(RUNS * 2, malformed=20)
        await traffic.send()
        async with kept.insight(behind_proxies) as process:
            await kept.wait_for_share(client, 0.1)
            proxy.black_hole()
            await asyncio.sleep(seconds)
            assert process.answers("/healthz/live") == 200
            proxy.heal()
            proxy.cut()
            traffic.plan(RUNS, malformed=10)
            await traffic.send()
            await kept.check(client, 180)
            assert process.is_running
            await support.until(lambda: process.answers("/healthz/ready") == 200)


@pytest.mark.fault
@pytest.mark.parametrize("server", ["postgres", "kafka"])
async def test_insight_waits_for_a_server_that_is_killed_and_keeps_each_event_once(
    server: str, servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    killed = {"postgres": servers.postgres, "kafka": servers.kafka}[server]
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "away")
        traffic.plan(RUNS * 2, malformed=20)
        await traffic.send()
    async with kept.insight(installation) as process:
        async with clients.connect(installation) as client:
            await kept.wait_for_share(client, 0.1)
        await asyncio.to_thread(killed.kill)
        try:
            await support.until(lambda: process.answers("/healthz/ready") == 503)
            assert process.answers("/healthz/live") == 200
        finally:
            await asyncio.to_thread(killed.start)
        async with clients.connect(installation) as client:
            traffic.client = client
            traffic.plan(RUNS)
            await traffic.send()
            await kept.check(client, 180)
            assert process.is_running


async def _waits_for_days(installation: worker_process.Installation) -> bool:
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        " AND query LIKE '%goalworker_make_days%'"
    )
    return bool(await kept.read(installation, waiting))


def _partitions(process: worker_process.Worker) -> float:
    return process.metric("consumer_assigned_partitions")
