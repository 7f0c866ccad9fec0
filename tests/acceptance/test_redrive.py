"""Redriven dead letters are judged as new records or dead-lettered again, and never lost (contract section 6)."""

import json
from datetime import UTC, datetime
from uuid import uuid4

import aiokafka
import pytest

from tests.kit import clients, messages_in, worker_process

pytestmark = pytest.mark.unmeasured

BROKEN = messages_in.Record("form_submitted", b"{", b"key")


def form_without_tenant_or_time(contact_id: str, at: datetime) -> messages_in.Record:
    data = {"contact_id": contact_id, "form_id": "f"}
    body = {"specversion": "1.0", "id": str(uuid4()), "source": "/crm", "type": "form.submitted", "data": data}
    return messages_in.Record("form_submitted", json.dumps(body).encode(), timestamp_ms=int(at.timestamp() * 1000))


def headers_of(letter: aiokafka.ConsumerRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in letter.headers}


def redrive(installation: worker_process.Installation) -> int:
    """Run `dlq redrive`, and return how many letters it sent."""
    outcome = installation.call("dlq", "redrive", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    return sum(row["records"] for row in messages_in.rows(outcome.out))


async def test_a_redriven_record_is_judged_by_its_own_time_or_dead_lettered_again(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        goal, enrollment = await client.create_goal("w", "form_submitted", form_id="f"), messages_in.new_enrollment("w")
        form = form_without_tenant_or_time(enrollment.contact_id, messages_in.later(goal.created_at, 2))
        async with installation.worker():
            await client.process(enrollment.started(goal.created_at), form, BROKEN)
        assert len(await client.dead_letters()) == 2
        assert await client.messages_about(enrollment) == []

        async with installation.worker(EVENTS__DEFAULT_TENANT=messages_in.TENANT):
            assert redrive(installation) == 2
            await client.settle()
            achieved, left = await client.messages_about(enrollment)
            assert redrive(installation) == 1
            await client.settle()
        at = datetime.fromtimestamp((form.timestamp_ms or 0) / 1000, UTC)
        assert [message.data["achieved_at"] for message in (achieved, left)] == [messages_in.rfc3339(at)] * 2

        letters = [letter for letter in await client.dead_letters() if letter.value == BROKEN.value]
        assert [letter.key for letter in letters] == [BROKEN.key] * 3
        assert [headers_of(letter).pop("x-redrive-count") for letter in letters] == ["0", "1", "2"]
        first, second, third = ({**headers_of(letter), "x-redrive-count": ""} for letter in letters)
        assert first == second == third
        assert first["x-original-topic"] == installation.topics["form_submitted"]


async def test_records_redriven_without_a_worker_are_sent_once_and_judged_by_the_next(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        goal, enrollment = await client.create_goal("w", "form_submitted", form_id="f"), messages_in.new_enrollment("w")
        at = messages_in.later(goal.created_at, 1)
        data = {"contact_id": enrollment.contact_id, "form_id": "f", "answers": "." * 1_000}
        async with installation.worker(EVENTS__MAX_BYTES=1_000):
            await client.process(enrollment.started(goal.created_at), messages_in.event("form.submitted", data, at))
        assert [headers_of(letter)["x-error-reason"] for letter in await client.dead_letters()] == ["too_large"]
        assert [redrive(installation), redrive(installation)] == [1, 0]
        async with installation.worker():
            await client.settle()
        assert clients.kinds(await client.messages_about(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]
