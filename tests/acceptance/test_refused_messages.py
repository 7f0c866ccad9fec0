"""A topic that refuses one message keeps that one waiting, and nothing else."""

import json

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.kit import conversation, messages_in, worker_process

LIMIT = 2_000
ENOUGH = 1_048_588


async def set_limit(talk: conversation.Talk, topic: str, limit: int) -> None:
    configs = {"max.message.bytes": str(limit)}
    await talk.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, talk.there.topics[topic], configs)])


async def types_about(talk: conversation.Talk, run: messages_in.Run) -> list[str]:
    return sorted(message.body["type"] for message in await talk.heard(run))


@pytest.mark.real_world(
    "Agendia#260", "A topic takes less than one message needs, and the worker ended at every start."
)
async def test_a_message_that_its_topic_refuses_waits_and_everything_else_goes_on(
    there: worker_process.Installation,
) -> None:
    async with conversation.talk(there) as talk:
        await set_limit(talk, "goal_achieved", LIMIT)
        goal = await talk.goal("w", "purchase_made", any_purchase=True)
        small, large = (messages_in.Run("w", f"run-{name}", f"c-{name}") for name in ("small", "large"))
        at = messages_in.later(goal.created_at, 1)
        async with there.worker() as worker:
            await worker.said("topic_too_small", topic=there.topics["goal_achieved"], limit_bytes=LIMIT)
            for run, products in ((large, 100), (small, 1)):
                payment = {
                    "contact_id": run.contact_id,
                    "payment_id": run.contact_id,
                    "amount": 49.9,
                    "currency": "EUR",
                    "product_ids": [f"product-{number:020}" for number in range(products)],
                }
                await talk.send(run.started(at), messages_in.event("payment.completed", payment, at))
            await talk.settled()
            assert await types_about(talk, small) == ["workflow.exit.goal", "workflow.goal.achieved"]
            assert await types_about(talk, large) == ["workflow.exit.goal"]
            topic = there.topics["goal_achieved"]
            await conversation.until(lambda: _is(worker, topic, 1))
            (refused,) = json.loads(there.call("outbox", "status", "--json").out)["refused"]
            assert (refused["topic"], refused["records"], refused["limit_bytes"]) == (topic, 1, LIMIT)
            assert refused["smallest_bytes"] > LIMIT
            doctor = there.call("doctor")
            assert doctor.code == 1
            assert f"{topic} refuses 1 message of {refused['smallest_bytes']} bytes" in doctor.out
            assert f"{topic} takes messages of {LIMIT} bytes at most" in doctor.out
        async with there.worker() as worker:  # which the refused message does not keep from starting
            await set_limit(talk, "goal_achieved", ENOUGH)
            await conversation.until(lambda: _has_gone(talk, large))
            await conversation.until(lambda: _is(worker, topic, 0))
        assert json.loads(there.call("outbox", "status", "--json").out)["refused"] == []


async def _is(worker: worker_process.Worker, topic: str, refused: int) -> bool:
    return worker.metric("outbox_refused_records", topic=topic) == refused


async def _has_gone(talk: conversation.Talk, run: messages_in.Run) -> bool:
    return "workflow.goal.achieved" in await types_about(talk, run)


async def test_a_dead_letter_that_is_too_large_goes_without_its_value_and_says_where(
    there: worker_process.Installation,
) -> None:
    async with conversation.talk(there) as talk, there.worker(DEAD_LETTERS__MAX_RATIO=1):
        await set_limit(talk, "dead_letters", LIMIT)
        values = (b"{small", b"{" + b"x" * LIMIT, b"{last")
        sent = await talk.send(*(messages_in.Record("form_submitted", value, b"key", partition=0) for value in values))
        await talk.settled()
        letters = sorted(await talk.dead_letters(), key=lambda letter: int(dict(letter.headers)["x-original-offset"]))
        assert [letter.value for letter in letters] == [values[0], None, values[2]]
        assert [letter.key for letter in letters] == [b"key"] * 3
        headers = dict(letters[1].headers)
        assert headers["x-original-offset"] == str(sent[1].offset).encode()
        assert headers["x-error-reason"] == b"invalid_json"
        assert f"its value of {len(values[1])} bytes is left out" in headers["x-error-message"].decode()
