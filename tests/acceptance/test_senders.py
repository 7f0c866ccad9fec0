"""Records without an envelope, or with another one, achieve goals, and their trace is passed on."""

import json
from datetime import UTC, datetime

import pytest

from tests.kit import clients, messages_in, worker_process

pytestmark = pytest.mark.unmeasured

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.real_world("kcat, hand-made producers", "JSON without an envelope, the tenant in the key")
async def test_plain_json_with_the_tenant_in_the_key_achieves_and_exits(
    installation: worker_process.Installation,
) -> None:
    settings = {"EVENTS__PLAIN_JSON": "true", "EVENTS__TENANT_FROM": "key-prefix", "EVENTS__PLAIN_ID": "Event-Id"}
    async with installation.worker(**settings), clients.connect(installation) as client:
        goal = await client.create_goal("w", "form_submitted", form_id="f")
        enrollment, at = messages_in.new_enrollment("w"), messages_in.later(goal.created_at, 1)
        value = json.dumps(
            {"contact_id": enrollment.contact_id, "form_id": "f", "time": messages_in.rfc3339(at)}
        ).encode()
        key = f"{messages_in.TENANT}:{enrollment.contact_id}".encode()
        headers = (("event-id", b"e-1"), ("traceparent", TRACE.encode()))
        await client.process(enrollment.started(at), messages_in.Record("form_submitted", value, key, headers))
        achieved, exit_ = await client.messages_about(enrollment)
        trigger = achieved.data["trigger_event"]
        assert (trigger["source"], trigger["id"]) == (f"kafka:{installation.topics['form_submitted']}", "e-1")
        assert trigger["data"] == {"contact_id": enrollment.contact_id, "form_id": "f"}
        assert exit_.body["type"] == "workflow.exit.goal"
        assert ("traceparent", TRACE.encode()) in achieved.headers
        assert ("traceparent", TRACE.encode()) in exit_.headers


@pytest.mark.real_world("CloudEvents SDKs", "traceparent as an extension, in the attributes or in a ce_ header")
@pytest.mark.parametrize("form", ["structured", "binary"])
async def test_a_trace_in_the_attributes_comes_out_with_achieved_and_exit(client: clients.Client, form: str) -> None:
    goal = await client.create_goal(f"w-{form}", "form_submitted", form_id=form)
    enrollment, at = messages_in.new_enrollment(f"w-{form}"), datetime.now(UTC)
    make = messages_in.event if form == "structured" else messages_in.binary
    data = {"contact_id": enrollment.contact_id, "form_id": form}
    event = make("form.submitted", data, at, traceparent=TRACE, tracestate="vendor=1")
    await client.process(enrollment.started(messages_in.later(goal.created_at, 0)), event)
    messages = await client.messages_about(enrollment)
    assert clients.kinds(messages) == [("goal.achieved", 1), ("exit.goal", None)]
    expected = {("traceparent", TRACE.encode()), ("tracestate", b"vendor=1")}
    assert all(expected <= set(message.headers) for message in messages)
