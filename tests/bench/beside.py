"""Other programs beside goalworker, each on a backlog of its own, in turn with it."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import drains, figures, limits, load

OTHERS_PYTHON = Path(sys.prefix) / "bench" / "bin" / "python"
"""Has what this environment has not (Makefile)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Program that does the work of goalworker in another way, and the guarantees that it lacks."""

    name: str
    module: str
    events: int
    effect_once: str
    lacks: str
    target_times: float | None = None

    @property
    def python(self) -> str:
        """Return the interpreter with the packages that the program imports."""
        return str(OTHERS_PYTHON) if self.target_times else sys.executable


_LATE = (
    "enrollments that come after their hits, corrections by late messages, workflow states, goals that change "
    "meanwhile, dead letters: one bad record stops its partition"
)
PLAIN = Peer(
    "aiokafka, pydantic, SQLAlchemy: a loop, a message at a time",
    "plain",
    10_000,
    "no: a crash before the message loses the exit",
    _LATE,
)
PEERS = (
    Peer(
        "FastStream and SQLAlchemy, a message of each topic at a time",
        "faststream_each",
        15_000,
        "no: a crash before the message loses the exit",
        _LATE,
        40,
    ),
    Peer(
        "FastStream and SQLAlchemy, batches of 2,000, with an outbox",
        "faststream_batch",
        200_000,
        "yes: one row each, messages that repeat after a crash are the same",
        _LATE,
        20,
    ),
    PLAIN,
)


async def measured(bench: limits.Bench, peers: tuple[Peer, ...] = PEERS) -> dict[str, Any]:
    """Let goalworker and peers work off the 10 %/1 % mix, round after round, and compare within each round."""
    rounds = []
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(bench.stage(bench.part(limits.TENTH)))
        stages = [await stack.enter_async_context(bench.stage(bench.part(_mix(peer)))) for peer in peers]
        for _ in range(bench.extent.rounds):
            theirs = [await _drained(peer, stage) for peer, stage in zip(peers, stages, strict=True)]
            rounds.append([await drains.product(ours), *theirs])
            print("  product", *(f"{drain.events_per_second:,.0f}" for drain in rounds[-1]), flush=True)
    product, *others = zip(*rounds, strict=True)
    compared = [_compared(peer, own, product) for peer, own in zip(peers, others, strict=True)]
    return _figures(product) | {"peers": compared}


async def _drained(peer: Peer, stage: drains.Stage) -> drains.Drain:
    return await drains.peer(stage, f"tests.bench.peers.{peer.module}", peer.python)


def _mix(peer: Peer) -> load.Mix:
    return load.Mix(peer.events, limits.TENTH.hits, limits.TENTH.achieved)


def _compared(peer: Peer, own: Sequence[drains.Drain], product: Sequence[drains.Drain]) -> dict[str, Any]:
    return _figures(own) | {
        "name": peer.name,
        "times": figures.shares(_speeds(product), _speeds(own), times=1),
        "target_times": peer.target_times,
        "effect_once": peer.effect_once,
        "lacks": peer.lacks,
    }


def _figures(done: Sequence[drains.Drain]) -> dict[str, Any]:
    return {"events_per_second": figures.spread(_speeds(done)), "cpu_us": limits.cpu(done)["worker"]}


def _speeds(done: Sequence[drains.Drain]) -> list[float]:
    return [drain.events_per_second for drain in done]
