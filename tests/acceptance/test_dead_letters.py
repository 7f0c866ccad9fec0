"""Records that cannot be processed go to the DLQ unchanged, and others are not held up (contract section 4)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiokafka
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from goalworker.decoding.decoder import Decoder, Malformed
from goalworker.decoding.limits import Limits
from tests.kit import clients, hostile, messages_in, worker_process

# Every second record is malformed here; with a ratio of 1 no topic is paused.
NEVER_PAUSED = {"DEAD_LETTERS__MAX_RATIO": 1}


@pytest.fixture(scope="module")
def worker(shared: worker_process.Installation) -> Iterator[worker_process.Worker]:
    with worker_process.module_worker(shared, **NEVER_PAUSED) as running:
        yield running


async def _letters(client: clients.Client, sent: aiokafka.structs.RecordMetadata) -> list[aiokafka.ConsumerRecord]:
    """Return the dead letters of one record."""
    where = (sent.topic, str(sent.partition), str(sent.offset))
    return [letter for letter in await client.dead_letters() if _origin(letter) == where]


def _origin(letter: aiokafka.ConsumerRecord) -> tuple[str, ...]:
    headers = dict(letter.headers)
    return tuple(headers[f"x-original-{part}"].decode() for part in ("topic", "partition", "offset"))


def _ours(client: clients.Client, sent: Any, reason: str, message: str) -> list[tuple[str, bytes]]:
    """Return the headers that a dead letter gets."""
    headers = {
        "x-original-topic": sent.topic,
        "x-original-partition": sent.partition,
        "x-original-offset": sent.offset,
        "x-original-timestamp": sent.timestamp,
        "x-original-group": client.installation.group_id,
        "x-error-reason": reason,
        "x-error-message": message,
        "x-redrive-count": 0,
    }
    return [(name, str(value).encode()) for name, value in headers.items()]


async def test_hostile_records_are_dead_lettered_byte_for_byte_and_others_are_judged(
    client: clients.Client,
) -> None:
    topic = client.installation.topics["form_submitted"]
    larger = ConfigResource(
        ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(worker_process.REQUEST_BYTES)}
    )
    await client.admin.alter_configs([larger])
    goal = await client.create_goal("neighbours", "form_submitted", form_id="f")
    enrollment = messages_in.new_enrollment("neighbours")
    # Good records in the same partition would be missing below if a record were skipped or stuck.
    nasty = [
        messages_in.Record(record.topic.replace("-", "_"), record.value, b"\xff\x00", record.headers, partition=0)
        for record in hostile.CORPUS
    ]
    enrollments = [
        messages_in.Enrollment(
            enrollment.workflow_id, f"{enrollment.enrollment_id}-{n}", f"{enrollment.contact_id}-{n}"
        )
        for n in range(len(nasty))
    ]
    at = messages_in.later(goal.created_at, 1)
    await client.send(*(each.started(at) for each in enrollments))
    where = []
    for each, record in zip(enrollments, nasty, strict=True):
        where += (await client.send(record, messages_in.in_partition(0, each.submits("f", at))))[:1]
    await client.settle()

    decoder = Decoder(hostile.KINDS, Limits())
    expected = {}
    for given, record, sent in zip(hostile.CORPUS, nasty, where, strict=True):
        outcome = decoder.decode(given.topic, record.value, record.headers, sent.timestamp, datetime.now(UTC))
        if isinstance(outcome, Malformed):
            sentence = f"{outcome.pointer}: {outcome.detail}" if outcome.pointer else outcome.detail
            headers = [*record.headers, *_ours(client, sent, outcome.reason, sentence)]
            expected[sent.topic, str(sent.partition), str(sent.offset)] = (record.key, record.value, headers)
    assert len(expected) > 100
    found = {
        _origin(letter): (letter.key, letter.value, list(letter.headers)) for letter in await client.dead_letters()
    }
    assert found == expected
    achieved = {message.data["enrollment_id"] for message in await client.messages("goal_achieved")}
    assert achieved == {each.enrollment_id for each in enrollments}


async def test_our_headers_replace_those_of_the_sender_in_place(
    client: clients.Client,
) -> None:
    theirs = [("a", b"1"), ("x-error-reason", b"theirs"), ("b", None), ("x-original-topic", b"theirs"), ("a", b"\xff")]
    (sent,) = await client.send(messages_in.Record("form_submitted", b"{", headers=theirs))
    await client.settle()
    (letter,) = await _letters(client, sent)
    message = dict(letter.headers)["x-error-message"].decode()
    ours = dict(_ours(client, sent, "invalid_json", message))
    in_place = [(name, ours.pop(name, value)) for name, value in theirs]
    assert list(letter.headers) == [*in_place, *ours.items()]


async def test_a_dead_letter_says_what_is_wrong_without_quoting_the_record(client: clients.Client) -> None:
    record = messages_in.event("form.submitted", {"contact_id": "secret\n", "form_id": "f"}, datetime.now(UTC))
    (sent,) = await client.send(record)
    await client.settle()
    (letter,) = await _letters(client, sent)
    message = dict(letter.headers)["x-error-message"].decode()
    assert message.startswith("/data/contact_id: ")
    assert "secret" not in message


async def test_an_event_from_the_future_is_dead_lettered(client: clients.Client) -> None:
    at = datetime.now(UTC) + timedelta(seconds=330)
    (sent,) = await client.send(messages_in.new_enrollment("future").submits("f", at))
    await client.settle()
    (letter,) = await _letters(client, sent)
    assert dict(letter.headers)["x-error-reason"] == b"future_time"


async def test_an_enrollment_id_with_another_contact_is_dead_lettered(
    client: clients.Client, worker: worker_process.Worker
) -> None:
    goal = await client.create_goal("conflicts", "form_submitted", form_id="f")
    enrollment, at = messages_in.new_enrollment("conflicts"), messages_in.later(goal.created_at, 1)
    other = messages_in.Enrollment(enrollment.workflow_id, enrollment.enrollment_id, "somebody else")
    await client.process(enrollment.started(at))
    (sent,) = await client.send(other.ended(at))
    await client.process(enrollment.submits("f", at), other.submits("f", at))
    (letter,) = await _letters(client, sent)
    assert dict(letter.headers)["x-error-reason"] == b"conflicting_enrollment"
    assert clients.kinds(await client.messages_about(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]
    lifecycle = client.installation.topics["workflow_lifecycle"]
    assert worker.metric("dead_letters_total", topic=lifecycle, reason="conflicting_enrollment") == 1


async def test_a_tombstone_is_skipped_and_counted(client: clients.Client, worker: worker_process.Worker) -> None:
    dead = len(await client.dead_letters())
    await client.process(
        messages_in.Record("tag_added", None, b"acme:c"), messages_in.Record("workflow_lifecycle", None, b"w")
    )
    await client.send_nothing("redrive")
    await client.settle()
    assert len(await client.dead_letters()) == dead
    topics = [client.installation.topics[topic] for topic in ("tag_added", "workflow_lifecycle", "redrive")]

    async def is_counted() -> bool:
        return all(worker.metric("events_total", topic=topic, outcome="tombstone") == 1 for topic in topics)

    await clients.until(is_counted)


# --- redrive ---


def _redriven(client: clients.Client, record: messages_in.Record, **others: bytes) -> messages_in.Record:
    """Return a record as it is in the redrive topic."""
    first = {
        "x-original-topic": client.installation.topics[record.topic].encode(),
        "x-original-partition": b"3",
        "x-original-offset": b"17",
        "x-original-timestamp": b"1700000000000",
        "x-original-group": b"somebody",
        "x-error-reason": b"future_time",
        "x-error-message": b"was too early",
        "x-redrive-count": b"2",
    }
    return messages_in.Record("redrive", record.value, record.key, [*record.headers, *(first | others).items()])


async def test_a_redriven_record_is_judged_as_a_record_of_its_original_topic(client: clients.Client) -> None:
    goal = await client.create_goal("redriven", "form_submitted", form_id="f")
    enrollment, at = messages_in.new_enrollment("redriven"), messages_in.later(goal.created_at, 1)
    form = messages_in.binary("form.submitted", {"contact_id": enrollment.contact_id, "form_id": "f"}, at)
    await client.process(_redriven(client, enrollment.started(at)), _redriven(client, form))
    assert clients.kinds(await client.messages_about(enrollment)) == [("goal.achieved", 1), ("exit.goal", None)]


async def test_a_record_that_fails_again_keeps_its_origin_and_redrive_count(client: clients.Client) -> None:
    record = _redriven(client, messages_in.Record("form_submitted", b"\x00", b"key"))
    await client.process(record)
    (letter,) = [letter for letter in await client.dead_letters() if dict(letter.headers)["x-redrive-count"] == b"2"]
    assert (letter.key, letter.value) == (b"key", b"\x00")
    changed = {name: value for name, value in letter.headers if (name, value) not in record.headers}
    assert [name for name, _ in letter.headers] == [name for name, _ in record.headers]
    assert changed.pop("x-error-message")
    assert changed == {"x-error-reason": b"unsupported_wire_format"}


async def test_a_foreign_record_in_redrive_becomes_a_dead_letter_of_redrive(client: clients.Client) -> None:
    form = messages_in.new_enrollment("mistaken").submits("f", datetime.now(UTC))
    (sent,) = await client.send(messages_in.Record("redrive", form.value))
    await client.settle()
    (letter,) = await _letters(client, sent)
    assert dict(letter.headers)["x-error-reason"] == b"invalid_envelope"
