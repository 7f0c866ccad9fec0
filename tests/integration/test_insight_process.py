"""`goalworker insight` on a real Kafka and PostgreSQL: what it keeps, what it counts, and what it does when killed."""

import contextlib
import datetime as dt
import signal
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.domain.cells import bucket_of, format_buckets
from goalworker.insight.group_offsets import GroupOffsets
from goalworker.postgres import connections, tables
from goalworker.runtime import insight_service
from goalworker.stores import history
from tests.kit import messages_in, shells, support, worker_process
from tests.kit.forker import Forker
from tests.kit.messages_in import Record
from tests.kit.worker_process import Installation, Worker

# Places in a batch of records: its checksum, and what the checksum is of.
CRC_AT, ATTRIBUTES_AT = 17, 21
QUICK = {"HISTORY__DELAY_SECONDS": 0}


@pytest.fixture
def installed(
    bootstrap_servers: str, postgres_url: str, template_database: str, forker: Forker, tmp_path: Path
) -> Iterator[Installation]:
    with worker_process.installation(
        bootstrap_servers, postgres_url, template_database, tmp_path, forker=forker, settings=QUICK
    ) as made:
        yield made


@pytest.fixture
async def pool(installed: Installation) -> AsyncIterator[sa_async.AsyncEngine]:
    pool = connections.engine(installed.database_url, pool_size=2, statement_timeout_seconds=30, application="test")
    yield pool
    await pool.dispose()


@contextlib.asynccontextmanager
async def insight(installed: Installation, **settings: object) -> AsyncIterator[Worker]:
    async with worker_process.stopping(installed.launch("insight", **settings)) as process:
        await process.said("insight_ready")
        yield process


async def send(installed: Installation, *records: Record) -> None:
    async with shells.producing(installed.bootstrap_servers) as producer:
        for record in records:
            await producer.send(
                installed.topics[record.topic],
                record.value,
                record.key,
                record.partition,
                record.timestamp_ms,
                list(record.headers),
            )
        await producer.flush()


async def enroll(pool: sa_async.AsyncEngine, *contact_ids: str, ended_at: datetime | None = None) -> None:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        for contact_id in contact_ids:
            await connection.execute(
                "INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, ended_at)"
                " VALUES ('acme', $1, 'w', $2, $3)",
                f"e-{contact_id}",
                contact_id,
                ended_at,
            )


async def kept(pool: sa_async.AsyncEngine) -> list[tuple[Any, ...]]:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        rows = await connection.fetch(
            "SELECT contact_id, type, event_id FROM history_events ORDER BY contact_id, event_id"
        )
    return [tuple(row) for row in rows]


async def until_covered(pool: sa_async.AsyncEngine, moment: dt.datetime) -> None:
    """Wait until history says that it has every event from before a moment."""

    async def is_covered() -> bool:
        async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
            until = (await history.coverage(connection, messages_in.TENANT)).history_until
        return until is not None and until >= moment

    await support.until(is_covered)


async def until_kept(pool: sa_async.AsyncEngine, number: int) -> None:
    async def are_kept() -> bool:
        return len(await kept(pool)) >= number

    await support.until(are_kept)


async def seen(pool: sa_async.AsyncEngine) -> dict[tuple[str, str], int]:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        rows = await connection.fetch("SELECT field, value, sum(count)::int FROM seen_values GROUP BY field, value")
    return {(row[0], row[1]): row[2] for row in rows}


def now() -> datetime:
    return datetime.now(UTC)


def submitted(contact_id: str, id_: str, form_id: str = "f1", **more: Any) -> Record:
    return messages_in.event("form.submitted", {"contact_id": contact_id, "form_id": form_id, **more}, now(), id=id_)


async def test_events_of_enrolled_contacts_are_kept_and_values_of_everyone_counted(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    await enroll(pool, "in")
    await enroll(pool, "lately", ended_at=now() - dt.timedelta(days=6))
    await enroll(pool, "long-ago", ended_at=now() - dt.timedelta(days=8))
    await send(
        installed,
        submitted("in", "1"),
        submitted("out", "2"),
        submitted("lately", "3"),
        submitted("long-ago", "4"),
        submitted("in", "5", test=True),
        messages_in.event("form.rejected", {"contact_id": "in", "submission_id": "s"}, now(), id="6"),
        submitted("in", "7", "f2"),
        Record("form_submitted", b"{"),
        Record("form_submitted", None, b"k"),
    )
    async with insight(installed) as process:
        await until_kept(pool, 4)
        await support.until(lambda: process.metric("history_records_total") == 9)
        await until_covered(pool, now())
        topic = installed.topics["form_submitted"]
        outcomes = {
            outcome: process.metric("history_records_total", topic=topic, outcome=outcome)
            for outcome in ("kept", "left_out", "skipped", "malformed", "tombstone")
        }
    assert outcomes == {"kept": 4, "left_out": 2, "skipped": 1, "malformed": 1, "tombstone": 1}
    assert await kept(pool) == [
        ("in", "form.submitted", "1"),
        ("in", "form.rejected", "6"),
        ("in", "form.submitted", "7"),
        ("lately", "form.submitted", "3"),
    ]
    assert await seen(pool) == {("form_id", "f1"): 4, ("form_id", "f2"): 1}


async def test_insight_of_a_cell_keeps_and_counts_nothing_of_another_cells_tenants(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    await enroll(pool, "in")
    foreign = messages_in.event("form.submitted", {"contact_id": "in", "form_id": "f2"}, now(), tenantid="south")
    await send(installed, submitted("in", "1"), foreign)
    own = format_buckets({bucket_of(messages_in.TENANT)})
    async with insight(installed, CELL__BUCKETS=own) as process:
        await until_kept(pool, 1)
        await support.until(lambda: process.metric("history_records_total", outcome="foreign_tenant") == 1)
        await until_covered(pool, now())
    assert await kept(pool) == [("in", "form.submitted", "1")]
    assert await seen(pool) == {("form_id", "f1"): 1}


async def test_an_exit_is_known_to_be_published_at_the_time_of_its_record(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    value, published_ms = b'{"id":"%s","type":"workflow.exit.goal","tenantid":"acme"}', int(now().timestamp() * 1_000)
    exit_id = UUID(int=7)

    async def found() -> list[tuple[Any, ...]]:
        async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
            return [tuple(row) for row in await connection.fetch("SELECT exit_id, published_at FROM history_exits")]

    async def is_found() -> bool:
        return bool(await found())

    async with insight(installed) as process:
        await send(installed, Record("workflow_exit", value % str(exit_id).encode(), timestamp_ms=published_ms))
        await support.until(is_found)
        topic = installed.topics["workflow_exit"]
        assert process.metric("history_records_total", topic=topic, outcome="kept") == 1
        await support.until(lambda: process.metric("consumer_lag_records", topic=topic) == 0)
    assert await found() == [(exit_id, datetime.fromtimestamp(published_ms / 1_000, UTC))]


async def positions(administrator: connections.Connection) -> int:
    return int(await administrator.fetchval("SELECT coalesce(sum(next_offset), 0)::bigint FROM history_positions"))


async def test_processes_that_are_killed_and_started_keep_each_event_once(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    number, settings = 4_000, {"HISTORY__KEEP": "all", "KAFKA__SESSION_TIMEOUT_SECONDS": 6}
    first = installed.launch("insight", **settings)
    try:
        await first.said("insight_ready")
        async with insight(installed, **settings):
            for start in range(0, number, 500):
                await send(installed, *(submitted(f"c{one % 50}", str(one)) for one in range(start, start + 500)))
                if start == 2_000:
                    first.kill()
            async with insight(installed, **settings):
                await until_kept(pool, number)
    finally:
        first.kill()
    found = await kept(pool)
    assert len(found) == len(set(found)) == number
    assert await seen(pool) == {("form_id", "f1"): number}
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        assert await positions(connection) == number


async def test_a_process_that_was_frozen_writes_nothing_that_another_one_has_written(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    settings = {"HISTORY__KEEP": "all", "KAFKA__SESSION_TIMEOUT_SECONDS": 6}
    async with insight(installed, **settings) as frozen:
        await send(installed, *(submitted("c", str(number)) for number in range(1_000)))
        await until_kept(pool, 1)
        frozen.process.send_signal(signal.SIGSTOP)
        async with insight(installed, **settings):
            await send(installed, *(submitted("c", str(number)) for number in range(1_000, 2_000)))
            await until_kept(pool, 2_000)
            frozen.process.send_signal(signal.SIGCONT)
            await send(installed, *(submitted("c", str(number)) for number in range(2_000, 3_000)))
            await until_kept(pool, 3_000)
            await frozen.said("partitions_assigned", times=2)
    found = await kept(pool)
    assert len(found) == len(set(found)) == 3_000
    assert await seen(pool) == {("form_id", "f1"): 3_000}


async def test_it_stops_at_once_while_it_waits_for_workers(installed: Installation, pool: sa_async.AsyncEngine) -> None:
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        await connection.execute(
            "INSERT INTO progress VALUES ($1, 0, 'epoch', now())", installed.topics["workflow_lifecycle"]
        )
    async with insight(installed) as process:
        await send(installed, submitted("c", "1"))
        await support.until(lambda: process.metric("history_waiting") == 1)
        assert process.stop() < 10
    assert await kept(pool) == []


async def test_a_topic_that_was_recreated_is_read_from_its_beginning_and_history_begins_again(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    settings = {"HISTORY__KEEP": "all"}
    topic = {"form_submitted": installed.topics["form_submitted"]}
    async with insight(installed, **settings):
        await send(installed, *(submitted("c", str(number)) for number in range(20)))
        await until_kept(pool, 20)
    await support.delete_topics(installed.bootstrap_servers, topic)
    await support.create_topics(installed.bootstrap_servers, topic)
    await send(installed, *(submitted("c", f"again-{number}") for number in range(5)))
    async with insight(installed, **settings) as process:
        await process.said("history_gap", reason="recreated")
        await until_kept(pool, 25)


async def delete_before(installed: Installation, partition: TopicPartition, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=installed.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({partition: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def test_records_deleted_before_they_are_read_are_a_gap_that_coverage_does_not_span(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    forms = TopicPartition(installed.topics["form_submitted"], 2)

    async def send_old(*ids: str) -> None:
        year_2020 = 1_577_836_800_000
        await send(installed, *(replace(submitted("c", id_), partition=2, timestamp_ms=year_2020) for id_ in ids))

    async with insight(installed, **{"HISTORY__KEEP": "all"}) as process:
        await send_old("1", "2")
        await until_kept(pool, 2)
        process.process.send_signal(signal.SIGSTOP)
        began = now()
        await send_old("3")  # for the fetch that waits at the broker
        await send_old("4", "5", "6")
        await delete_before(installed, forms, 5)
        process.process.send_signal(signal.SIGCONT)
        await process.said("history_gap", reason="records_deleted", partition=2, next_offset=5)
        await send_old("7")
        await until_kept(pool, 4)
        await until_covered(pool, now())
        assert process.metric("history_gaps_total", reason="records_deleted") == 1
    assert {row[2] for row in await kept(pool)} >= {"1", "2", "6", "7"}
    async with connections.transaction(pool, tables.WORKER_ROLE, "test") as connection:
        covered = await history.coverage(connection, messages_in.TENANT)
    assert covered.history_from is not None
    assert covered.history_from > began


def with_nameless_header(batch: BatchBuilder) -> BatchBuilder:
    """Return a batch that clients cannot read: the name of its header `n: x` is not UTF-8."""
    data = batch._build()
    data[data.rindex(b"\x02n\x02x") + 1] = 0xFF
    struct.pack_into(">I", data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])))
    return batch


async def test_a_batch_that_cannot_be_read_is_passed_over_and_no_other_record_is_lost(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    topic, number = installed.topics["form_submitted"], 300
    async with shells.producing(installed.bootstrap_servers) as producer:
        bad = producer.create_batch()
        bad.append(key=None, value=b"{}", timestamp=None, headers=[("n", b"x")])
        after = submitted("c", "after")
        await (await producer.send_batch(with_nameless_header(bad), topic, partition=1))
        await producer.send_and_wait(topic, after.value, partition=1, headers=list(after.headers))
    # The same fetch has others, in any order: it drops those that come before the batch.
    others = [replace(submitted("c", str(one)), partition=(0, 2, 3)[one % 3]) for one in range(number)]
    await send(installed, *others)
    async with insight(installed, **{"HISTORY__KEEP": "all"}) as process:
        await until_kept(pool, number + 1)
        await until_covered(pool, now())
        assert process.metric("history_gaps_total", reason="unreadable") == 1
        (line,) = process.lines("history_gap")
        assert f"{topic}[1]: the batch of offsets 0 to 0 cannot be read" in line["error"]
    assert {row[2] for row in await kept(pool)} == {"after", *map(str, range(number))}


async def test_a_group_lags_by_the_whole_log_of_a_partition_without_a_commit(
    installed: Installation, pool: sa_async.AsyncEngine
) -> None:
    variables = shells.variables_of(installed.bootstrap_servers, installed.topics)
    settings = config.load(variables, env_file=None, secrets_dir=None)
    forms = TopicPartition(installed.topics["form_submitted"], 2)
    await send(installed, *(replace(submitted("c", str(one)), partition=2) for one in range(9)))
    await delete_before(installed, forms, 2)
    offsets = GroupOffsets(insight_service.of_insight(settings), pool, f"group-{forms.topic}")
    try:
        assert await offsets.lag() == 7
    finally:
        await offsets.drop()


async def test_it_stops_and_says_what_it_writes_on_an_installation_without_records(installed: Installation) -> None:
    async with insight(installed) as process:
        await support.until(lambda: process.answers("/healthz/ready") == 200)
        assert process.metric("ready") == 4
        assert process.metric("history_waiting") == 0
        await support.until(lambda: process.metric("history_last_day_timestamp_seconds") > now().timestamp() + 86_400)
        queued = frozenset({("kind", "plan"), ("state", "queued")})
        assert process.metrics()["goalworker_jobs_oldest_timestamp_seconds", queued] == 0
    assert process.lines("stopped")
