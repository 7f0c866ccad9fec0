"""Progress by partition, and fresh_as_of: every record that reached Kafka before this time has been judged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import cast
from unittest import mock
from uuid import UUID

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.goal_index import index
from goalworker.kafka import broker_requests
from goalworker.kafka.consumer import Consumer
from goalworker.pipeline import progress, worker
from goalworker.postgres import connections
from goalworker.runtime.progress_writer import ProgressWriter
from goalworker.stores import enrollments
from tests.integration import world
from tests.kit import shells, support

TAG_0, TAG_1, TAG_2, FORM_0 = (
    TopicPartition("tag", 0),
    TopicPartition("tag", 1),
    TopicPartition("tag", 2),
    TopicPartition("form", 0),
)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


async def fresh_as_of(pool: sa_async.AsyncEngine) -> datetime | None:
    return (await enrollments.find(pool, "acme", "unknown")).fresh_as_of


async def times(administrator: connections.Connection) -> dict[TopicPartition, datetime | None]:
    rows = await administrator.fetch("SELECT topic, partition, judged_until FROM progress ORDER BY topic, partition")
    return {TopicPartition(topic, number): judged_until for topic, number, judged_until in rows}


# --- the rows ---


async def test_nothing_is_fresh_until_every_partition_has_been_judged_to_its_end(pool: sa_async.AsyncEngine) -> None:
    assert await fresh_as_of(pool) is None
    now = await connections.now(pool)
    after = await progress.write(pool, [TAG_0, TAG_1, FORM_0], {TAG_0: now, FORM_0: now - SECOND}, {}, now)
    assert after > now
    assert await fresh_as_of(pool) is None
    await progress.write(pool, [TAG_0, TAG_1, FORM_0], {TAG_1: now}, {}, now)
    assert await fresh_as_of(pool) == now - SECOND
    await progress.forget(pool)
    assert await fresh_as_of(pool) is None


async def test_times_only_grow(pool: sa_async.AsyncEngine, administrator: connections.Connection) -> None:
    now = await connections.now(pool)
    await progress.write(pool, [TAG_0], {TAG_0: now}, {}, now)
    await progress.write(pool, [TAG_0], {TAG_0: now - SECOND}, {}, now - SECOND)
    await progress.write(pool, [TAG_0], {}, {}, now + SECOND)
    assert await times(administrator) == {TAG_0: now}


async def test_an_added_partition_begins_when_it_was_absent_unless_it_has_a_row(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    now = await connections.now(pool)
    await progress.write(pool, [TAG_0], {TAG_0: now}, {}, now)
    absent_at = {TAG_0: now + SECOND, TAG_1: now, TAG_2: now}
    await progress.write(pool, [TAG_0, TAG_1, FORM_0], {}, absent_at, now + SECOND)
    assert await times(administrator) == {FORM_0: None, TAG_0: now, TAG_1: now}
    await progress.write(pool, [TAG_0, TAG_1, TAG_2, FORM_0], {TAG_2: now + SECOND}, absent_at, now + 2 * SECOND)
    assert (await times(administrator))[TAG_2] == now + SECOND


async def test_rows_are_deleted_once_no_worker_has_seen_their_partition_for_ten_minutes(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    now = await connections.now(pool)
    await progress.write(pool, [TAG_0, TAG_1], {TAG_0: now, TAG_1: now}, {}, now)
    soon, late = now + timedelta(minutes=9), now + timedelta(minutes=18)
    await progress.write(pool, [TAG_0], {TAG_0: soon}, {}, soon)
    assert await times(administrator) == {TAG_0: soon, TAG_1: now}
    await progress.write(pool, [TAG_0, TAG_1], {}, {}, soon)  # by a worker that sees it, where it stands still
    await progress.write(pool, [TAG_0], {TAG_0: late}, {}, late)
    assert await times(administrator) == {TAG_0: late, TAG_1: now}
    await progress.write(pool, [TAG_0], {}, {}, late + 2 * MINUTE)
    assert await times(administrator) == {TAG_0: late}
    await progress.write(pool, [TAG_1], {}, {}, soon)  # by a worker that was frozen since it asked
    assert await times(administrator) == {TAG_0: late, TAG_1: None}


async def test_two_workers_insert_the_same_partitions_at_once(pool: sa_async.AsyncEngine) -> None:
    now = await connections.now(pool)
    partitions = [TopicPartition("tag", number) for number in range(50)]
    ours, theirs = dict.fromkeys(partitions[:25], now), dict.fromkeys(partitions[25:], now)
    await asyncio.gather(*(progress.write(pool, partitions, part, {}, now) for part in (ours, theirs) * 5))
    assert await fresh_as_of(pool) == now


# --- the writer, with a worker in this process ---


@contextlib.asynccontextmanager
async def working(
    pool: sa_async.AsyncEngine, bootstrap_servers: str, topics: dict[str, str]
) -> AsyncIterator[ProgressWriter]:
    variables = shells.variables_of(bootstrap_servers, topics)
    settings = config.load(variables, env_file=None, secrets_dir=None)
    decoding = decoder.Decoder(settings.topics.event_types, Limits())
    reading = Consumer(settings)
    running_worker = worker.Worker(settings, pool, world.Broker(), reading, index.Index(), decoding)
    writer = ProgressWriter(settings, pool, reading)
    running = asyncio.create_task(running_worker.run())
    await reading.joined.wait()
    try:
        yield writer
    finally:
        running_worker.stop()
        await running
        await writer._observer.drop()


async def until_fresh(writer: ProgressWriter, pool: sa_async.AsyncEngine, since: datetime) -> None:
    async def is_fresh() -> bool:
        with contextlib.suppress(TimeoutError):  # as the health watch asks; a new group begins with another consumer
            async with asyncio.timeout(2):
                await writer._consumer.committed_offsets()
        await writer.write()
        return (await fresh_as_of(pool) or since) > since

    await support.until(is_fresh)


@pytest.mark.usefixtures("fetching")
async def test_an_open_transaction_stands_still_and_its_markers_do_not(
    pool: sa_async.AsyncEngine, bootstrap_servers: str, topics: dict[str, str], administrator: connections.Connection
) -> None:
    hidden = TopicPartition(topics["form_submitted"], 1)
    async with working(pool, bootstrap_servers, topics) as writer:
        await until_fresh(writer, pool, await connections.now(pool))
        name = f"crm-{topics['tag_added']}"
        async with shells.producing(bootstrap_servers, transactional_id=name) as theirs:
            before = await connections.now(pool)
            await theirs.begin_transaction()
            await theirs.send_and_wait(hidden.topic, b"{}", partition=hidden.partition)
            sent = await connections.now(pool)

            async def others_have_moved_on() -> bool:
                await writer.write()
                rows = await times(administrator)
                assert (rows.pop(hidden) or sent) < sent
                return all(row is not None and row > sent for row in rows.values())

            await support.until(others_have_moved_on)
            assert before - 60 * SECOND < (await fresh_as_of(pool) or before) < sent
            await theirs.abort_transaction()
        # The log ends with records of an aborted transaction and their marker, which nobody ever reads.
        await until_fresh(writer, pool, sent)
    last = await fresh_as_of(pool)
    await writer.write()
    assert await fresh_as_of(pool) == last  # a partition that nobody has keeps its last
    await writer._observer.drop()


async def test_a_partition_that_nobody_reads_yet_is_not_fresh_after_it_was_added(
    pool: sa_async.AsyncEngine, bootstrap_servers: str, topics: dict[str, str], administrator: connections.Connection
) -> None:
    topic = topics["tag_added"]
    async with working(pool, bootstrap_servers, topics) as writer:
        await until_fresh(writer, pool, await connections.now(pool))
        count = len([partition for partition in await times(administrator) if partition.topic == topic])
        added = TopicPartition(topic, count)
        async with support.admin_client(bootstrap_servers) as admin:
            before = await connections.now(pool)
            await admin.create_partitions({topic: NewPartitions(count + 1)})

        async def others_have_moved_on() -> bool:
            await writer.write()
            rows = await times(administrator)
            judged = rows.pop(added, before)
            assert judged is not None
            assert judged < before + SECOND
            return added in await times(administrator) and all(row and row > before for row in rows.values())

        await support.until(others_have_moved_on)
        assert (await fresh_as_of(pool)) == (await times(administrator))[added]


async def test_offsets_of_a_recreated_topic_say_nothing_and_are_checked(
    pool: sa_async.AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.load({}, env_file=None, secrets_dir=None)
    partitions = {TopicPartition(topic, 0): 5 for topic in settings.topics.inputs}
    ids = {topic: UUID(int=1) for topic in settings.topics.inputs}
    reading = SimpleNamespace(committed=partitions, topic_ids=ids, check_logs=mock.Mock())
    described = {topic: broker_requests.DescribedTopic(UUID(int=1), frozenset({0})) for topic in ids}
    monkeypatch.setattr(broker_requests, "describe_topics", mock.AsyncMock(side_effect=lambda *_: described))
    monkeypatch.setattr(broker_requests, "high_watermarks", mock.AsyncMock(return_value=partitions))
    writer = ProgressWriter(settings, pool, cast("Consumer", reading))
    monkeypatch.setattr(writer._observer, "connected", mock.AsyncMock())
    await writer.write()
    await writer.write()
    first = await fresh_as_of(pool)
    assert first is not None
    reading.check_logs.assert_not_called()
    recreated = settings.topics.tag_added
    described[recreated] = broker_requests.DescribedTopic(UUID(int=2), frozenset({0}))
    await writer.write()
    await writer.write()
    assert await fresh_as_of(pool) == first
    reading.check_logs.assert_called()
    ids[recreated] = UUID(int=2)
    await writer.write()
    await writer.write()
    assert (await fresh_as_of(pool) or first) > first
    del described[recreated]
    seen = await fresh_as_of(pool)
    await writer.write()
    assert await fresh_as_of(pool) == seen


async def test_what_could_not_be_written_is_written_once_the_database_is_back(
    pool: sa_async.AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.load({}, env_file=None, secrets_dir=None)
    ends = {TopicPartition(topic, 0): 5 for topic in settings.topics.inputs}
    reading = SimpleNamespace(committed=ends, topic_ids={})
    described = {topic: broker_requests.DescribedTopic(None, frozenset({0})) for topic in settings.topics.inputs}
    monkeypatch.setattr(broker_requests, "describe_topics", mock.AsyncMock(return_value=described))
    monkeypatch.setattr(broker_requests, "high_watermarks", mock.AsyncMock(return_value=ends))
    writer = ProgressWriter(settings, pool, cast("Consumer", reading))
    monkeypatch.setattr(writer._observer, "connected", mock.AsyncMock())
    await writer.write()
    marked = await connections.now(pool)
    with monkeypatch.context() as patch:
        patch.setattr(progress, "write", mock.AsyncMock(side_effect=ConnectionError))
        with pytest.raises(ConnectionError):
            await writer.write()
    reading.committed = {}  # the partitions are another worker's by then
    await writer.write()
    found = await fresh_as_of(pool)
    assert found is not None
    assert found < marked
