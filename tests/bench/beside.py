"""The usual ways beside the product, each on a backlog of its own, in turn with it."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import drains, figures, limits, load

OTHERS_PYTHON = Path(sys.prefix) / "bench" / "bin" / "python"
"""Has what this environment has not (Makefile)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that does the product's work in its own way, and what it does not give."""

    name: str
    module: str
    events: int
    effect_once: str
    lacks: str
    target_times: float | None = None

    @property
    def python(self) -> str:
        """The interpreter that has what it imports."""
        return str(OTHERS_PYTHON) if self.target_times else sys.executable


_LATE = "corrections by late messages, goals that change meanwhile, dead letters"
PLAIN = Peer(
    "aiokafka, pydantic, SQLAlchemy: a loop, a message at a time",
    "plain",
    10_000,
    "no: a crash before the message loses the exit",
    f"hits before their enrollment, {_LATE}",
)
PEERS = (
    Peer(
        "FastStream and SQLAlchemy, a message at a time, 20 at once",
        "faststream_each",
        20_000,
        "no: a crash before the message loses the exit",
        f"hits before their enrollment, {_LATE}",
        40,
    ),
    Peer(
        "FastStream and SQLAlchemy, batches of 2,000, with an outbox",
        "faststream_batch",
        200_000,
        "rows yes; exits as the product's, again under the same content after a crash",
        _LATE,
        20,
    ),
    PLAIN,
)


async def measured(bench: limits.Bench, peers: tuple[Peer, ...] = PEERS) -> dict[str, Any]:
    """Let product and peers work off the 10 %/1 % mix, round after round, and compare within each round."""
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(bench.stage(bench.part(limits.TENTH)))
        stages = [await stack.enter_async_context(bench.stage(bench.part(_mix(peer)))) for peer in peers]
        product, speeds = [], [list[float]() for _ in peers]
        for _ in range(bench.extent.rounds):
            product.append((await drains.product(ours)).events_per_second)
            for peer, stage, into in zip(peers, stages, speeds, strict=True):
                into.append(
                    (await drains.peer(stage, f"tests.bench.peers.{peer.module}", peer.python)).events_per_second
                )
            print("  product", *(f"{each[-1]:,.0f}" for each in (product, *speeds)), flush=True)
    compared = [
        _compared(peer, stage.mix.events, own, product) for peer, stage, own in zip(peers, stages, speeds, strict=True)
    ]
    return {"events_per_second": figures.spread(product), "peers": compared}


def _mix(peer: Peer) -> load.Mix:
    return load.Mix(peer.events, limits.TENTH.hits, limits.TENTH.achieved)


def _compared(peer: Peer, events: int, own: list[float], product: list[float]) -> dict[str, Any]:
    return {
        "name": peer.name,
        "events": events,
        "events_per_second": figures.spread(own),
        "times": figures.shares(product, own, times=1),
        "target_times": peer.target_times,
        "effect_once": peer.effect_once,
        "lacks": peer.lacks,
    }
