"""`goalworker` with a fault built in: `python rigged.py RIG run`. The product does not know about rigs.

RIG is `nothing`, `stuck`, `old-broker`, `impatient`, `reminding`, or `POINT:N`: the process ends by SIGKILL when it
passes the point for the N-th time. Every rig also shortens the intervals below, so that a worker recovers sooner.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import __main__, config, outages
from goalworker.kafka import broker_requests, consumer, sender
from goalworker.kafka.delivery import Delivery
from goalworker.pipeline import outbox
from goalworker.postgres import connections
from goalworker.runtime import health_watch

METADATA_MS: Final = 1_000
LEFT_BEHIND_SECONDS: Final = 5
JOIN_SECONDS: Final = 3
REFUSED_SECONDS: Final = 15
REMIND_SECONDS: Final = 2

Pass = Callable[[], None]
Rig = Callable[[Pass], None]
Begun = tuple[connections.Connection, str]


def shorten() -> None:
    """Make workers see a new partition and send an orphaned message sooner."""
    outbox.LEFT_BEHIND_SECONDS = LEFT_BEHIND_SECONDS  # type: ignore[misc]
    options = config.kafka_client_options
    config.kafka_client_options = lambda settings: options(settings) | {"metadata_max_age_ms": METADATA_MS}


def stuck() -> None:
    """Let the consumer hang after its first records, while its heartbeats go on (hazard 2)."""
    fetch = consumer.Consumer.fetch

    async def fetch_once(self: consumer.Consumer, max_records: int, timeout_ms: int) -> Any:
        fetched = await fetch(self, max_records, timeout_ms)
        if fetched:
            await asyncio.Event().wait()
        return fetched

    consumer.Consumer.fetch = fetch_once  # type: ignore[method-assign]


def at_old_broker() -> None:
    """Pretend that the broker is too old to give topics an id."""

    async def refuse(*_: object) -> dict[str, broker_requests.DescribedTopic]:
        raise NotImplementedError

    broker_requests._describe = refuse  # type: ignore[assignment]


def impatient() -> None:
    """Report a group that cannot be joined sooner, and give up on refused credentials sooner."""
    health_watch.JOIN_SECONDS = JOIN_SECONDS  # type: ignore[misc]
    outages.REFUSED_SECONDS = REFUSED_SECONDS  # type: ignore[misc]


def reminding() -> None:
    """Log the reminder of an outage more often."""
    outages.REMIND_SECONDS = REMIND_SECONDS  # type: ignore[misc]


# --- points at which a process kills itself ---


def at_fetch(passed: Pass) -> None:
    """Pass when records are fetched and nothing has been done with them."""
    fetch = consumer.Consumer.fetch

    async def rigged(self: consumer.Consumer, max_records: int, timeout_ms: int) -> Any:
        fetched = await fetch(self, max_records, timeout_ms)
        if fetched:
            passed()
        return fetched

    consumer.Consumer.fetch = rigged  # type: ignore[method-assign]


def at_commit(passed: Pass) -> None:
    """Pass when offsets are committed."""
    commit = consumer.Consumer.commit

    async def rigged(self: consumer.Consumer, epoch: int, offsets: consumer.Offsets) -> None:
        await commit(self, epoch, offsets)
        if offsets:
            passed()

    consumer.Consumer.commit = rigged  # type: ignore[method-assign]


def after_transaction(watched: str) -> Rig:
    """Pass when a transaction of this operation is committed."""

    def rig(passed: Pass) -> None:
        begin = connections.begin

        @contextlib.asynccontextmanager
        async def rigged(pool: AsyncEngine, role: str, operation: str, first: str) -> AsyncIterator[Begun]:
            async with begin(pool, role, operation, first) as begun:
                yield begun
            if operation == watched:
                passed()

        connections.begin = rigged

    return rig


def in_transaction(watched: str) -> Rig:
    """Pass when a transaction of this operation has sent everything but COMMIT."""

    def rig(passed: Pass) -> None:
        begin = connections.begin

        @contextlib.asynccontextmanager
        async def rigged(pool: AsyncEngine, role: str, operation: str, first: str) -> AsyncIterator[Begun]:
            async with begin(pool, role, operation, first) as begun:
                yield begun
                if operation == watched:
                    passed()

        connections.begin = rigged

    return rig


def after_round_trip(watched: str) -> Rig:
    """Pass when a transaction that takes one round trip is committed."""

    def rig(passed: Pass) -> None:
        execute = connections.execute_in_one_trip

        async def rigged(pool: AsyncEngine, role: str, operation: str, sql: str) -> None:
            await execute(pool, role, operation, sql)
            if operation == watched:
                passed()

        connections.execute_in_one_trip = rigged

    return rig


def after_sending(logical: str) -> Rig:
    """Pass when records of a topic, named by its setting, are acknowledged."""

    def rig(passed: Pass) -> None:
        deliver = sender.Sender.deliver
        topic = os.environ[f"GOALWORKER_TOPICS__{logical.upper()}"]

        async def rigged(self: sender.Sender, delivery: Delivery, **options: Any) -> None:
            records = list(delivery.pending.values())
            await deliver(self, delivery, **options)
            if any(record.topic == topic for record in records):
                passed()

        sender.Sender.deliver = rigged  # type: ignore[method-assign]

    return rig


POINTS: Final[dict[str, Rig]] = {
    "fetch": at_fetch,
    "in-facts": in_transaction("facts"),
    "facts": after_transaction("facts"),
    "letters": after_sending("dead_letters"),
    "in-judge": in_transaction("judge"),
    "judge": after_transaction("judge"),
    "achieved": after_sending("goal_achieved"),
    "publish": after_sending("workflow_exit"),
    "outbox-delete": after_round_trip("publish"),
    "commit": at_commit,
}


RIGS: Final = {"stuck": stuck, "old-broker": at_old_broker, "impatient": impatient, "reminding": reminding}


def kill_at(point: str, nth: int) -> None:
    """End this process by SIGKILL when it passes the point for the nth time."""
    passes = itertools.count(1)

    def passed() -> None:
        if next(passes) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    POINTS[point](passed)


def main() -> None:
    rig = sys.argv.pop(1)
    shorten()
    if rig in RIGS:
        RIGS[rig]()
    elif rig != "nothing":
        point, _, nth = rig.partition(":")
        kill_at(point, int(nth))
    __main__.main()


if __name__ == "__main__":
    main()
