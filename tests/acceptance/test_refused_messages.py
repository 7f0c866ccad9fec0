"""A topic that refuses one message delays that message alone."""

import json
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.kit import clients, messages_in, worker_process

pytestmark = pytest.mark.unmeasured

LIMIT = 2_000
ENOUGH = 1_048_588
# A worker that retries refused messages every second instead of every 15 s.
RETRYING = """
from goalworker import __main__
from goalworker.pipeline import refused_messages
refused_messages.RETRY_SECONDS = 1
__main__.main()
"""


async def set_limit(client: clients.Client, topic: str, limit: int) -> None:
    configs = {"max.message.bytes": str(limit)}
    await client.admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, client.installation.topics[topic], configs)]
    )


async def types_about(client: clients.Client, enrollment: messages_in.Enrollment) -> list[str]:
    return sorted(message.body["type"] for message in await client.messages_about(enrollment))


@pytest.mark.real_world(
    "Agendia#260", "A topic takes less than one message needs, and the worker ended at every start."
)
async def test_a_message_that_its_topic_refuses_does_not_delay_others(
    installation: worker_process.Installation, tmp_path: Path
) -> None:
    script = tmp_path / "retrying.py"
    script.write_text(RETRYING)
    async with clients.connect(installation) as client:
        await set_limit(client, "goal_achieved", LIMIT)
        goal = await client.create_goal("w", "purchase_made", any_purchase=True)
        small, large = (messages_in.Enrollment("w", f"run-{name}", f"c-{name}") for name in ("small", "large"))
        at = messages_in.later(goal.created_at, 1)
        async with installation.worker() as worker:
            await worker.said("topic_too_small", topic=installation.topics["goal_achieved"], limit_bytes=LIMIT)
            for enrollment, products in ((large, 100), (small, 1)):
                payment = {
                    "contact_id": enrollment.contact_id,
                    "payment_id": enrollment.contact_id,
                    "amount": 49.9,
                    "currency": "EUR",
                    "product_ids": [f"product-{number:020}" for number in range(products)],
                }
                await client.send(enrollment.started(at), messages_in.event("payment.completed", payment, at))
            await client.settle()
            assert await types_about(client, small) == ["workflow.exit.goal", "workflow.goal.achieved"]
            assert await types_about(client, large) == ["workflow.exit.goal"]
            topic = installation.topics["goal_achieved"]
            await clients.until(lambda: _is(worker, topic, 1))
            (refused,) = json.loads(installation.call("outbox", "status", "--json").out)["refused"]
            assert (refused["topic"], refused["records"], refused["limit_bytes"]) == (topic, 1, LIMIT)
            assert refused["smallest_bytes"] > LIMIT
            doctor = installation.call("doctor")
            assert doctor.code == 1
            assert f"{topic} refuses 1 message of {refused['smallest_bytes']} bytes" in doctor.out
            assert f"{topic} takes messages of {LIMIT} bytes at most" in doctor.out
        again = installation.launch_by(str(script), "run")
        async with worker_process.stopping(again):
            await again.ready()  # the refused message does not prevent a start
            await set_limit(client, "goal_achieved", ENOUGH)
            await clients.until(lambda: _has_gone(client, large))
            await clients.until(lambda: _is(again, topic, 0))
        assert json.loads(installation.call("outbox", "status", "--json").out)["refused"] == []


async def _is(worker: worker_process.Worker, topic: str, refused: int) -> bool:
    return worker.metric("outbox_refused_records", topic=topic) == refused


async def _has_gone(client: clients.Client, enrollment: messages_in.Enrollment) -> bool:
    return "workflow.goal.achieved" in await types_about(client, enrollment)


async def test_a_dead_letter_that_is_too_large_is_sent_without_its_value(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client, installation.worker(DEAD_LETTERS__MAX_RATIO=1):
        await set_limit(client, "dead_letters", LIMIT)
        values = (b"{small", b"{" + b"x" * LIMIT, b"{last")
        sent = await client.send(
            *(messages_in.Record("form_submitted", value, b"key", partition=0) for value in values)
        )
        await client.settle()
        letters = sorted(await client.dead_letters(), key=lambda letter: int(dict(letter.headers)["x-original-offset"]))
        assert [letter.value for letter in letters] == [values[0], None, values[2]]
        assert [letter.key for letter in letters] == [b"key"] * 3
        headers = dict(letters[1].headers)
        assert headers["x-original-offset"] == str(sent[1].offset).encode()
        assert headers["x-error-reason"] == b"invalid_json"
        assert f"its value of {len(values[1])} bytes is left out" in headers["x-error-message"].decode()
