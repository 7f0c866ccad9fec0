"""PostgreSQL dies, hangs, loses replies, is slow or read-only: work is delayed, and nothing else changes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.faults import faulty_servers, workers
from tests.faults.traffic import Traffic
from tests.kit import clients, support, worker_process

RUNS = 400
BACK_SECONDS = 20.0
CATCH_UP_SECONDS = 300.0
EVENTS_A_SECOND = 2_000
# While it is away, the worker holds its batch.
AWAY_BYTES = 20 * 1024 * 1024
# Afterwards it may take this much more than it takes for an equal backlog without an outage.
BACK_BYTES = 40 * 1024 * 1024
# Logs every retry; at `info` there is one line a minute, and none while the database is known to be away.
EVERY_LINE = {"LOG__LEVEL": "debug"}
TRANSACTIONS = {"facts": b"pg_advisory_xact_lock_shared", "judge": b"COPY", "any": b""}


async def test_a_commit_whose_reply_is_lost_takes_effect_once(
    servers: faulty_servers.FaultyServers, behind_proxies: worker_process.Installation
) -> None:
    async with clients.connect(behind_proxies) as client:
        traffic = await Traffic.begin(client, "lost-reply")
        async with workers.worker(behind_proxies, BATCH__MAX_RECORDS=50) as worker:
            for said_before in TRANSACTIONS.values():
                traffic.plan(RUNS // 4, malformed=5)
                servers.database_proxy.lose_reply(b"COMMIT\0", after=said_before, times=3)
                await traffic.send()
                await support.until(lambda: servers.database_proxy.replies_lost == 3)
                servers.database_proxy.heal()
            await workers.check(traffic)
            assert worker.is_running


async def test_a_short_postgresql_outage_under_load_takes_no_memory(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    await _away_under_load(servers, installation, seconds=8)


@pytest.mark.fault
async def test_a_postgresql_outage_of_two_minutes_under_load_takes_no_memory(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    await _away_under_load(servers, installation, seconds=120)


async def _away_under_load(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation, seconds: float
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "away")
        # One topic gets only malformed records, more than a window of them.
        limits = {"DEAD_LETTERS__MAX_RATIO": "1"}
        await _send(traffic, EVENTS_A_SECOND * seconds)
        async with workers.worker(installation, **limits) as worker, _sizes(worker) as backlog_sizes:
            await workers.settle(client, CATCH_UP_SECONDS)
        traffic.plan(RUNS, malformed=10)
        await traffic.send()
        async with workers.worker(installation, **limits) as worker:
            await workers.settle(client, CATCH_UP_SECONDS)
            before = workers.resident_bytes(worker)
            servers.postgres.kill()
            away = time.monotonic()
            try:
                async with _sizes(worker) as away_sizes:
                    await _load(traffic, seconds)
                assert worker.answers("/healthz/live") == 200
                assert worker.answers("/healthz/ready") == 503
                # No rebalance: the worker stayed the only member.
                assert worker.metric("consumer_rebalances_total") <= 2
                members = await client.members()
                assert list(members.values()) == [worker.client_id]
            finally:
                await asyncio.to_thread(servers.postgres.start)
            back = time.monotonic()
            async with _sizes(worker) as back_sizes:
                await workers.settle(client, CATCH_UP_SECONDS)
            print(
                f"PostgreSQL away for {back - away:.0f} s: {len(traffic.sent)} records, resident {before >> 20} MiB"
                f" before, {max(away_sizes) >> 20} MiB at most while it was away, {max(back_sizes) >> 20} MiB after,"
                f" and {max(backlog_sizes) >> 20} MiB for such a backlog without an outage;"
                f" caught up in {time.monotonic() - back:.0f} s"
            )
            found = await workers.check(traffic)
            assert worker.is_running
            assert max(away_sizes) < before + AWAY_BYTES
            assert max(back_sizes) < max(backlog_sizes) + BACK_BYTES
            assert len(found.dead_letters) == sum(
                sent_record.reason is not None for sent_record in traffic.sent.values()
            )


@contextlib.asynccontextmanager
async def _sizes(worker: worker_process.Worker) -> AsyncIterator[list[int]]:
    """Sample the resident memory of a worker while the block runs."""
    sizes = [workers.resident_bytes(worker)]

    async def look() -> None:
        while True:
            await asyncio.sleep(0.5)
            sizes.append(workers.resident_bytes(worker))

    looking = asyncio.create_task(look())
    try:
        yield sizes
    finally:
        looking.cancel()


async def _send(traffic: Traffic, events: float) -> None:
    """Send this many events, as fast as they can be sent."""
    sent_before = len(traffic.sent)
    while len(traffic.sent) - sent_before < events:
        traffic.plan(600, malformed=20)
        await traffic.send()


async def _load(traffic: Traffic, seconds: float) -> None:
    """Send this many events a second, for this many seconds."""
    began, told_before = time.monotonic(), len(traffic.sent)
    while (share := (len(traffic.sent) - told_before) / (EVENTS_A_SECOND * seconds)) < 1:
        await asyncio.sleep(max(0.0, began + share * seconds - time.monotonic()))
        traffic.plan(60, malformed=2)
        await traffic.send()


@pytest.mark.fault
async def test_postgresql_that_is_killed_repeatedly_delays_work_only(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "killed")
        traffic.plan(RUNS * 3, malformed=20)
        await traffic.send()
        async with (
            workers.worker(installation, BATCH__MAX_RECORDS=50) as first,
            workers.worker(installation, BATCH__MAX_RECORDS=50),
        ):
            for share in (0.1, 0.3, 0.6):
                await workers.wait_for_share(traffic, share)
                await asyncio.to_thread(servers.postgres.kill)
                await asyncio.to_thread(servers.postgres.start)
            await workers.check(traffic)
            assert first.is_running


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
                getattr(servers.database_proxy, how)()
            await workers.check(traffic)
            assert worker.is_running


@pytest.mark.fault
async def test_connections_to_postgresql_that_hang_are_given_up(
    servers: faulty_servers.FaultyServers, behind_proxies: worker_process.Installation
) -> None:
    async with clients.connect(behind_proxies) as client:
        traffic = await Traffic.begin(client, "black-hole")
        traffic.plan(RUNS, malformed=10)
        await traffic.send()
        limits = {"BATCH__MAX_RECORDS": "50", "DATABASE__STATEMENT_TIMEOUT_SECONDS": "2"}
        async with workers.worker(behind_proxies, "nothing", **limits, **EVERY_LINE) as worker:
            await workers.wait_for_share(traffic, 0.1)
            servers.database_proxy.black_hole()
            # Two seconds to notice that nothing replies, and the statement timeout.
            await support.until(lambda: worker.answers("/healthz/ready") == 503, 30)
            await worker.said("retry", timeout_seconds=30)
            assert worker.answers("/healthz/live") == 200
            servers.database_proxy.heal()
            await workers.check(traffic)
            await support.until(lambda: worker.answers("/healthz/ready") == 200, BACK_SECONDS)


@pytest.mark.fault
async def test_a_slow_postgresql_delays_work_only(
    servers: faulty_servers.FaultyServers, behind_proxies: worker_process.Installation
) -> None:
    async with clients.connect(behind_proxies) as client:
        traffic = await Traffic.begin(client, "slow")
        traffic.plan(RUNS, malformed=10)
        await traffic.send()
        async with workers.worker(behind_proxies, BATCH__MAX_RECORDS=200) as worker:
            servers.database_proxy.delay_seconds = 0.1
            await workers.check(traffic, 180)
            assert worker.metric("consumer_rebalances_total") <= 2
            servers.database_proxy.heal()


@pytest.mark.fault
async def test_statements_that_time_out_are_retried(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "locked")
        traffic.plan(RUNS, malformed=10)
        async with workers.worker(installation, DATABASE__STATEMENT_TIMEOUT_SECONDS=2, **EVERY_LINE) as worker:
            await workers.settle(client)
            connection = await asyncpg.connect(installation.database_url)
            async with connection.transaction():
                await connection.execute("LOCK TABLE goal_hits IN ACCESS EXCLUSIVE MODE")
                await traffic.send()
                await worker.said("retry", times=2, timeout_seconds=30)
            await connection.close()
            await workers.check(traffic)
            assert worker.metric("dead_letters_total") == len(
                [sent_record for sent_record in traffic.sent.values() if sent_record.reason]
            )


@pytest.mark.fault
async def test_a_worker_waits_for_a_database_that_is_read_only(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "read-only")
        traffic.plan(RUNS, malformed=10)
        await traffic.send(0.2)
        async with workers.worker(installation, BATCH__MAX_RECORDS=50, **EVERY_LINE) as worker:
            await workers.settle(client)
            read_only = "ALTER SYSTEM SET default_transaction_read_only = on"
            await support.execute(servers.postgres.address, read_only, "SELECT pg_reload_conf()")
            try:
                await traffic.send()
                await worker.said("retry", times=2, timeout_seconds=30)
                await support.until(lambda: worker.answers("/healthz/ready") == 503, 30)
                assert worker.answers("/healthz/live") == 200
                await workers.check_so_far(traffic)
            finally:
                await support.execute(
                    servers.postgres.address,
                    "SET default_transaction_read_only = off",
                    "ALTER SYSTEM RESET default_transaction_read_only",
                    "SELECT pg_reload_conf()",
                )
            await workers.check(traffic)
            await support.until(lambda: worker.answers("/healthz/ready") == 200, BACK_SECONDS)


_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'"
_LOCK = "SELECT FROM enrollments WHERE enrollment_id = $1 FOR UPDATE"


@pytest.mark.fault
async def test_the_loser_of_a_deadlock_retries(installation: worker_process.Installation) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "deadlock")
        first, last = sorted(
            (traffic.enrollment("any") for _ in range(2)), key=lambda enrollment: enrollment.enrollment_id
        )
        for enrollment in (first, last):
            traffic.started(enrollment, traffic.at(0))
        await traffic.send()
        async with workers.worker(installation, **EVERY_LINE) as worker:
            await workers.settle(client)
            for enrollment in (first, last):
                traffic.achieves(enrollment, one=traffic.submits(enrollment, "one", traffic.at(1)))
                traffic.exits(enrollment)
            connection = await asyncpg.connect(installation.database_url)
            transaction = connection.transaction()
            await transaction.start()
            # The session that waits longer than this checks for a deadlock first and loses it: here the worker's.
            await connection.execute("SET LOCAL deadlock_timeout = '1min'")
            await connection.execute(_LOCK, last.enrollment_id)
            async with workers.paused(worker):
                await traffic.send()
            await support.until(lambda: _waits(client, worker), workers.SETTLED_SECONDS)
            await connection.execute(_LOCK, first.enrollment_id)
            await transaction.rollback()
            await connection.close()
            await workers.check(traffic)
            assert any("Deadlock" in line["error"] for line in worker.lines("retry"))


async def _waits(client: clients.Client, worker: worker_process.Worker) -> bool:
    waiting: int = await client.sql(_WAITS, worker.client_id)
    return waiting > 0
