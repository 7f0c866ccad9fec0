"""Comparison of history, where it keeps the events of everyone, with the records in Kafka."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from aiokafka import errors as kafka_errors

from goalworker import config
from goalworker.decoding.decoder import Decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events
from tests.faults import evidence, outcomes, workers
from tests.kit import clients, support, worker_process

GOAL_INPUTS: Final = support.TOPICS[:5]
SETTINGS: Final[dict[str, Any]] = {
    "HISTORY__KEEP": "all",
    "HISTORY__DELAY_SECONDS": 0,
    "KAFKA__SESSION_TIMEOUT_SECONDS": workers.SESSION_TIMEOUT_SECONDS,
}
SETTLED_SECONDS: Final = 90.0
SHOWN: Final = 10

_BEHIND = "SELECT topic, partition, next_offset FROM history_positions"
_KEPT = 'SELECT topic, partition, "offset" FROM history_events'
_SEEN = "SELECT coalesce(sum(count), 0)::bigint FROM seen_values WHERE field = 'form_id'"


def start(installation: worker_process.Installation, **settings: object) -> worker_process.Worker:
    """Start insight, which keeps the events of everyone; the caller stops it."""
    return installation.launch("insight", **{**SETTINGS, **settings})


@contextlib.asynccontextmanager
async def insight(
    installation: worker_process.Installation, **settings: object
) -> AsyncIterator[worker_process.Worker]:
    """Run insight that is ready, and stop it in good order unless the test ended it."""
    async with worker_process.stopping(start(installation, **settings)) as started:
        await started.said("insight_ready")
        yield started


async def read(installation: worker_process.Installation, query: str) -> list[Any]:
    """Return the rows of a query, past the proxies."""
    connection = await asyncpg.connect(installation.database_url)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


async def share(client: clients.Client) -> float:
    """Return the share of the records in the goal topics that history has read."""
    ends = await client.consumer.end_offsets(client.partitions(*GOAL_INPUTS))
    found = {(row[0], row[1]): row[2] for row in await read(client.installation, _BEHIND)}
    return float(sum(found.get(partition, 0) for partition in ends) / max(sum(ends.values()), 1))


async def wait_for_share(client: clients.Client, wanted: float, timeout_seconds: float = SETTLED_SECONDS) -> None:
    """Wait until history has read this share of the records, also while a server is away."""

    async def is_read() -> bool:
        try:
            return await share(client) >= wanted
        except (kafka_errors.KafkaError, OSError, asyncpg.PostgresError):
            return False

    await support.until(is_read, timeout_seconds)


async def check(client: clients.Client, timeout_seconds: float = SETTLED_SECONDS) -> None:
    """Wait until history has read everything, then assert that it holds each event once."""
    await wait_for_share(client, 1, timeout_seconds)
    problems = await problems_of(client, await evidence.copies(client, GOAL_INPUTS))
    assert not problems, f"{len(problems)} problems, such as\n" + "\n".join(problems[:SHOWN])


async def problems_of(client: clients.Client, inputs: Iterable[outcomes.Copy]) -> list[str]:
    """Return what is wrong in history, which has read these records of the goal topics."""
    found = _events(client.installation, inputs)
    kept = Counter[outcomes.Position](tuple(row) for row in await read(client.installation, _KEPT))
    forms = sum(isinstance(event.data, events.FormSubmitted) for event in found.values())
    ((counted,),) = await read(client.installation, _SEEN)
    return [
        *(f"lost: {position} is not in history" for position in found.keys() - kept.keys()),
        *(
            f"too much: {position} is in history, but no event has this place"
            for position in kept.keys() - found.keys()
        ),
        *(f"doubled: {position} is in history {number} times" for position, number in kept.items() if number > 1),
        *([f"altered: {counted} forms were counted of {forms}"] if counted != forms else []),
    ]


def _events(
    installation: worker_process.Installation, inputs: Iterable[outcomes.Copy]
) -> dict[outcomes.Position, events.Event]:
    """Return the events of goals and reversals among records, by position."""
    settings = config.load(installation.environment(), env_file=None, secrets_dir=None)
    decoder = Decoder(settings.topics.event_types, Limits())
    topics, now = {installation.topics[topic] for topic in GOAL_INPUTS}, datetime.now(UTC)
    found = {}
    for copy in inputs:
        if copy.position[0] in topics:
            event = decoder.decode(copy.position[0], copy.value, copy.headers, copy.timestamp_ms, now)
            if isinstance(event, events.Event):
                found[copy.position] = event
    return found
