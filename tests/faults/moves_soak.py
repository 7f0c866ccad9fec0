"""Move tenants between two cells at random while processes are killed, then check everything that happened.

`python -m tests.faults.soak --cells 2`. Half of the movers are killed, and some of the moves are given up.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final
from urllib import parse

from goalworker.pipeline.dead_letters import ORIGINAL_GROUP
from tests.faults import chaos, evidence, faulty_servers, history, outcomes, small_worlds, workers
from tests.faults.chaos import Chaos
from tests.faults.traffic import Traffic
from tests.kit import clients, messages_in, support, worker_process, worlds
from tests.kit.cells import Cell, cell_of

ROUND_SECONDS: Final = 0.5
RUNS_A_ROUND: Final = 10
WORLDS_A_ROUND: Final = 2
WORKERS, INSIGHTS = 2, 1
CATCH_UP_SECONDS: Final = 300.0
# Seconds between two moves, and after which half of the movers are killed.
BETWEEN_SECONDS: Final = (0.5, 4.0)
KILLED_SECONDS: Final = (0.2, 6.0)
KILLED_SHARE, GIVEN_UP_SHARE, WORLDS_SHARE = 0.5, 0.25, 0.3


@dataclass(slots=True)
class Moves:
    """Moves of random tenants between two cells, one after the other."""

    cells: tuple[Cell, Cell]
    tenants: list[str]
    chance: random.Random
    homes: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    last_words: list[str] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Move tenants for this long; the last move ends, whatever it takes."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            is_world = self.chance.random() < WORLDS_SHARE
            await self._move(self.chance.choice(self.tenants) if is_world else messages_in.TENANT)
            await asyncio.sleep(self.chance.uniform(*BETWEEN_SECONDS))

    async def _move(self, tenant_id: str) -> None:
        """Move a tenant to the other cell: again after each failure or kill, until the command says that it is done."""
        home = self.homes.get(tenant_id, 0)
        words = ["tenants", "move", tenant_id, "--to", self.cells[1 - home].database_url]
        while True:
            gives_up = self.chance.random() < GIVEN_UP_SHARE
            mover = self.cells[home].launch(*words, *(["--undo"] if gives_up else []))
            code = await self._ended(mover)
            self.counts[f"movers that ended with {code}"] += 1
            if code == 0 and not gives_up:
                self.homes[tenant_id] = 1 - home
                self.counts["moves"] += 1
                return
            if code == 0:
                self.counts["moves given up"] += 1
                return
            self.last_words = [*self.last_words[-20:], mover.log.read_text(errors="replace")[-300:]]
            await asyncio.sleep(ROUND_SECONDS)

    async def _ended(self, mover: worker_process.Worker) -> int:
        """Wait until a mover has ended, some of them by SIGKILL, and return its exit code."""
        kill_at = time.monotonic() + self.chance.uniform(*KILLED_SECONDS)
        is_killed = self.chance.random() < KILLED_SHARE
        while mover.is_running:
            if is_killed and time.monotonic() > kill_at:
                mover.kill()
            await asyncio.sleep(0.05)
        return mover.wait()


async def _send(traffic: Traffic, drawn: list[worlds.World], seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        for _ in range(min(WORLDS_A_ROUND, len(drawn))):
            small_worlds.plan(traffic, drawn.pop())
        traffic.plan(RUNS_A_ROUND, malformed=traffic.chance.randrange(3))
        await traffic.send(0.9)
        await asyncio.sleep(ROUND_SECONDS)
    await traffic.send()


def _tenants(drawn: list[worlds.World]) -> list[str]:
    return sorted({goal.tenant_id for world in drawn for goal in world.goals})


@contextlib.contextmanager
def _cells(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> Iterator[tuple[Cell, Cell]]:
    """Yield two cells past the proxies, the first of which owns every bucket."""
    name = parse.urlsplit(installation.database_url).path[1:]
    with support.fresh_database(servers.postgres.address, f"TEMPLATE {name}") as second:
        url = support.with_database(servers.postgres.address, second)
        yield (
            cell_of(installation, "first", installation.database_url, "0-1023"),
            cell_of(installation, "second", url, "none"),
        )


async def soak(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation, seconds: float, seed: int
) -> int:
    """Return the number of problems."""
    with _cells(servers, replace(installation, settings={})) as cells:
        async with contextlib.AsyncExitStack() as stack:
            talking = [await stack.enter_async_context(clients.connect(cell)) for cell in cells]
            drawn = small_worlds.drawn(round(seconds / ROUND_SECONDS * WORLDS_A_ROUND), seed)
            await small_worlds.install(cells[0].database_url, drawn)
            moves = Moves(cells, _tenants(drawn), random.Random(f"moves {seed}"))
            traffic = await Traffic.begin(talking[0], "moves", seed)
            faults = [_chaos(servers, cell, seed + number) for number, cell in enumerate(cells)]
            try:
                await asyncio.gather(
                    faults[0].run(seconds),
                    faults[1].run(seconds, chaos.FAULTS_OF_PROCESSES),
                    _send(traffic, drawn, seconds),
                    moves.run(seconds),
                )
                return await _result(talking, traffic, moves, faults)
            finally:
                for process in [each for fault in faults for each in (*fault.workers, *fault.insights)]:
                    process.kill()


def _chaos(servers: faulty_servers.FaultyServers, cell: Cell, seed: int) -> Chaos:
    proxied = replace(cell, settings={**cell.settings, **servers.proxied_settings(cell.database_url)})
    return Chaos(servers, proxied, random.Random(seed), workers_max=WORKERS, insights_max=INSIGHTS)


async def _result(talking: list[clients.Client], traffic: Traffic, moves: Moves, faults: list[Chaos]) -> int:
    for fault in faults:
        await fault.stop_all()
        for _ in range(WORKERS):
            await fault.start().ready()
    for client in talking:
        with contextlib.suppress(AssertionError):  # whatever is unfinished by then is reported as a problem
            await workers.settle(client, CATCH_UP_SECONDS)
    found = [await evidence.gather(client) for client in talking]
    for fault in faults:
        await fault.stop_all()
    problems = [
        *history.problems(traffic.sent, traffic.expected, _together(found)),
        *_of_two_cells(found),
        *(exit_ for fault in faults for exit_ in fault.bad_exits),
    ]
    print("\n".join(f"{name:<40}{number:>8,}" for name, number in sorted(moves.counts.items())))
    kinds = sum((fault.faults for fault in faults), Counter[str]())
    print(f"events {len(found[0].inputs):,}, faults {kinds.total()}, mismatches {len(problems)}: {dict(kinds)}")
    print("\n".join([*moves.last_words[-3:], *problems[:20]]), flush=True)
    (talking[0].installation.folder / "problems.txt").write_text("\n".join(problems) + "\n")
    return len(problems)


def _together(found: list[outcomes.Found]) -> outcomes.Found:
    """Return what two cells have, as one installation would have it: what both have committed is committed."""
    first, second = found
    letters = [_of_group(letter, first.group_id) for letter in first.dead_letters]
    return replace(
        first,
        committed={
            place: min(first.committed.get(place, 0), second.committed.get(place, 0))
            for place in {*first.committed, *second.committed}
        },
        facts={**first.facts, **second.facts},
        achievements={**first.achievements, **second.achievements},
        exits=[*first.exits, *second.exits],
        waiting_exits=first.waiting_exits | second.waiting_exits,
        satisfied={**first.satisfied, **second.satisfied},
        converted={**first.converted, **second.converted},
        payments={**first.payments, **second.payments},
        unsent=first.unsent + second.unsent,
        dead_letters=letters,
    )


def _of_group(letter: outcomes.Copy, group_id: str) -> outcomes.Copy:
    headers = tuple((name, group_id.encode() if name == ORIGINAL_GROUP else value) for name, value in letter.headers)
    return letter._replace(headers=headers)


def _of_two_cells(found: list[outcomes.Found]) -> Iterator[str]:
    """Find rows that both cells have, and records that both dead-lettered."""
    first, second = found
    yield from (f"both cells have the achievement {key}" for key in first.achievements.keys() & second.achievements)
    yield from (f"both cells have the exit of {key}" for key in {*first.exits} & {*second.exits})
    groups: dict[tuple[object, ...], set[object]] = {}
    for letter in first.dead_letters:
        headers = dict(letter.headers)
        origin = tuple(headers.get(f"x-original-{part}") for part in ("topic", "partition", "offset"))
        groups.setdefault(origin, set()).add(headers.get(ORIGINAL_GROUP))
    yield from (f"two cells dead-lettered {origin}" for origin, named in groups.items() if len(named) > 1)
