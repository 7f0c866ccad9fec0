"""PostgreSQL dies, hangs, forgets to answer, is slow or read-only: then it is later, and nothing else changes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.faults import machines, story, workers
from tests.kit import conversation, support, worker_process

RUNS = 400
BACK_SECONDS = 20.0
CATCH_UP_SECONDS = 300.0
EVENTS_A_SECOND = 2_000
# Away: the batch in hand. Back: up to three that are under way at once, one that is fetched ahead, and what the client
# reads before that is asked for, which is a mebibyte of each partition.
AWAY_BYTES = 20 * 1024 * 1024
BACK_BYTES = 80 * 1024 * 1024
# Each retry is a line here: at `info` it is one a minute, and none while the database is known to be away.
EVERY_LINE = {"LOG__LEVEL": "debug"}
TRANSACTIONS = {"facts": b"pg_advisory_xact_lock_shared", "judge": b"COPY", "any": b""}


async def test_a_commit_whose_reply_is_lost_is_done_once(
    bad: machines.Machines, behind_wires: worker_process.Installation
) -> None:
    async with conversation.talk(behind_wires) as talk:
        told = await story.begin(talk, "lost-reply")
        async with workers.worker(behind_wires, BATCH__MAX_RECORDS=50) as worker:
            for said_before in TRANSACTIONS.values():
                told.plan(RUNS // 4, malformed=5)
                bad.database_wire.lose_reply(b"COMMIT\0", after=said_before, times=3)
                await told.tell()
                await support.until(lambda: bad.database_wire.replies_lost == 3)
                bad.database_wire.heal()
            await workers.check(told)
            assert worker.is_running


async def test_postgresql_away_under_load_costs_nothing_but_time_and_no_memory(
    bad: machines.Machines, there: worker_process.Installation
) -> None:
    await _away_under_load(bad, there, seconds=8)


@pytest.mark.fault
async def test_postgresql_away_for_two_minutes_under_load(
    bad: machines.Machines, there: worker_process.Installation
) -> None:
    await _away_under_load(bad, there, seconds=120)


async def _away_under_load(bad: machines.Machines, there: worker_process.Installation, seconds: float) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "away")
        told.plan(RUNS, malformed=10)
        await told.tell()
        # Nothing but garbage is told in one of the topics, and more than a window of it.
        async with workers.worker(there, DEAD_LETTERS__MAX_RATIO=1) as worker:
            await workers.wait_for_share(told, 0.2)
            before = workers.resident_bytes(worker)
            bad.postgres.kill()
            away = time.monotonic()
            try:
                async with _sizes(worker) as away_sizes:
                    await _load(told, seconds)
                assert worker.answers("/healthz/live") == 200
                assert worker.answers("/healthz/ready") == 503
                # No rebalance: it kept its place in the group, and nobody else was there.
                assert worker.metric("consumer_rebalances_total") <= 2
                members = await talk.members()
                assert list(members.values()) == [worker.client_id]
            finally:
                await asyncio.to_thread(bad.postgres.start)
            back = time.monotonic()
            async with _sizes(worker) as back_sizes:
                await workers.settled(talk, CATCH_UP_SECONDS)
            print(
                f"PostgreSQL away for {back - away:.0f} s: {len(told.tellings)} records, resident {before >> 20} MiB"
                f" before, {max(away_sizes) >> 20} MiB at most while it was away, {max(back_sizes) >> 20} MiB after;"
                f" caught up in {time.monotonic() - back:.0f} s"
            )
            found = await workers.check(told)
            assert worker.is_running
            assert max(away_sizes) < before + AWAY_BYTES
            assert max(back_sizes) < before + BACK_BYTES
            assert len(found.dead_letters) == sum(telling.reason is not None for telling in told.tellings.values())


@contextlib.asynccontextmanager
async def _sizes(worker: worker_process.Worker) -> AsyncIterator[list[int]]:
    """How much memory a worker has, from time to time while the block runs."""
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


async def _load(told: story.Story, seconds: float) -> None:
    """Tell so many events a second for so long."""
    began, told_before = time.monotonic(), len(told.tellings)
    while (share := (len(told.tellings) - told_before) / (EVENTS_A_SECOND * seconds)) < 1:
        await asyncio.sleep(max(0.0, began + share * seconds - time.monotonic()))
        told.plan(60, malformed=2)
        await told.tell()


@pytest.mark.fault
async def test_postgresql_killed_and_started_again_and_again(
    bad: machines.Machines, there: worker_process.Installation
) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "killed")
        told.plan(RUNS * 3, malformed=20)
        await told.tell()
        async with workers.worker(there, BATCH__MAX_RECORDS=50) as first, workers.worker(there, BATCH__MAX_RECORDS=50):
            for share in (0.1, 0.3, 0.6):
                await workers.wait_for_share(told, share)
                await asyncio.to_thread(bad.postgres.kill)
                await asyncio.to_thread(bad.postgres.start)
            await workers.check(told)
            assert first.is_running


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
                getattr(bad.database_wire, how)()
            await workers.check(told)
            assert worker.is_running


@pytest.mark.fault
async def test_a_black_hole_before_postgresql_ends_in_timeouts_and_then_all_goes_on(
    bad: machines.Machines, behind_wires: worker_process.Installation
) -> None:
    async with conversation.talk(behind_wires) as talk:
        told = await story.begin(talk, "black-hole")
        told.plan(RUNS, malformed=10)
        await told.tell()
        limits = {"BATCH__MAX_RECORDS": "50", "DATABASE__STATEMENT_TIMEOUT_SECONDS": "2"}
        async with workers.worker(behind_wires, "nothing", **limits, **EVERY_LINE) as worker:
            await workers.wait_for_share(told, 0.1)
            bad.database_wire.black_hole()
            # Two to notice that nothing answers, and what a statement may take.
            await support.until(lambda: worker.answers("/healthz/ready") == 503, 30)
            await worker.said("retry", timeout_seconds=30)
            assert worker.answers("/healthz/live") == 200
            bad.database_wire.heal()
            await workers.check(told)
            await support.until(lambda: worker.answers("/healthz/ready") == 200, BACK_SECONDS)


@pytest.mark.fault
async def test_slow_postgresql_is_slow_and_nothing_else(
    bad: machines.Machines, behind_wires: worker_process.Installation
) -> None:
    async with conversation.talk(behind_wires) as talk:
        told = await story.begin(talk, "slow")
        told.plan(RUNS, malformed=10)
        await told.tell()
        async with workers.worker(behind_wires, BATCH__MAX_RECORDS=200) as worker:
            bad.database_wire.delay_seconds = 0.1
            await workers.check(told, 180)
            assert worker.metric("consumer_rebalances_total") <= 2
            bad.database_wire.heal()


@pytest.mark.fault
async def test_statements_that_take_too_long_are_given_up_and_tried_again(there: worker_process.Installation) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "locked")
        told.plan(RUNS, malformed=10)
        async with workers.worker(there, DATABASE__STATEMENT_TIMEOUT_SECONDS=2, **EVERY_LINE) as worker:
            await workers.settled(talk)
            connection = await asyncpg.connect(there.database_url)
            async with connection.transaction():
                await connection.execute("LOCK TABLE goal_hits IN ACCESS EXCLUSIVE MODE")
                await told.tell()
                await worker.said("retry", times=2, timeout_seconds=30)
            await connection.close()
            await workers.check(told)
            assert worker.metric("dead_letters_total") == len(
                [telling for telling in told.tellings.values() if telling.reason]
            )


@pytest.mark.fault
async def test_a_database_that_is_read_only_for_a_while_is_waited_for(
    bad: machines.Machines, there: worker_process.Installation
) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "read-only")
        told.plan(RUNS, malformed=10)
        await told.tell(0.2)
        async with workers.worker(there, BATCH__MAX_RECORDS=50, **EVERY_LINE) as worker:
            await workers.settled(talk)
            read_only = "ALTER SYSTEM SET default_transaction_read_only = on"
            await support.execute(bad.postgres.address, read_only, "SELECT pg_reload_conf()")
            try:
                await told.tell()
                await worker.said("retry", times=2, timeout_seconds=30)
                await support.until(lambda: worker.answers("/healthz/ready") == 503, 30)
                assert worker.answers("/healthz/live") == 200
                await workers.check_so_far(told)
            finally:
                await support.execute(
                    bad.postgres.address,
                    "SET default_transaction_read_only = off",
                    "ALTER SYSTEM RESET default_transaction_read_only",
                    "SELECT pg_reload_conf()",
                )
            await workers.check(told)
            await support.until(lambda: worker.answers("/healthz/ready") == 200, BACK_SECONDS)


_WAITS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'"
_LOCK = "SELECT FROM enrollments WHERE enrollment_id = $1 FOR UPDATE"


@pytest.mark.fault
async def test_who_loses_a_deadlock_tries_again(there: worker_process.Installation) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "deadlock")
        first, last = sorted((told.run("any") for _ in range(2)), key=lambda run: run.enrollment_id)
        for run in (first, last):
            told.started(run, told.at(0))
        await told.tell()
        async with workers.worker(there, **EVERY_LINE) as worker:
            await workers.settled(talk)
            for run in (first, last):
                told.achieves(run, one=told.submits(run, "one", told.at(1)))
                told.exits(run)
            connection = await asyncpg.connect(there.database_url)
            transaction = connection.transaction()
            await transaction.start()
            # Who waits for longer than this looks whether it waits in a circle, and that is to be the worker.
            await connection.execute("SET LOCAL deadlock_timeout = '1min'")
            await connection.execute(_LOCK, last.enrollment_id)
            async with workers.paused(worker):
                await told.tell()
            await support.until(lambda: _waits(talk, worker), workers.SETTLED_SECONDS)
            await connection.execute(_LOCK, first.enrollment_id)
            await transaction.rollback()
            await connection.close()
            await workers.check(told)
            assert any("Deadlock" in line["error"] for line in worker.lines("retry"))


async def _waits(talk: conversation.Talk, worker: worker_process.Worker) -> bool:
    waiting: int = await talk.sql(_WAITS, worker.client_id)
    return waiting > 0
