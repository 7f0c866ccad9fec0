"""Dead letters sent again: judged as if they had just come, or back in the DLQ, and never lost (contract section 6)."""

import json
from datetime import UTC, datetime
from uuid import uuid4

import aiokafka

from tests.kit import conversation, messages_in, worker_process

BROKEN = messages_in.Record("form_submitted", b"{", b"key")


def form_without_tenant_or_time(contact_id: str, at: datetime) -> messages_in.Record:
    data = {"contact_id": contact_id, "form_id": "f"}
    body = {"specversion": "1.0", "id": str(uuid4()), "source": "/crm", "type": "form.submitted", "data": data}
    return messages_in.Record("form_submitted", json.dumps(body).encode(), timestamp_ms=int(at.timestamp() * 1000))


def headers_of(letter: aiokafka.ConsumerRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in letter.headers}


def redrive(there: worker_process.Installation) -> int:
    """Return how many letters were sent."""
    outcome = there.call("dlq", "redrive", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return sum(row["records"] for row in messages_in.rows(outcome.out))


async def test_a_fixed_redrive_is_judged_by_its_own_time_a_failing_one_is_a_letter_again(
    there: worker_process.Installation,
) -> None:
    async with conversation.talk(there) as talk:
        goal, run = await talk.goal("w", "form_submitted", form_id="f"), messages_in.a_run("w")
        form = form_without_tenant_or_time(run.contact_id, messages_in.later(goal.created_at, 2))
        async with there.worker():
            await talk.say(run.started(goal.created_at), form, BROKEN)
        assert len(await talk.dead_letters()) == 2
        assert await talk.heard(run) == []

        async with there.worker(EVENTS__DEFAULT_TENANT=messages_in.TENANT):
            assert redrive(there) == 2
            await talk.settled()
            achieved, left = await talk.heard(run)
            assert redrive(there) == 1
            await talk.settled()
        at = datetime.fromtimestamp((form.timestamp_ms or 0) / 1000, UTC)
        assert [message.data["achieved_at"] for message in (achieved, left)] == [messages_in.rfc3339(at)] * 2

        letters = [letter for letter in await talk.dead_letters() if letter.value == BROKEN.value]
        assert [letter.key for letter in letters] == [BROKEN.key] * 3
        assert [headers_of(letter).pop("x-redrive-count") for letter in letters] == ["0", "1", "2"]
        first, second, third = ({**headers_of(letter), "x-redrive-count": ""} for letter in letters)
        assert first == second == third
        assert first["x-original-topic"] == there.topics["form_submitted"]


async def test_records_redriven_without_a_worker_are_sent_once_and_judged_by_the_next(
    there: worker_process.Installation,
) -> None:
    async with conversation.talk(there) as talk:
        goal, run = await talk.goal("w", "form_submitted", form_id="f"), messages_in.a_run("w")
        at = messages_in.later(goal.created_at, 1)
        data = {"contact_id": run.contact_id, "form_id": "f", "answers": "." * 1_000}
        async with there.worker(EVENTS__MAX_BYTES=1_000):
            await talk.say(run.started(goal.created_at), messages_in.event("form.submitted", data, at))
        assert [headers_of(letter)["x-error-reason"] for letter in await talk.dead_letters()] == ["too_large"]
        assert [redrive(there), redrive(there)] == [1, 0]
        async with there.worker():
            await talk.settled()
        assert conversation.kinds(await talk.heard(run)) == [("goal.achieved", 1), ("exit.goal", None)]
