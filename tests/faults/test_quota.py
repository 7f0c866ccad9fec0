"""A quota of the broker slows a worker down: nothing is repeated, and exits are published all the time."""

import time

import pytest

from goalworker.kafka import producer
from goalworker.kafka.records import Record
from tests.kit import clients, messages_in, quota, worker_process

EXITS = 3_000
PLENTY = 50_000_000
PATIENCE_SECONDS = 300.0


async def _backlog(client: clients.Client) -> None:
    goal = await client.create_goal("quota", "form_submitted", form_id="f")
    at = messages_in.later(goal.created_at, 1)
    enrollments = [messages_in.Enrollment("quota", f"run-{number}", f"c-{number}") for number in range(EXITS)]
    await client.send(
        *(enrollment.started(at) for enrollment in enrollments),
        *(enrollment.submits("f", at) for enrollment in enrollments),
    )


async def _sizes(client: clients.Client, topic: str) -> list[int]:
    records = await client.records(topic)
    return [producer.batch_size(Record(each.topic, each.key, each.value, list(each.headers))) for each in records]


async def _copies(client: clients.Client) -> float:
    """Return the share of repeats among the messages of a topic."""
    topics = ("goal_achieved", "workflow_exit")
    records = sum([len(await client.records(topic)) for topic in topics])
    return records / sum([len(await client.messages(topic)) for topic in topics]) - 1


@pytest.mark.fault
@pytest.mark.real_world("kafka-python#2506", "3,000 exits under a quota of 50 KB/s were sent five times over")
async def test_a_quota_of_50_kb_a_second_is_used_up_without_repeats(
    installation: worker_process.Installation,
) -> None:
    rate = 50_000
    async with clients.connect(installation) as client:
        async with installation.worker() as worker:
            await quota.limit(installation.bootstrap_servers, worker.client_id, rate)
            began = time.monotonic()
            await _backlog(client)
            await client.settle(PATIENCE_SECONDS)
            seconds = time.monotonic() - began
        sent = sum(await _sizes(client, "goal_achieved")) + sum(await _sizes(client, "workflow_exit"))
        assert len(await client.messages("workflow_exit")) == EXITS
        assert sent / seconds >= 0.8 * rate, (sent, seconds)
        assert await _copies(client) <= 0.05


@pytest.mark.fault
@pytest.mark.real_world("kafka-python#2506", "under a quota of 3 KB/s nothing got out")
async def test_a_quota_of_3_kb_a_second_keeps_exits_after_their_achievements(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        async with installation.worker() as worker:
            await quota.limit(installation.bootstrap_servers, worker.client_id, 3_000)
            await _backlog(client)
            await clients.until(lambda: _have_gone(client, 50), PATIENCE_SECONDS)
            exits = {message.body["subject"] for message in await client.messages("workflow_exit")}
            achieved = {message.body["subject"] for message in await client.messages("goal_achieved")}
            assert exits <= achieved
            assert len(exits) < EXITS
            await quota.limit(installation.bootstrap_servers, worker.client_id, PLENTY)
            await client.settle(PATIENCE_SECONDS)
        assert len(await client.messages("workflow_exit")) == EXITS
        assert await _copies(client) <= 0.05


async def _have_gone(client: clients.Client, exits: int) -> bool:
    return len(await client.messages("workflow_exit")) >= exits


@pytest.mark.fault
@pytest.mark.real_world("kafka-python#2506", "a worker that is killed under its quota left copies of all it had sent")
async def test_a_worker_killed_under_its_quota_causes_at_most_a_window_of_repeats(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        worker = installation.start()
        try:
            await worker.ready()
            await quota.limit(installation.bootstrap_servers, worker.client_id, 50_000)
            await _backlog(client)
            await clients.until(lambda: _have_gone(client, EXITS // 2), PATIENCE_SECONDS)
        finally:
            worker.kill()
        await client.remove_member(worker)
        async with installation.worker():
            await client.settle(PATIENCE_SECONDS)
            await client.wait_until_published()
        assert len(await client.messages("workflow_exit")) == EXITS
        assert await _copies(client) <= 0.05
