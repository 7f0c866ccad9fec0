"""Time and CPU that goalworker, or another program, takes to work off a backlog."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiokafka
import asyncpg
from aiokafka import errors as kafka_errors

from goalworker import embedded
from tests.bench import hits_in_place, index_use, load, seed, usage
from tests.kit import support, worker_process

DONE_SECONDS = 900.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Drain:
    """Result of one backlog: events a second, and CPU microseconds an event of each process."""

    events_per_second: float
    cpu_us: Mapping[str, float]
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """Servers, a database, and topics that hold a backlog.

    The database is cloned for each drain; one that is too large for that is used in_place and put back afterwards. With
    hits_in_place there are other hits than those of this backlog, which hits_in_place.take() has taken.
    """

    pair: embedded.Pair
    database: str
    topics: Mapping[str, str]
    folder: Path
    mix: load.Mix
    in_place: bool = False
    scans: index_use.Scans = field(default_factory=index_use.Scans)
    hits_in_place: bool = False

    @property
    def inputs(self) -> Sequence[str]:
        """Return the topics that hold the backlog."""
        return [self.topics[topic] for topic, *_ in load.KINDS]

    @contextlib.asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """Yield the URL of an unused database."""
        if self.in_place:
            url = support.with_database(self.pair.database_url, self.database)
            yield url
            await self.scans.note(url)
            await seed.put_back(url, hits=not self.hits_in_place)
            if self.hits_in_place:
                await hits_in_place.delete_taken(url)
            return
        with support.fresh_database(self.pair.database_url, f"TEMPLATE {self.database} STRATEGY FILE_COPY") as name:
            url = support.with_database(self.pair.database_url, name)
            yield url
            await self.scans.note(url)

    @contextlib.contextmanager
    def used(self, workers: Sequence[worker_process.Worker], into: dict[str, float]) -> Iterator[None]:
        """Add the CPU microseconds an event of workers and servers during the block."""
        pids = {
            "worker": [worker.process.pid for worker in workers],
            "broker": [self.pair.kafka.pid],
            "database": [self.pair.postgres.pid],
        }
        before = {who: _cpu_seconds(of) for who, of in pids.items()}
        yield
        for who, of in pids.items():
            into[who] = round((_cpu_seconds(of) - before[who]) * 1e6 / self.mix.events, 2)


Afterwards = Callable[[Stage, str], Awaitable[None]]
"""What to do with a stage and the URL of the database that was worked on."""


Meanwhile = Callable[[worker_process.Worker], contextlib.AbstractAsyncContextManager[None]]
"""What to do beside a worker while it works."""


async def product(
    stage: Stage,
    *,
    workers: int = 1,
    afterwards: Afterwards | None = None,
    meanwhile: Meanwhile | None = None,
    **settings: object,
) -> Drain:
    """Let `goalworker run` work off the backlog, and check its results."""
    async with stage.fresh() as url:
        there = worker_process.Installation(stage.pair.bootstrap_servers, url, stage.topics, stage.folder)
        group = f"group-{time.time_ns()}"
        outgoing = await ends(stage, ("goal_achieved", "workflow_exit"))
        started = [there.start(KAFKA__GROUP_ID=group, LOG__LEVEL="info", **settings) for _ in range(workers)]
        cpu: dict[str, float] = {}
        try:
            for worker in started:
                await worker.said("worker_ready")  # the CPU of the start does not count
            with stage.used(started, cpu):
                async with meanwhile(started[0]) if meanwhile is not None else contextlib.nullcontext():
                    rate = await speed(stage, group, started)
            peak_bytes = max(usage.of(worker.process.pid).peak_bytes for worker in started)
            await check(stage, [url], outgoing)
            for worker in started:
                worker.stop()
        finally:
            for worker in started:
                worker.kill()
        if afterwards is not None:
            await afterwards(stage, url)
    return Drain(rate, cpu, peak_bytes)


async def in_turn(rounds: int, first: Stage, second: Stage) -> AsyncIterator[tuple[list[Drain], list[Drain]]]:
    """Let the product work off two stages, every other round in the other order; yield the drains after each round.

    A drain before them does not count: the broker takes twice its processor to read a backlog for the first time.
    """
    await product(first)
    done: tuple[list[Drain], list[Drain]] = ([], [])
    both = [(first, done[0]), (second, done[1])]
    for number in range(rounds):
        for stage, into in both if number % 2 == 0 else reversed(both):
            into.append(await product(stage))
        yield done


async def peer(stage: Stage, module: str, python: str = sys.executable) -> Drain:
    """Let a peer work off the backlog, and check its results."""
    async with stage.fresh() as url:
        before = await ends(stage, ("workflow_exit",))
        drain = await program(stage, module, url, stage.topics["workflow_exit"], python=python)
        await check(stage, [url], before, hits=False)
    return drain


async def program(stage: Stage, module: str, *words: str, python: str = sys.executable) -> Drain:
    """Let one of our scripts work off the backlog; it prints its events and seconds as JSON."""
    arguments = [*words, stage.pair.bootstrap_servers, f"group-{time.time_ns()}", str(stage.mix.events)]
    began = usage.of(stage.pair.kafka.pid).cpu_seconds
    process = await asyncio.create_subprocess_exec(
        python, "-m", module, *arguments, *stage.inputs, cwd=Path.cwd(), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, module
    told = json.loads(printed)
    broker = (usage.of(stage.pair.kafka.pid).cpu_seconds - began) * 1e6 / told["events"]
    cpu = {"worker": round(told["cpu_seconds"] * 1e6 / told["events"], 2), "broker": round(broker, 2)}
    return Drain(told["events"] / told["seconds"], cpu, told["peak_bytes"])


async def speed(
    stage: Stage, group: str, workers: Sequence[worker_process.Worker], *, ready: str = "worker_ready", before: int = 0
) -> float:
    """Return the events a second from the first commit after every process is ready, to the last one.

    before is the number of records that the group had committed before.
    """
    first: tuple[float, int] | None = None
    last_idle = time.monotonic()
    deadline = last_idle + DONE_SECONDS
    async with support.admin_client(stage.pair.bootstrap_servers) as admin:
        while True:
            now, done = time.monotonic(), await committed(admin, group) - before
            for worker in workers:
                assert worker.is_running, worker.log.read_text()[-2000:]
            assert now < deadline, f"only {done} of {stage.mix.events} events within {DONE_SECONDS} s"
            if done <= 0:
                last_idle = now
            elif first is None and all(worker.lines(ready) for worker in workers):
                first = (now, done) if done < stage.mix.events else (last_idle, 0)
            if done >= stage.mix.events:
                began, had = first or (last_idle, 0)
                return (done - had) / (now - began)
            await asyncio.sleep(POLL_SECONDS)


async def committed(admin: Any, group: str, topics: Collection[str] = ()) -> int:
    """Return how many records of the topics, or of all, a group has committed."""
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except kafka_errors.GroupCoordinatorNotAvailableError:  # no group has been used at this broker yet
        return 0
    return sum(max(at.offset, 0) for place, at in offsets.items() if not topics or place.topic in topics)


async def check(stage: Stage, urls: Sequence[str], before: Mapping[str, int], *, hits: bool = True) -> None:
    """Assert that the databases together, and the topics, hold exactly the results of the load."""
    expected = {"achievements": stage.mix.achievements, "exits": stage.mix.achievements, "outbox": 0}
    if hits:
        expected["goal_hits"] = stage.mix.events * stage.mix.hits // 100
    found = dict.fromkeys(expected, 0)
    for url in urls:
        connection = await asyncpg.connect(url)
        for table in expected:
            if table == "goal_hits" and stage.hits_in_place:
                found[table] += await hits_in_place.count_taken(url)
            else:
                found[table] += await connection.fetchval(f"SELECT count(*) FROM {table}")
        await connection.close()
    assert found == expected, f"rows: {found}, expected: {expected}"
    after = await ends(stage, tuple(before))
    assert {topic: after[topic] - before[topic] for topic in before} == dict.fromkeys(before, stage.mix.achievements)


def _cpu_seconds(pids: Sequence[int]) -> float:
    return sum(usage.of(pid).cpu_seconds for pid in pids)


async def ends(stage: Stage, topics: Sequence[str]) -> dict[str, int]:
    """Return the number of records in each of the topics."""
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=stage.pair.bootstrap_servers)
    await consumer.start()
    try:
        found = {}
        for topic in topics:
            name = stage.topics[topic]
            parts = [aiokafka.TopicPartition(name, part) for part in range(load.PARTITIONS)]
            found[topic] = sum((await consumer.end_offsets(parts)).values())
        return found
    finally:
        await consumer.stop()


@contextlib.asynccontextmanager
async def backlog(pair: embedded.Pair, mix: load.Mix) -> AsyncIterator[Mapping[str, str]]:
    """Create topics that hold a mix, and delete them afterwards."""
    topics = support.fresh_topics()
    await support.create_topics(pair.bootstrap_servers, topics)
    try:
        await load.send(pair.bootstrap_servers, topics, mix)
        yield topics
    finally:
        await support.delete_topics(pair.bootstrap_servers, topics)
