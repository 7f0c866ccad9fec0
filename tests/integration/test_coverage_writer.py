"""History says until when it has every event, by offsets and the database's clock (contract section 7, coverage)."""

from collections.abc import Mapping
from datetime import datetime

from aiokafka import TopicPartition
from sqlalchemy.ext import asyncio as sa_async

from goalworker.insight import coverage_writer
from goalworker.postgres import connections
from goalworker.stores import history

ONE, TWO = TopicPartition("a", 0), TopicPartition("a", 1)


class Log:
    """The ends of two partitions, and how far their events are kept."""

    def __init__(self) -> None:
        self.ends = {ONE: 5, TWO: 0}
        self.committed = {ONE: 5, TWO: 0}

    async def ask(self, partitions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        return {partition: self.ends[partition] for partition in partitions}


async def _until(pool: sa_async.AsyncEngine) -> datetime | None:
    async with connections.tenant_transaction(pool, "north", "test") as connection:
        return (await history.coverage(await connections.driver_of(connection), "north")).history_until


async def test_history_covers_the_time_before_a_moment_whose_events_are_all_kept(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(
        "INSERT INTO history_positions VALUES ('a', 0, NULL, 0, 5, 'epoch'), ('a', 1, NULL, 0, 0, 'epoch');"
        "INSERT INTO history_coverage VALUES (1, 'enrolled', NULL, 86400, NULL)"
    )
    log = Log()
    writer = coverage_writer.CoverageWriter(pool, lambda: log.committed, log.ask)
    before = await connections.now(pool)
    await writer.write()
    assert await _until(pool) is None
    between = await connections.now(pool)
    log.ends[ONE] = 8  # three more events, which are not kept yet
    await writer.write()
    first = await _until(pool)
    assert first is not None
    assert before <= first <= between
    await writer.write()
    await writer.write()
    assert await _until(pool) == first
    log.committed = {ONE: 8, TWO: 0}
    await writer.write()
    last = await _until(pool)
    assert last is not None
    assert last > between


async def test_a_frozen_process_takes_no_coverage_back(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await administrator.execute(
        "INSERT INTO history_positions VALUES ('a', 0, NULL, 0, 5, 'epoch', '2100-01-01');"
        "INSERT INTO history_coverage VALUES (1, 'enrolled', NULL, 86400, NULL)"
    )
    log = Log()
    del log.committed[TWO]
    writer = coverage_writer.CoverageWriter(pool, lambda: log.committed, log.ask)
    for _ in range(3):
        await writer.write()
    assert await _until(pool) == datetime.fromisoformat("2100-01-01T00:00:00Z")
