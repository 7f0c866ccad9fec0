"""Three workers, and insight beside them, under faults of every kind, in a random order."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults import faulty_servers, kept, rigged, workers
from tests.kit import support, worker_process

WORKERS: Final = 3
INSIGHTS: Final = 2
SETTINGS: Final[dict[str, Any]] = {"BATCH__MAX_RECORDS": 200, "DATABASE__STATEMENT_TIMEOUT_SECONDS": 5}
PAUSE_SECONDS: Final = (1.0, 8.0)
INTERVAL_SECONDS: Final = (1.0, 9.0)
# Exit codes of a worker that was stopped, killed, or started while a server was away.
EXIT_CODES: Final = (0, 4, -signal.SIGKILL)
ROUND_SECONDS: Final = 0.5
RIGGED_SHARE: Final = 0.5


@dataclass(slots=True)
class Chaos:
    """Running processes, the faults so far, and exits that must not happen."""

    servers: faulty_servers.FaultyServers
    installation: worker_process.Installation
    chance: random.Random
    workers: list[worker_process.Worker] = field(default_factory=list)
    insights: list[worker_process.Worker] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    bad_exits: list[str] = field(default_factory=list)
    rigs: dict[int, str] = field(default_factory=dict)
    database_up: asyncio.Lock = field(default_factory=asyncio.Lock)
    workers_max: int = WORKERS
    insights_max: int = INSIGHTS

    async def run(self, seconds: float, faults: "Faults | None" = None) -> None:
        """Cause one fault after the other for this long; afterwards servers and proxies work again."""
        faults = FAULTS if faults is None else faults
        ends_at = time.monotonic() + seconds
        keeping = asyncio.create_task(self.keep_running())
        try:
            while time.monotonic() < ends_at:
                await asyncio.sleep(self.chance.uniform(*INTERVAL_SECONDS))
                (fault,) = self.chance.choices(list(faults), list(faults.values()))
                await fault(self)
                self.faults[fault.__name__] += 1
                print(f"{fault.__name__} ({self.faults.total()})", flush=True)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def keep_running(self) -> None:
        """Replace every process that ends; about half of the workers are rigged to kill themselves."""
        while True:
            self.remove_ended()
            while len(self.workers) < self.workers_max:
                self.start_rigged() if self.chance.random() < RIGGED_SHARE else self.start()
            while len(self.insights) < self.insights_max:
                self.start_insight()
            await asyncio.sleep(ROUND_SECONDS)

    def remove_ended(self) -> None:
        """Remove processes that have ended, and record how."""
        for running in (self.workers, self.insights):
            for process in [process for process in running if not process.is_running]:
                running.remove(process)
                self.record_exit(process)

    def record_exit(self, worker: worker_process.Worker) -> None:
        code, point = worker.wait(), self.rigs.pop(worker.process.pid, None)
        if code not in EXIT_CODES:
            self.bad_exits.append(f"exit code {code}: see {worker.log}")
        if code == -signal.SIGKILL and point is not None:
            self.faults[f"killed at {point}"] += 1

    def start(self) -> worker_process.Worker:
        worker = workers.start(self.installation, **SETTINGS)
        self.workers.append(worker)
        return worker

    def start_insight(self) -> worker_process.Worker:
        process = kept.start(self.installation, DATABASE__STATEMENT_TIMEOUT_SECONDS=5)
        self.insights.append(process)
        return process

    def start_rigged(self) -> None:
        point = self.chance.choice(list(rigged.POINTS))
        worker = workers.start(self.installation, f"{point}:{self.chance.randrange(5, 100)}", **SETTINGS)
        self.workers.append(worker)
        self.rigs[worker.process.pid] = point

    def kill(self, worker: worker_process.Worker) -> None:
        self.rigs.pop(worker.process.pid, None)
        worker.kill()

    def stop(self, worker: worker_process.Worker) -> None:
        """Stop a process; one that is still starting is killed, since it does not handle SIGTERM yet."""
        if worker.lines("worker_ready") or worker.lines("insight_ready"):
            worker.process.send_signal(signal.SIGTERM)
        else:
            self.kill(worker)

    def random_worker(self) -> worker_process.Worker | None:
        """Return one of the running workers, or None."""
        running = [worker for worker in self.workers if worker.is_running]
        return self.chance.choice(running) if running else None

    def random_insight(self) -> worker_process.Worker | None:
        """Return one of the running insight processes, or None."""
        running = [process for process in self.insights if process.is_running]
        return self.chance.choice(running) if running else None

    async def pause(self) -> None:
        await asyncio.sleep(self.chance.uniform(*PAUSE_SECONDS))

    async def stop_all(self) -> None:
        """Stop all processes in good order."""
        self.remove_ended()
        running = [*self.workers, *self.insights]
        for process in running:
            self.stop(process)
        await asyncio.gather(*(asyncio.to_thread(process.wait) for process in running))
        self.remove_ended()


# --- workers ---


async def worker_killed(chaos: Chaos) -> None:
    if worker := chaos.random_worker():
        chaos.kill(worker)


async def worker_paused(chaos: Chaos) -> None:
    if worker := chaos.random_worker():
        async with workers.paused(worker):
            await chaos.pause()


async def all_workers_paused(chaos: Chaos) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for worker in [worker for worker in chaos.workers if worker.is_running]:
            await stack.enter_async_context(workers.paused(worker))
        await chaos.pause()


async def worker_stopped(chaos: Chaos) -> None:
    if worker := chaos.random_worker():
        chaos.stop(worker)


async def another_worker_joins_and_leaves(chaos: Chaos) -> None:
    joining = workers.start(chaos.installation, **SETTINGS)
    try:
        await chaos.pause()
        chaos.stop(joining)
        await asyncio.to_thread(joining.wait)
        chaos.record_exit(joining)
    finally:
        joining.kill()


# --- insight ---


async def insight_killed(chaos: Chaos) -> None:
    if process := chaos.random_insight():
        process.kill()


async def insight_paused(chaos: Chaos) -> None:
    if process := chaos.random_insight():
        async with workers.paused(process):
            await chaos.pause()


async def insight_stopped(chaos: Chaos) -> None:
    if process := chaos.random_insight():
        chaos.stop(process)


# --- servers ---


async def database_killed(chaos: Chaos) -> None:
    async with chaos.database_up:
        await asyncio.to_thread(chaos.servers.postgres.kill)
        await chaos.pause()
        await asyncio.to_thread(chaos.servers.postgres.start)


async def database_restarted(chaos: Chaos) -> None:
    async with chaos.database_up:
        await asyncio.to_thread(chaos.servers.postgres.start)


async def database_read_only(chaos: Chaos) -> None:
    address = chaos.servers.postgres.address
    async with chaos.database_up:
        await support.execute(address, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        await chaos.pause()
        await support.execute(
            address,
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )


async def broker_killed(chaos: Chaos) -> None:
    await asyncio.to_thread(chaos.servers.kafka.kill)
    await chaos.pause()
    await asyncio.to_thread(chaos.servers.kafka.start)


async def broker_restarted(chaos: Chaos) -> None:
    await asyncio.to_thread(chaos.servers.kafka.start)


# --- wires ---


async def database_cut(chaos: Chaos) -> None:
    chaos.chance.choice((chaos.servers.database_proxy.cut, chaos.servers.database_proxy.reset))()


async def broker_cut(chaos: Chaos) -> None:
    chaos.chance.choice((chaos.servers.broker_proxy.cut, chaos.servers.broker_proxy.reset))()


async def black_hole(chaos: Chaos) -> None:
    proxy = chaos.chance.choice((chaos.servers.database_proxy, chaos.servers.broker_proxy))
    proxy.black_hole()
    await chaos.pause()
    proxy.heal()


async def replies_to_commit_lost(chaos: Chaos) -> None:
    chaos.servers.database_proxy.lose_reply(b"COMMIT\0", times=5)
    await chaos.pause()
    chaos.servers.database_proxy.heal()


async def replies_of_broker_lost(chaos: Chaos) -> None:
    """Lose replies to any request: the broker has produced, committed or joined, and the client does not know."""
    chaos.servers.broker_proxy.lose_reply(b"worker-", times=5)
    await chaos.pause()
    chaos.servers.broker_proxy.heal()


async def slow(chaos: Chaos) -> None:
    proxy = chaos.chance.choice((chaos.servers.database_proxy, chaos.servers.broker_proxy))
    proxy.delay_seconds = 0.2
    await chaos.pause()
    proxy.heal()


Faults = dict[Callable[[Chaos], Awaitable[None]], int]
"""Weights of faults."""

FAULTS: Final[Faults] = {
    worker_killed: 4,
    worker_paused: 4,
    all_workers_paused: 1,
    worker_stopped: 2,
    another_worker_joins_and_leaves: 2,
    insight_killed: 2,
    insight_paused: 2,
    insight_stopped: 1,
    database_killed: 2,
    database_restarted: 1,
    database_read_only: 1,
    broker_killed: 2,
    broker_restarted: 1,
    database_cut: 3,
    broker_cut: 3,
    black_hole: 3,
    replies_to_commit_lost: 2,
    replies_of_broker_lost: 2,
    slow: 2,
}
PROCESS_FAULTS: Final = (
    *(worker_killed, worker_paused, all_workers_paused, worker_stopped, another_worker_joins_and_leaves),
    *(insight_killed, insight_paused, insight_stopped),
)
FAULTS_OF_PROCESSES: Final[Faults] = {fault: FAULTS[fault] for fault in PROCESS_FAULTS}
