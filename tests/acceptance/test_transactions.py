"""Records of aborted transactions are never read, and transaction markers are not lag (contract section 2)."""

from datetime import UTC, datetime

import aiokafka
import pytest

from goalworker.stores import goal_store
from tests.kit import clients, messages_in, support, worker_process

pytestmark = pytest.mark.unmeasured


async def _say(producer: aiokafka.AIOKafkaProducer, client: clients.Client, *records: messages_in.Record) -> None:
    for record in records:
        await producer.send(client.installation.topics[record.topic], record.value, headers=list(record.headers))


async def _end_of_transactions(client: clients.Client) -> None:
    for topic in ("workflow_lifecycle", "form_submitted"):
        await support.until_transactions_ended(client.installation.bootstrap_servers, client.installation.topics[topic])


async def test_aborted_records_are_never_read_and_transaction_markers_are_not_lag(
    client: clients.Client, worker: worker_process.Worker
) -> None:
    goal: goal_store.StoredGoal = await client.create_goal("transactions", "form_submitted", form_id="f")
    at = messages_in.later(goal.created_at, 1)
    kept, dropped = messages_in.new_enrollment("transactions"), messages_in.new_enrollment("transactions")
    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=client.installation.bootstrap_servers, transactional_id=f"crm-{goal.id}"
    ) as producer:
        garbage = messages_in.Record("form_submitted", b"garbage")
        await producer.begin_transaction()
        await _say(producer, client, dropped.started(at), dropped.submits("f", at), garbage)
        await producer.abort_transaction()
        async with producer.transaction():
            await _say(producer, client, kept.started(at), kept.submits("f", at))
        await _end_of_transactions(client)
        # Settled means committed to the end, after the transaction's markers.
        await client.settle()
        assert clients.kinds(await client.messages_about(kept)) == [("goal.achieved", 1), ("exit.goal", None)]

        # No record arrives from an aborted transaction, but the lag goes away.
        await producer.begin_transaction()
        await _say(producer, client, dropped.started(at), dropped.submits("f", at))
        await producer.abort_transaction()
        await _end_of_transactions(client)
    await client.settle()
    assert await client.messages_about(dropped) == []
    assert await client.dead_letters() == []

    async def is_told() -> bool:
        return worker.metric("consumer_lag_records") == 0

    await clients.until(is_told)
    assert worker.metric("events_total", outcome="dead_letter") == 0


@pytest.mark.real_world("franz-go#581", "one producer leaves its transaction open, and the others' events wait unseen")
async def test_records_behind_an_open_transaction_are_counted_as_hidden(
    client: clients.Client, worker: worker_process.Worker
) -> None:
    topic = client.installation.topics["form_submitted"]
    waiting = messages_in.new_enrollment("hidden")

    async def shows(records: int) -> bool:
        return worker.metric("consumer_hidden_records", topic=topic, partition="1") == records

    async def has_stood_still() -> bool:
        return worker.metric("consumer_hidden_seconds", topic=topic, partition="1") > 1

    async with aiokafka.AIOKafkaProducer(
        bootstrap_servers=client.installation.bootstrap_servers, transactional_id=f"left-open-{topic}"
    ) as theirs:
        await theirs.begin_transaction()
        await theirs.send_and_wait(topic, b"{}", partition=1)
        await client.send(messages_in.in_partition(1, waiting.submits("f", datetime.now(UTC))))
        await clients.until(lambda: shows(2))
        await clients.until(has_stood_still)
        assert worker.metric("consumer_lag_records") == 0
        await theirs.abort_transaction()
        await _end_of_transactions(client)
    await clients.until(lambda: shows(0))
    assert worker.metric("consumer_hidden_seconds") == 0
    await client.settle()
