"""A backlog worked off: how fast and at whose cost, by the product or by whatever it is compared with."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiokafka
import asyncpg
from aiokafka import errors as kafka_errors

from goalworker import embedded
from tests import support
from tests.acceptance import running
from tests.bench import load, usage

DONE_SECONDS = 900.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Drain:
    """What came of one backlog: events a second, and CPU in microseconds an event, of whom."""

    events_per_second: float
    cpu_us: Mapping[str, float]
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers, a database to be cloned, and topics that hold a backlog."""

    pair: embedded.Pair
    database: str
    topics: Mapping[str, str]
    folder: Path
    mix: load.Mix

    @property
    def inputs(self) -> Sequence[str]:
        """The topics that hold the backlog."""
        return [self.topics[topic] for topic, *_ in load.KINDS]

    @contextlib.contextmanager
    def used(self, processes: Mapping[str, int], into: dict[str, float]) -> Any:
        """Add what each process uses meanwhile, in microseconds an event."""
        before = {name: usage.of(pid).cpu_seconds for name, pid in processes.items()}
        yield
        for name, pid in processes.items():
            into[name] = round((usage.of(pid).cpu_seconds - before[name]) * 1e6 / self.mix.events, 2)


async def product(stage: Stage, **settings: object) -> Drain:
    """Let `goalworker run` work it off on a fresh copy of the database, and check what came of it."""
    with support.fresh_database(stage.pair.database_url, f"TEMPLATE {stage.database} STRATEGY FILE_COPY") as database:
        url = support.with_database(stage.pair.database_url, database)
        there = running.Installation(stage.pair.bootstrap_servers, url, stage.topics, stage.folder)
        group = f"group-{database}"
        outgoing = await _ends(stage, ("goal_achieved", "workflow_exit"))
        worker = there.start(KAFKA__GROUP_ID=group, LOG__LEVEL="info", **settings)
        cpu: dict[str, float] = {}
        try:
            with stage.used(
                {"worker": worker.process.pid, "broker": stage.pair.kafka.pid, "database": stage.pair.postgres.pid}, cpu
            ):
                speed = await _speed(stage, group, worker)
            peak_bytes = usage.of(worker.process.pid).peak_bytes
            await _check(stage, url, outgoing)
            worker.stop()
        finally:
            worker.kill()
    return Drain(speed, cpu, peak_bytes)


async def program(stage: Stage, module: str, *words: str, events: int | None = None) -> Drain:
    """Let a script of ours work it off; it prints how many events it took in how many seconds, as JSON."""
    arguments = [*words, stage.pair.bootstrap_servers, f"group-{time.time_ns()}", str(events or stage.mix.events)]
    began = usage.of(stage.pair.kafka.pid).cpu_seconds
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, *stage.inputs, cwd=Path.cwd(), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, module
    told = json.loads(printed)
    broker = (usage.of(stage.pair.kafka.pid).cpu_seconds - began) * 1e6 / told["events"]
    cpu = {"worker": round(told["cpu_seconds"] * 1e6 / told["events"], 2), "broker": round(broker, 2)}
    return Drain(told["events"] / told["seconds"], cpu, told["peak_bytes"])


async def _speed(stage: Stage, group: str, worker: running.Worker) -> float:
    """Events a second from the first commit that is seen to the last one."""
    first, last_zero = (0.0, 0), time.monotonic()
    deadline = time.monotonic() + DONE_SECONDS
    async with support.admin_client(stage.pair.bootstrap_servers) as admin:
        while True:
            now, done = time.monotonic(), await _committed(admin, group)
            assert worker.is_running, worker.log.read_text()[-2000:]
            assert now < deadline, f"only {done} of {stage.mix.events} events within {DONE_SECONDS} s"
            if not done:
                last_zero = now
            elif not first[1]:
                first = (now, done) if done < stage.mix.events else (last_zero, 0)
            if done >= stage.mix.events:
                return (done - first[1]) / (now - first[0])
            await asyncio.sleep(POLL_SECONDS)


async def _committed(admin: Any, group: str) -> int:
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except kafka_errors.GroupCoordinatorNotAvailableError:  # nobody has ever used a group at this broker
        return 0
    return sum(max(at.offset, 0) for at in offsets.values())


async def _check(stage: Stage, url: str, before: Mapping[str, int]) -> None:
    """Exactly what the load must give is there: no more, no less, in the tables and in the topics."""
    expected = stage.mix.achievements
    connection = await asyncpg.connect(url)
    try:
        for table in ("achievements", "exits"):
            found = await connection.fetchval(f"SELECT count(*) FROM {table}")
            assert found == expected, f"{found} rows in {table}, {expected} expected"
        hits = await connection.fetchval("SELECT count(*) FROM goal_hits")
        assert hits == stage.mix.events * stage.mix.hits // 100, f"{hits} hits"
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
    finally:
        await connection.close()
    after = await _ends(stage, tuple(before))
    assert {topic: after[topic] - before[topic] for topic in before} == dict.fromkeys(before, expected)


async def _ends(stage: Stage, topics: Sequence[str]) -> dict[str, int]:
    consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=stage.pair.bootstrap_servers)
    await consumer.start()
    try:
        ends = {}
        for topic in topics:
            name = stage.topics[topic]
            parts = [aiokafka.TopicPartition(name, part) for part in range(load.PARTITIONS)]
            ends[topic] = sum((await consumer.end_offsets(parts)).values())
        return ends
    finally:
        await consumer.stop()


@contextlib.asynccontextmanager
async def backlog(pair: embedded.Pair, mix: load.Mix) -> AsyncIterator[Mapping[str, str]]:
    """Topics that hold a mix, deleted afterwards."""
    topics = support.fresh_topics()
    await support.create_topics(pair.bootstrap_servers, topics)
    try:
        await load.send(pair.bootstrap_servers, topics, mix)
        yield topics
    finally:
        await support.delete_topics(pair.bootstrap_servers, topics)
