"""Two cells on topics in memory, each with a worker, and a tenant that moves between them."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config
from goalworker.admin import move_sides, tenant_move, tenant_replay, topic_ends
from goalworker.decoding.decoder import Decoder
from goalworker.domain import events
from goalworker.pipeline import outbox
from goalworker.postgres import connections, tables
from goalworker.stores import cell_store
from tests.integration import flow, statements, world

BUCKETS = ("0-1023", "none")
TOPICS = (*world.TOPICS.inputs, world.TOPICS.redrive)
PARTITIONS = [TopicPartition(topic, 0) for topic in TOPICS]


class Cells:
    """Two cells, the first of which owns every bucket; they share a log and a broker."""

    def __init__(self, pools: tuple[sa_async.AsyncEngine, sa_async.AsyncEngine]) -> None:
        self.pools = pools
        self.broker = world.Broker()
        self.logs = (flow.Log(), flow.Log())
        self.logs[1].records = self.logs[0].records
        self.messages: list[events.Event] = []
        self.malformed: list[bytes] = []
        self.said: list[str] = []

    @staticmethod
    def environment(number: int) -> dict[str, str]:
        return {"GOALWORKER_CELL__BUCKETS": BUCKETS[number], "GOALWORKER_KAFKA__GROUP_ID": f"group-{number}"}

    def settings(self, number: int) -> config.Settings:
        return config.load(self.environment(number), env_file=None, secrets_dir=None)

    async def write_cells(self) -> None:
        """Write which cell each database is, as the start of a worker does."""
        for number, pool in enumerate(self.pools):
            async with connections.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
                await cell_store.write(connection, self.settings(number))

    def produce(self, *messages: events.Event | bytes) -> None:
        for message in messages:
            self.logs[0].produce(message)
            if isinstance(message, bytes):
                self.malformed.append(message)
            else:
                self.messages.append(message)

    async def work(self) -> None:
        """Let the worker of each cell read the log to its end, and send the messages that a mover left behind."""
        for number in range(2):
            await self.work_of(number)
            await outbox.sweep(self.pools[number], self.broker, world.TOPICS.model_dump())

    async def work_of(self, number: int) -> None:
        await unhooked(self._work(number))

    async def _work(self, number: int) -> None:
        settings = self.settings(number)
        async with connections.transaction(self.pools[number], tables.WORKER_ROLE, "goals") as connection:
            cell = await cell_store.judged(connection, settings.cell.buckets)
        environment, decoder = self.environment(number), partial(Decoder, cell=cell)
        worker, _ = flow.worker_of(self.pools[number], self.broker, self.logs[number], environment, decoder)
        await worker.paused_topics.read()
        await worker.run()

    async def move(self, tenant_id: str, source: int = 0) -> None:
        """Move a tenant from one cell to the other, or continue its move."""
        first, second = await self._sides(tenant_id, source)
        await tenant_move.take_steps(first, second, tenant_id, Ends(self), self.said.append)

    async def give_up(self, tenant_id: str) -> None:
        """Give up the move of a tenant from the first cell."""
        first, second = await self._sides(tenant_id, 0)
        await tenant_move.give_up(first, second, tenant_id, Ends(self), self.said.append)

    async def _sides(self, tenant_id: str, source: int) -> list[move_sides.OpenSide]:
        numbers = (source, 1 - source)
        return [await move_sides.read(self.pools[n], self.settings(n), tenant_id, f"cell {n}") for n in numbers]

    def letters(self) -> list[tuple[str, bytes | None]]:
        """Return reason and value of each distinct dead letter."""
        topic = world.TOPICS.dead_letters
        distinct = {(sent.value, tuple(sent.headers)): sent for sent in self.broker.sent if sent.topic == topic}
        return [(dict(sent.headers)["x-error-reason"].decode(), sent.value) for sent in distinct.values()]

    async def between(
        self, _: config.Settings, since: Mapping[TopicPartition, int], until: Mapping[TopicPartition, int]
    ) -> AsyncGenerator[Mapping[TopicPartition, list[ConsumerRecord]]]:
        """Yield records as a replay fetches them, one at a time."""
        for partition, end in until.items():
            for record in self.logs[0].records[partition][since.get(partition, 0) : end]:
                yield {partition: [record]}


class Ends(topic_ends.TopicEnds):
    """The ends of the log. A question about a group lets its worker read on."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    async def refresh(self) -> None:
        pass

    async def ends(self) -> Mapping[TopicPartition, int]:
        async def ask() -> Mapping[TopicPartition, int]:
            return {partition: len(self._cells.logs[0].records[partition]) for partition in PARTITIONS}

        found: Mapping[TopicPartition, int] = await statements.through_hook(statements.Statement("ENDS", ask))
        return found

    async def left(self, group_id: str, until: Mapping[TopicPartition, int]) -> int:
        number = int(group_id.removeprefix("group-"))
        await self._cells.work_of(number)
        return topic_ends.sum_left(self._cells.logs[number].committed, {}, until)


async def unhooked(work: Coroutine[Any, Any, None]) -> None:
    """Run something whose round trips no hook sees, as those of another process."""
    await asyncio.create_task(work, context=contextvars.Context())


def install(monkeypatch: pytest.MonkeyPatch, cells: Cells) -> None:
    """Let a replay read the log of the cells and send to their broker."""
    monkeypatch.setattr(tenant_replay, "fetched_between", cells.between)
    monkeypatch.setattr(tenant_replay, "Sender", lambda _: cells.broker)


async def owners(cells: Cells, tenant_id: str, offsets: Iterable[tuple[TopicPartition, int]]) -> list[list[int]]:
    """Return which cells judge a tenant's records, by the rows of both databases."""
    found = []
    for number, pool in enumerate(cells.pools):
        async with connections.transaction(pool, tables.WORKER_ROLE, "goals") as connection:
            found.append(await cell_store.judged(connection, cells.settings(number).cell.buckets))
    return [
        [number for number, cell in enumerate(found) if _judges(cell, tenant_id, partition, offset)]
        for partition, offset in offsets
    ]


def _judges(cell: Any, tenant_id: str, partition: TopicPartition, offset: int) -> bool:
    handover = cell.handovers.get(tenant_id)
    return bool(cell.owns(tenant_id) and (handover is None or handover.has(partition, offset)))
