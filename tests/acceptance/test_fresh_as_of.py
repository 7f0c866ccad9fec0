"""`fresh_as_of`: what an engine may rely on before it sends (contract section 5), with a real worker and API."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import aiokafka
import httpx
import pytest

from goalworker.postgres import connections
from tests.kit import clients, messages_in, running_api, support, worker_process

pytestmark = pytest.mark.unmeasured

ROUNDS = 5
WINDOW = 20
GARBAGE = messages_in.Record("form_submitted", b"{garbage", partition=0)
NEVER = datetime.fromisoformat("2020-01-01T00:00:00Z")


@contextlib.asynccontextmanager
async def asking(installation: worker_process.Installation) -> AsyncIterator[httpx.AsyncClient]:
    async with running_api.running(installation.database_url) as api, api.holder(tenant_id=messages_in.TENANT) as asker:
        yield asker


async def ask(asker: httpx.AsyncClient, enrollment_id: str = "unknown") -> tuple[Any, datetime]:
    """Return the status of an enrollment (404 if it is unknown) and how fresh that is (NEVER for null)."""
    answer = (await asker.get(f"/api/v1/enrollments/{enrollment_id}")).json()
    fresh_as_of = answer["fresh_as_of"]
    return answer["status"], NEVER if fresh_as_of is None else datetime.fromisoformat(fresh_as_of)


async def once_fresh(asker: httpx.AsyncClient, since: datetime, enrollment_id: str = "unknown") -> Any:
    """Wait for an answer that is as fresh as this, and return the status that it says."""
    answers = list[tuple[Any, datetime]]()

    async def is_fresh() -> bool:
        answers.append(await ask(asker, enrollment_id))
        return answers[-1][1] >= since

    await clients.until(is_fresh)
    return answers[-1][0]


def partitions(client: clients.Client, condition: str, count: int) -> Callable[[], Awaitable[bool]]:
    """Return a condition: this number of partitions has a progress like that."""

    async def holds() -> bool:
        return bool(await client.sql(f"SELECT count(*) FROM progress WHERE {condition}") == count)

    return holds


async def test_an_event_sent_before_the_answers_fresh_as_of_is_in_the_answer(
    client: clients.Client, worker: worker_process.Worker
) -> None:
    goal = await client.create_goal("fresh", "form_submitted", form_id="f")
    async with asking(client.installation) as asker:
        for _ in range(ROUNDS):
            enrollment = messages_in.new_enrollment("fresh")
            records = (
                enrollment.started(goal.created_at),
                enrollment.submits("f", messages_in.later(goal.created_at, 1)),
            )
            # Timestamps of producers say nothing about when their records reach Kafka.
            await client.send(*(replace(record, timestamp_ms=1_600_000_000_000) for record in records))
            sent = await connections.now(client.pool)
            assert await once_fresh(asker, sent, enrollment.enrollment_id) == "completed_goal"


async def test_an_idle_partition_moves_on_past_an_aborted_transaction_while_others_are_busy(
    client: clients.Client, worker: worker_process.Worker
) -> None:
    topic = client.installation.topics["tag_added"]
    async with (
        asking(client.installation) as asker,
        aiokafka.AIOKafkaProducer(
            bootstrap_servers=client.installation.bootstrap_servers, transactional_id=f"fresh-{topic}"
        ) as theirs,
    ):
        await theirs.begin_transaction()
        await theirs.send_and_wait(topic, b"{}", partition=0)
        await theirs.abort_transaction()
        await support.until_transactions_ended(client.installation.bootstrap_servers, topic)
        aborted = await connections.now(client.pool)

        async def is_fresh_though_busy() -> bool:
            await client.send(messages_in.in_partition(1, messages_in.new_enrollment("busy").submits("g", aborted)))
            return (await ask(asker))[1] >= aborted

        await clients.until(is_fresh_though_busy)


async def test_a_stopped_worker_stands_still_until_another_one_has_judged_the_rest(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client, asking(installation) as asker:
        assert await ask(asker) == (404, NEVER)
        async with installation.worker():
            assert await once_fresh(asker, await connections.now(client.pool)) == 404
        _, last = await ask(asker)
        stopped = await connections.now(client.pool)
        enrollment = messages_in.new_enrollment("stopped")
        await client.send(enrollment.started(stopped))
        assert await ask(asker, enrollment.enrollment_id) == (404, last)
        assert last < stopped
        async with installation.worker():
            assert await once_fresh(asker, stopped, enrollment.enrollment_id) == "active"


async def test_a_paused_topic_stands_still_until_it_is_resumed(installation: worker_process.Installation) -> None:
    topic = installation.topics["form_submitted"]
    async with clients.connect(installation) as client, asking(installation) as asker:
        async with installation.worker(DEAD_LETTERS__WINDOW=WINDOW) as worker:
            await once_fresh(asker, await connections.now(client.pool))
            await client.send(*[GARBAGE] * 2 * WINDOW)
            await worker.said("topic_paused", topic=topic)
            paused = await connections.now(client.pool)
            await clients.until(partitions(client, f"judged_until < '{paused}'", 1))
            assert NEVER < (await ask(asker))[1] < paused
        # After a rewind, nothing is known of what is read again.
        async with installation.worker("--reset-offsets", "2020-01-01T00:00:00Z", DEAD_LETTERS__WINDOW=WINDOW):
            await clients.until(partitions(client, "judged_until IS NULL", 1))
            assert await ask(asker) == (404, NEVER)
            assert installation.call("topics", "resume", topic, "--accept", str(2 * WINDOW)).code == 0
            await once_fresh(asker, await connections.now(client.pool))
