"""Documents of `goalworker schema export` describe the records that a real worker reads and writes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiokafka
import jsonschema_rs
import pytest

from goalworker.domain import facts
from goalworker.stores import enrollments
from tests.kit import clients, messages_in, support, worker_process

TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


@dataclass(frozen=True, slots=True)
class Exported:
    """Exported files, and the AsyncAPI document among them."""

    folder: Path
    asyncapi: Mapping[str, Any]

    def hold(self, record: aiokafka.ConsumerRecord) -> tuple[str, str]:
        """Validate a record, and return its channel and message name."""
        (channel,) = [name for name, each in self.asyncapi["channels"].items() if each["address"] == record.topic]
        headers = {name: value.decode() for name, value in record.headers}
        kind = _kind(channel, record.value, headers)
        assert kind in self.asyncapi["channels"][channel]["messages"]
        message = self.asyncapi["components"]["messages"][kind]
        jsonschema_rs.validate(message["headers"], headers)
        key = None if record.key is None else record.key.decode()
        jsonschema_rs.validate(message["bindings"]["kafka"]["key"], key)
        if kind != "dead_letter":
            schema = json.loads((self.folder / message["payload"]["$ref"]).read_bytes())
            if "ce_type" in headers:
                schema = {"$defs": schema["$defs"], "$ref": "#/$defs/data"}
            jsonschema_rs.validate(schema, messages_in.body(record.value), validate_formats=True)
        return channel, kind


def _kind(channel: str, value: bytes, headers: Mapping[str, str]) -> str:
    if channel in ("dead_letters", "redrive"):
        return "dead_letter"
    kind: str = headers.get("ce_type") or messages_in.body(value)["type"]
    return kind


@pytest.fixture(scope="module")
def exported(shared: worker_process.Installation) -> Exported:
    """Export the documents with this installation's topic names."""
    done = shared.call("schema", "export", "exported")
    folder = shared.folder / "exported"
    assert (done.code, done.err) == (0, "")
    assert {shared.folder / line for line in done.out.splitlines()} == set(folder.rglob("*.json"))
    return Exported(folder, json.loads((folder / "asyncapi.json").read_bytes()))


async def _all_records(installation: worker_process.Installation) -> list[aiokafka.ConsumerRecord]:
    """Read every record of every topic."""
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=installation.bootstrap_servers, isolation_level="read_committed", fetch_max_wait_ms=10
    )
    async with consumer:
        partitions = [
            clients.partition(name, n) for name in installation.topics.values() for n in range(support.PARTITIONS)
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        records: list[aiokafka.ConsumerRecord] = []
        for partition, end in (await consumer.end_offsets(partitions)).items():
            while await consumer.position(partition) < end:
                for found in (await consumer.getmany(timeout_ms=1_000)).values():
                    records.extend(found)
    return records


async def test_every_record_matches_the_exported_documents(client: clients.Client, exported: Exported) -> None:
    goal = await client.create_goal("shop/1", "purchase_made", min_amount=100, currency="EUR")
    await client.delete_goal(
        await client.update_goal(
            await client.create_goal("other", "appointment_booked", any_appointment=True), name="x"
        )
    )
    at = messages_in.later(goal.created_at, 1)
    enrollment, taken_in = (
        messages_in.Enrollment("shop/1", "run:1", "Zoë"),
        messages_in.Enrollment("shop/1", "run-2", "c-2"),
    )
    paid = {
        "contact_id": enrollment.contact_id,
        "payment_id": "p",
        "amount": 129.90,
        "currency": "eur",
        "product_ids": ["a"],
    }
    await client.process(
        messages_in.activated("shop/1", messages_in.later(at, -1)),
        enrollment.started(at),
        messages_in.event("payment.completed", paid, at).with_headers(TRACE),
        messages_in.binary("contact.tag.added", {"contact_id": "c", "tag_name": "vip"}, at),
        messages_in.event("appointment.booked", {"contact_id": "c", "appointment_id": "a", "starts_at": None}, at),
        messages_in.event("form.submitted", {"contact_id": "c", "form_id": "f"}, at),
        messages_in.event("pipeline.stage.changed", {"contact_id": "c", "pipeline_id": "p", "stage_id": "s"}, at),
        messages_in.event("payment.refunded", {"contact_id": "c", "payment_id": "q", "refund_id": "r"}, at),
        messages_in.event("payment.failed", {"contact_id": "c", "payment_id": "q"}, at),
        messages_in.event("appointment.cancelled", {"contact_id": "c", "appointment_id": "b"}, at),
        messages_in.event("form.rejected", {"contact_id": "c", "submission_id": "s"}, at),
    )
    await client.process(enrollment.ended(at), messages_in.deactivated("other", at))
    (nonsense,) = await client.send(messages_in.Record("tag_added", b"{", b"key"))
    await enrollments.add(
        client.pool,
        messages_in.TENANT,
        taken_in.workflow_id,
        [
            facts.Enrollment(
                messages_in.TENANT, taken_in.enrollment_id, taken_in.workflow_id, taken_in.contact_id, at, at
            )
        ],
    )
    await client.wait_until_published()
    await client.settle()
    assert client.installation.call("dlq", "redrive").code == 0
    await client.settle()

    records = [
        each
        for each in await _all_records(client.installation)
        if (each.topic, each.partition, each.offset) != (nonsense.topic, nonsense.partition, nonsense.offset)
    ]
    channels = exported.asyncapi["channels"]
    everything = {(name, kind) for name, each in channels.items() for kind in each["messages"]}
    assert {exported.hold(record) for record in records} == everything
    lifecycle = [record for record in records if record.topic == client.installation.topics["workflow_lifecycle"]]
    assert sum(messages_in.body(record.value)["source"] == "/goalworker/api" for record in lifecycle) == 2
