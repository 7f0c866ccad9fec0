"""The demo from beginning to end: the only place that knows all of its parts."""

import asyncio
import contextlib
import shlex
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiokafka
from aiokafka import admin as kafka_admin
from msgspec import Struct
from rich.console import Console

from goalworker import embedded, signals
from goalworker.demo import (
    api_check,
    check,
    foreign_changes,
    generator,
    listener,
    malformed,
    membership,
    pollers,
    processes,
    records,
    seeding,
    sentences,
    traffic,
    view,
)
from goalworker.demo.monitor import Addresses, Monitor
from goalworker.demo.own_offsets import OwnOffsets
from goalworker.embedded import machine

POLL_SECONDS: Final = 0.2
PATIENCE_SECONDS: Final = 90.0
"""Longer than the group waits for a worker that was killed."""

LINGER_MS: Final = 1


class Options(Struct, frozen=True):
    """How much traffic, and when it is enough: after `events`, after `seconds`, or with Ctrl-C."""

    rate: float
    tenants: int
    seed: int
    events: int | None
    seconds: float | None


class Result(Struct, frozen=True):
    """The result of a run; verdict is None if nothing was checked, logged_errors are errors that the worker logged."""

    verdict: check.Verdict | None
    logged_errors: list[str]
    closing: str


async def run(options: Options, pair: embedded.Pair, home: Path, console: Console, *, is_kept: bool) -> Result:
    """Play it all on a running pair, with the logs in a folder that is kept or not."""
    interrupts = _Interrupts()
    environment = {
        "GOALWORKER_DATABASE__URL": pair.database_url,
        "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": pair.bootstrap_servers,
        "GOALWORKER_EVENTS__MAX_BYTES": str(malformed.MAX_BYTES),
    }
    await seeding.prepare(pair.database_url, environment)
    names = await seeding.unused_tenant_names(pair.database_url, options.tenants)
    setup = await seeding.seed(pair.database_url, names)
    async with _clients(pair.bootstrap_servers) as (producer, consumer, admin):
        source = generator.Generator(setup, options.seed, lambda: datetime.now(UTC))
        own_offsets = OwnOffsets(await consumer.end_offsets(await _partitions(admin, records.TOPICS.inputs)))
        sending = traffic.Traffic(producer, source, options.seed, own_offsets)
        listening = listener.Listener(consumer, names, sending)
        notes: list[str] = []
        group = membership.Membership()
        await pollers.note_earlier_members(admin, group)
        worker = processes.Process("worker", "run", environment, home, notes.append, group.worker_died, is_kept=is_kept)
        url, key = api_check.url(), await api_check.make_key(pair.database_url, names[0])
        of_api = environment | {"GOALWORKER_API__PORT": url.rpartition(":")[2]}
        api = processes.Process("api", "api", of_api, home, notes.append, is_kept=is_kept)
        notes.append(f"API of the tenant {names[0]}: export GW={url} KEY={key}")
        shell = _addresses(home, environment | {"GW": url, "KEY": key})
        notes.append(f"all addresses, for a shell: . {shell}")
        places = Addresses(f"{url}/docs", f"http://{machine.LOOPBACK}:{worker.port}/metrics", str(shell))
        monitor = Monitor(setup, sending, listening, worker, api, group, places, notes)
        show = view.live if view.is_live(console) else view.lines
        async with _background(
            worker.keep_running(),
            api.keep_running(),
            listening.listen(),
            pollers.poll_commits(admin, sending),
            pollers.poll_members(admin, group),
            pollers.poll_paused_topics(pair.database_url, monitor),
            show(monitor, console),
        ):
            await _traffic(options, monitor, interrupts)
            await _patiently(_arrival(monitor, pair.database_url), monitor, interrupts)
            await _patiently(api.wait_until_ready(), monitor, interrupts)
            verdict = None
            if not interrupts.is_impatient:
                verdict = await _verdict(pair, monitor, url, key)
                monitor.phase = sentences.CHECKED
    return Result(verdict, worker.logged_errors(), monitor.closing())


async def _verdict(pair: embedded.Pair, monitor: Monitor, url: str, key: str) -> check.Verdict:
    """Compare what the demo itself sent with what became of it."""
    setup, sending = monitor.setup, monitor.traffic
    expected = sending.outcome()
    async with aiokafka.AIOKafkaConsumer(**_reading(pair.bootstrap_servers)) as consumer:
        touched = await foreign_changes.find(pair.database_url, setup, consumer, sending.own_offsets)
    scope = foreign_changes.Scope(sending.enrollments, touched)
    found = await check.compare(
        pair.database_url, setup, expected, monitor.listener.received, scope, sending.own_offsets, sending.lag_records
    )

    async def workflows_of_others() -> set[str]:
        return await foreign_changes.shared_workflows(pair.database_url, setup.tenants[0], scope)

    by_api = await api_check.compare(url, key, setup, expected, workflows_of_others)
    return check.Verdict(found.rows + by_api.rows, found.not_checked + by_api.not_checked)


def _reading(bootstrap_servers: str) -> dict[str, Any]:
    return {
        "bootstrap_servers": bootstrap_servers,
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "auto_offset_reset": "none",
    }


def _addresses(home: Path, variables: Mapping[str, str]) -> Path:
    """Write what a shell needs to use the demo's servers into a file that only the user may read."""
    path = home / "env"
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
    return path


class _Interrupts:
    """Ctrl-C: once to stop the traffic and check, twice to leave the check unfinished. A hang-up ends all of it."""

    def __init__(self) -> None:
        self.count = 0
        self._play = asyncio.current_task()
        self._is_hung_up = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signals.call(number, self._note)
        signals.call(signal.SIGHUP, self._hang_up)

    @property
    def is_impatient(self) -> bool:
        return self.count > 1

    def _note(self) -> None:
        self.count += 1

    def _hang_up(self) -> None:
        # The kernel and the shell both send it; a second one must not interrupt the clean-up.
        if not self._is_hung_up and self._play is not None:
            self._is_hung_up = self._play.cancel()


@contextlib.asynccontextmanager
async def _clients(
    bootstrap_servers: str,
) -> AsyncIterator[tuple[aiokafka.AIOKafkaProducer, aiokafka.AIOKafkaConsumer, kafka_admin.AIOKafkaAdminClient]]:
    """Connect what sends, what listens from now on to everything that the worker sends, and what asks how far it is."""
    servers = {"bootstrap_servers": bootstrap_servers}
    async with contextlib.AsyncExitStack() as stack:
        producer = aiokafka.AIOKafkaProducer(**servers, acks="all", enable_idempotence=True, linger_ms=LINGER_MS)
        consumer = aiokafka.AIOKafkaConsumer(**_reading(bootstrap_servers))
        admin = kafka_admin.AIOKafkaAdminClient(**servers)
        for client, close in ((producer, producer.stop), (consumer, consumer.stop), (admin, admin.close)):
            stack.push_async_callback(close)
            await client.start()
        partitions = await _partitions(admin, (*records.TOPICS.outputs[:3], records.TOPICS.dead_letters))
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        yield producer, consumer, admin


async def _partitions(admin: kafka_admin.AIOKafkaAdminClient, topics: Iterable[str]) -> list[aiokafka.TopicPartition]:
    return [
        aiokafka.TopicPartition(topic["topic"], partition["partition"])
        for topic in await admin.describe_topics(list(topics))
        for partition in topic["partitions"]
    ]


@contextlib.asynccontextmanager
async def _background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do work that never ends; the first of it that fails ends the block, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
            yield
            for task in tasks:  # after an error the group does it
                task.cancel()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _traffic(options: Options, monitor: Monitor, interrupts: _Interrupts) -> None:
    """Send as much as the options say, once everything is ready; everything that was begun is finished."""
    if not await _patiently(_readiness(monitor), monitor, interrupts):
        return
    monitor.count_from_now()

    def is_over() -> bool:
        return bool(
            interrupts.count
            or (options.events is not None and monitor.traffic.sent >= options.events)
            or (options.seconds is not None and monitor.seconds >= options.seconds)
        )

    await monitor.traffic.run(options.rate, is_over)
    monitor.phase = "waiting for the worker to finish"
    await _patiently(monitor.traffic.finish(), monitor, interrupts)


async def _readiness(monitor: Monitor) -> None:
    """Return once the worker has committed what it must know first, and the API has started too."""
    await asyncio.gather(monitor.worker.wait_until_ready(), monitor.api.wait_until_ready())
    await monitor.traffic.send_opening()


async def _arrival(monitor: Monitor, database_url: str) -> None:
    """Return once everything that the worker has to say was sent and read."""
    monitor.phase = "checking"
    scope = foreign_changes.Scope(monitor.traffic.enrollments, foreign_changes.ForeignChanges())
    while await check.count_unsent(database_url, scope, monitor.setup) or not await monitor.listener.is_caught_up():  # noqa: ASYNC110 - the database rings no bell
        await asyncio.sleep(POLL_SECONDS)


async def _patiently(work: Coroutine[Any, Any, None], monitor: Monitor, interrupts: _Interrupts) -> bool:
    """Wait for work, unless nothing moves for long, or Ctrl-C comes twice; say whether it was done."""
    task, moved_at, known = asyncio.create_task(work), time.monotonic(), monitor.progress()
    try:
        while not task.done() and not interrupts.is_impatient and time.monotonic() - moved_at < PATIENCE_SECONDS:
            await asyncio.wait([task], timeout=POLL_SECONDS)
            monitor.interrupts = interrupts.count
            if (progress := monitor.progress()) != known:
                moved_at, known = time.monotonic(), progress
        if task.done():
            task.result()
        return task.done()
    finally:
        task.cancel()
