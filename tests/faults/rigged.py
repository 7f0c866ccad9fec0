"""A worker with one thing rigged: `python -m tests.faults.rigged WHAT run`; nothing in the product knows of it.

WHAT is `nothing`, `stuck`, `old-broker`, `impatient`, `reminding`, or `POINT:N`: the process ends by SIGKILL when
it passes the point for the N-th time. The constants below are shortened for all of them, so that what a fault leaves
behind is taken up sooner.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from goalworker import __main__, config, outages
from goalworker.kafka import broker_requests, consumer, sender
from goalworker.pipeline import outbox
from goalworker.postgres import connections
from goalworker.runtime import health_watch

METADATA_MS: Final = 1_000
LEFT_BEHIND_SECONDS: Final = 5
JOIN_SECONDS: Final = 3
REFUSED_SECONDS: Final = 15
REMIND_SECONDS: Final = 2

Pass = Callable[[], None]


def shorten() -> None:
    """A new partition is seen and an orphaned message is sent sooner."""
    outbox.LEFT_BEHIND_SECONDS = LEFT_BEHIND_SECONDS  # type: ignore[misc]
    options = config.kafka_client_options
    config.kafka_client_options = lambda settings: options(settings) | {"metadata_max_age_ms": METADATA_MS}


def stuck() -> None:
    """After its first records the consumer says nothing more, while the group believes that it lives (hazard 2)."""
    fetch = consumer.Consumer.fetch

    async def fetch_once(self: consumer.Consumer, max_records: int, timeout_ms: int) -> Any:
        fetched = await fetch(self, max_records, timeout_ms)
        if fetched:
            await asyncio.Event().wait()
        return fetched

    consumer.Consumer.fetch = fetch_once  # type: ignore[method-assign]


def at_old_broker() -> None:
    """The broker is too old to give topics an id."""

    async def none(*_: object) -> dict[str, uuid.UUID]:
        return {}

    vars(broker_requests)["topic_ids"] = none


def impatient() -> None:
    """A group that is not joined is complained of sooner, and refused credentials are given up sooner."""
    health_watch.JOIN_SECONDS = JOIN_SECONDS  # type: ignore[misc]
    outages.REFUSED_SECONDS = REFUSED_SECONDS  # type: ignore[misc]


def reminding() -> None:
    """What is away is reminded of sooner."""
    outages.REMIND_SECONDS = REMIND_SECONDS  # type: ignore[misc]


# --- points to be killed at ---


def at_fetch(passed: Pass) -> None:
    """Records are here, and nothing is done yet."""
    fetch = consumer.Consumer.fetch

    async def rigged(self: consumer.Consumer, max_records: int, timeout_ms: int) -> Any:
        fetched = await fetch(self, max_records, timeout_ms)
        if fetched:
            passed()
        return fetched

    consumer.Consumer.fetch = rigged  # type: ignore[method-assign]


def at_commit(passed: Pass) -> None:
    """The offsets are committed."""
    commit = consumer.Consumer.commit

    async def rigged(self: consumer.Consumer, epoch: int, offsets: consumer.Offsets) -> None:
        await commit(self, epoch, offsets)
        if offsets:
            passed()

    consumer.Consumer.commit = rigged  # type: ignore[method-assign]


def after_transaction(operation: str) -> Callable[[Pass], None]:
    """A transaction is committed."""

    def rig(passed: Pass) -> None:
        begun = connections.begin

        @contextlib.asynccontextmanager
        async def rigged(pool: Any, role: str, done: str, first: str) -> AsyncIterator[Any]:
            async with begun(pool, role, done, first) as both:
                yield both
            if done == operation:
                passed()

        vars(connections)["begun"] = rigged

    return rig


def in_transaction(operation: str) -> Callable[[Pass], None]:
    """A transaction has said everything but COMMIT."""

    def rig(passed: Pass) -> None:
        begun = connections.begin

        @contextlib.asynccontextmanager
        async def rigged(pool: Any, role: str, doing: str, first: str) -> AsyncIterator[Any]:
            async with begun(pool, role, doing, first) as both:
                yield both
                if doing == operation:
                    passed()

        vars(connections)["begun"] = rigged

    return rig


def after_round_trip(operation: str) -> Callable[[Pass], None]:
    """A transaction of one round trip is committed."""

    def rig(passed: Pass) -> None:
        at_once = connections.execute_in_one_trip

        async def rigged(pool: Any, role: str, done: str, sql: str) -> None:
            await at_once(pool, role, done, sql)
            if done == operation:
                passed()

        vars(connections)["at_once"] = rigged

    return rig


def after_sending(logical: str) -> Callable[[Pass], None]:
    """Records of a topic are acknowledged; logical is the topic's setting."""

    def rig(passed: Pass) -> None:
        deliver = sender.Sender.deliver
        topic = os.environ[f"GOALWORKER_TOPICS__{logical.upper()}"]

        async def rigged(self: sender.Sender, delivery: sender.Delivery) -> None:
            records = list(delivery.waiting.values())
            await deliver(self, delivery)
            if any(record.topic == topic for record in records):
                passed()

        sender.Sender.deliver = rigged  # type: ignore[method-assign]

    return rig


POINTS: Final[dict[str, Callable[[Pass], None]]] = {
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


def killed_at(point: str, time: int) -> None:
    """End this process by SIGKILL when it passes the point for that time."""
    passes = itertools.count(1)

    def passed() -> None:
        if next(passes) == time:
            os.kill(os.getpid(), signal.SIGKILL)

    POINTS[point](passed)


def main() -> None:
    what = sys.argv.pop(1)
    shorten()
    if what in RIGS:
        RIGS[what]()
    elif what != "nothing":
        point, _, time = what.partition(":")
        killed_at(point, int(time))
    __main__.main()


if __name__ == "__main__":
    main()
