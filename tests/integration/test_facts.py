"""Recording the facts of a batch tells which of them are new."""

from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain.facts import event_key
from goalworker.postgres import connections
from tests.integration import world
from tests.integration.scenes import ONE, TWO, tagged

FIRST, SECOND, THIRD = tagged("h1", 5), tagged("h2", 6, "tag-2"), tagged("h3", 7)


async def test_new_facts_are_distinguished_from_recorded_ones(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    await world.clear(administrator)
    await world.install(administrator, (ONE, TWO))
    worker = world.Worker(pool, world.Broker())
    batches = [(FIRST, SECOND), (FIRST, THIRD, THIRD), (SECOND, FIRST), (tagged("h4", 8), tagged("h4", 8))]
    found = []
    for messages in batches:
        await worker.take(*messages)
        found.append(worker.recorded.new_events)
    new = [{FIRST, SECOND}, {THIRD}, set(), {tagged("h4", 8)}]
    assert found == [set(map(event_key, messages)) for messages in new]
