"""Three workers, and everything that can happen to them, in an order that chance decides."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.faults import machines, rigged, workers
from tests.kit import support, worker_process

CREW: Final = 3
SETTINGS: Final[dict[str, Any]] = {"BATCH__MAX_RECORDS": 200, "DATABASE__STATEMENT_TIMEOUT_SECONDS": 5}
PAUSE_SECONDS: Final = (1.0, 8.0)
BETWEEN_SECONDS: Final = (1.0, 9.0)
# What a worker may exit with: stopped, killed, or started while a server was away.
EXIT_CODES: Final = (0, 4, -signal.SIGKILL)
ROUND_SECONDS: Final = 0.5
RIGGED: Final = 0.5


@dataclass(slots=True)
class Chaos:
    """Who works now, what was done to them, and how any of them ended that should not have."""

    bad: machines.Machines
    there: worker_process.Installation
    chance: random.Random
    crew: list[worker_process.Worker] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    bad_ends: list[str] = field(default_factory=list)
    rigs: dict[int, str] = field(default_factory=dict)
    database_whole: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, seconds: float) -> None:
        """Do one thing after the other for so long; afterwards all is whole again."""
        until = time.monotonic() + seconds
        keeping = asyncio.create_task(self.keep_crew())
        try:
            while time.monotonic() < until:
                await asyncio.sleep(self.chance.uniform(*BETWEEN_SECONDS))
                (fault,) = self.chance.choices(list(FAULTS), list(FAULTS.values()))
                await fault(self)
                self.faults[fault.__name__] += 1
                print(f"{fault.__name__} ({self.faults.total()})", flush=True)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def keep_crew(self) -> None:
        """Replace whoever ends; every other one is rigged to end by itself."""
        while True:
            self.look()
            while len(self.crew) < CREW:
                self.hire_rigged() if self.chance.random() < RIGGED else self.hire()
            await asyncio.sleep(ROUND_SECONDS)

    def look(self) -> None:
        """Take in who has ended, and how."""
        for worker in [worker for worker in self.crew if not worker.is_running]:
            self.crew.remove(worker)
            self.take_in(worker)

    def take_in(self, worker: worker_process.Worker) -> None:
        code, point = worker.wait(), self.rigs.pop(worker.process.pid, None)
        if code not in EXIT_CODES:
            self.bad_ends.append(f"exit code {code}: see {worker.log}")
        if code == -signal.SIGKILL and point is not None:
            self.faults[f"killed at {point}"] += 1

    def hire(self) -> worker_process.Worker:
        worker = workers.start(self.there, **SETTINGS)
        self.crew.append(worker)
        return worker

    def hire_rigged(self) -> None:
        point = self.chance.choice(list(rigged.POINTS))
        worker = workers.start(self.there, f"{point}:{self.chance.randrange(5, 100)}", **SETTINGS)
        self.crew.append(worker)
        self.rigs[worker.process.pid] = point

    def kill(self, worker: worker_process.Worker) -> None:
        self.rigs.pop(worker.process.pid, None)
        worker.kill()

    def end(self, worker: worker_process.Worker) -> None:
        """Ask it to stop; who has only begun to start has no ear for that yet."""
        if worker.lines("worker_ready"):
            worker.process.send_signal(signal.SIGTERM)
        else:
            self.kill(worker)

    def somebody(self) -> worker_process.Worker | None:
        """A worker that runs, where one does."""
        running_ones = [worker for worker in self.crew if worker.is_running]
        return self.chance.choice(running_ones) if running_ones else None

    async def a_while(self) -> None:
        await asyncio.sleep(self.chance.uniform(*PAUSE_SECONDS))

    async def dismiss(self) -> None:
        """Stop everybody in good order."""
        self.look()
        for worker in self.crew:
            self.end(worker)
        await asyncio.gather(*(asyncio.to_thread(worker.wait) for worker in self.crew))
        self.look()


# --- workers ---


async def worker_killed(chaos: Chaos) -> None:
    if worker := chaos.somebody():
        chaos.kill(worker)


async def worker_paused(chaos: Chaos) -> None:
    if worker := chaos.somebody():
        async with workers.paused(worker):
            await chaos.a_while()


async def all_workers_paused(chaos: Chaos) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for worker in [worker for worker in chaos.crew if worker.is_running]:
            await stack.enter_async_context(workers.paused(worker))
        await chaos.a_while()


async def worker_stopped(chaos: Chaos) -> None:
    if worker := chaos.somebody():
        chaos.end(worker)


async def another_worker_joins_and_leaves(chaos: Chaos) -> None:
    guest = workers.start(chaos.there, **SETTINGS)
    try:
        await chaos.a_while()
        chaos.end(guest)
        await asyncio.to_thread(guest.wait)
        chaos.take_in(guest)
    finally:
        guest.kill()


# --- servers ---


async def database_killed(chaos: Chaos) -> None:
    async with chaos.database_whole:
        await asyncio.to_thread(chaos.bad.postgres.kill)
        await chaos.a_while()
        await asyncio.to_thread(chaos.bad.postgres.start)


async def database_restarted(chaos: Chaos) -> None:
    async with chaos.database_whole:
        await asyncio.to_thread(chaos.bad.postgres.start)


async def database_read_only(chaos: Chaos) -> None:
    address = chaos.bad.postgres.address
    async with chaos.database_whole:
        await support.execute(address, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        await chaos.a_while()
        await support.execute(
            address,
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )


async def broker_killed(chaos: Chaos) -> None:
    await asyncio.to_thread(chaos.bad.kafka.kill)
    await chaos.a_while()
    await asyncio.to_thread(chaos.bad.kafka.start)


async def broker_restarted(chaos: Chaos) -> None:
    await asyncio.to_thread(chaos.bad.kafka.start)


# --- wires ---


async def database_cut(chaos: Chaos) -> None:
    chaos.chance.choice((chaos.bad.database_wire.cut, chaos.bad.database_wire.reset))()


async def broker_cut(chaos: Chaos) -> None:
    chaos.chance.choice((chaos.bad.broker_wire.cut, chaos.bad.broker_wire.reset))()


async def black_hole(chaos: Chaos) -> None:
    wire = chaos.chance.choice((chaos.bad.database_wire, chaos.bad.broker_wire))
    wire.black_hole()
    await chaos.a_while()
    wire.heal()


async def replies_to_commit_lost(chaos: Chaos) -> None:
    chaos.bad.database_wire.lose_reply(b"COMMIT\0", times=5)
    await chaos.a_while()
    chaos.bad.database_wire.heal()


async def replies_of_broker_lost(chaos: Chaos) -> None:
    """Any of them: produced, committed, joined, and nobody was told."""
    chaos.bad.broker_wire.lose_reply(b"worker-", times=5)
    await chaos.a_while()
    chaos.bad.broker_wire.heal()


async def slow(chaos: Chaos) -> None:
    wire = chaos.chance.choice((chaos.bad.database_wire, chaos.bad.broker_wire))
    wire.delay_seconds = 0.2
    await chaos.a_while()
    wire.heal()


FAULTS: Final[dict[Callable[[Chaos], Awaitable[None]], int]] = {
    worker_killed: 4,
    worker_paused: 4,
    all_workers_paused: 1,
    worker_stopped: 2,
    another_worker_joins_and_leaves: 2,
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
