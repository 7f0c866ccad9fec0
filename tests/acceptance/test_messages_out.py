"""Outgoing messages, field by field (contract section 4)."""

import uuid

import pytest

from tests.kit import clients, messages_in

NAMESPACE = uuid.UUID("94bece46-2ea0-598c-bf30-462d26b8d233")
TRACE = (("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", b"vendor=1"))
CONTENT_TYPE = ("content-type", b"application/cloudevents+json")


def uuid5(*parts: str) -> str:
    return str(uuid.uuid5(NAMESPACE, "|".join(parts)))


@pytest.mark.smoke
async def test_achieved_and_exit_have_every_field_and_the_trace_of_their_event(client: clients.Client) -> None:
    workflow_id = "orders/2026"
    goal = await client.create_goal(workflow_id, "purchase_made", min_amount=100)
    enrolled, paid = messages_in.later(goal.created_at, 1), messages_in.later(goal.created_at, 2.5)
    enrollment = messages_in.Enrollment(workflow_id, "run|1", "Zoë:1")
    data = {
        "contact_id": enrollment.contact_id,
        "payment_id": "p-1",
        "amount": 129.90,
        "currency": "eur",
        "colour": "red",
    }
    payment = messages_in.event("payment.completed", data, paid, id="e-1", source="/shop")
    await client.process(enrollment.started(enrolled), payment.with_headers(*TRACE, ("unrelated", b"\xff")))

    achieved, ended = await client.messages_about(enrollment)
    achievement_id = uuid5("achievement", "acme", "run%7C1", str(goal.id))
    moment = messages_in.rfc3339(paid)
    assert achieved.body == {
        "specversion": "1.0",
        "id": uuid5("achieved", "acme", "run%7C1", str(goal.id), "1"),
        "source": "/goalworker",
        "type": "workflow.goal.achieved",
        "subject": "run|1",
        "time": moment,
        "tenantid": "acme",
        "datacontenttype": "application/json",
        "data": {
            "achievement_id": achievement_id,
            "revision": 1,
            **enrollment.ids,
            "goal_id": str(goal.id),
            "goal_version": 1,
            "goal_type": "purchase_made",
            "enrolled_at": messages_in.rfc3339(enrolled),
            "achieved_at": moment,
            "trigger_event": {
                "id": "e-1",
                "source": "/shop",
                "type": "payment.completed",
                "time": moment,
                "data": {
                    "contact_id": enrollment.contact_id,
                    "payment_id": "p-1",
                    "amount": "129.9",
                    "currency": "eur",
                },
            },
        },
    }
    exit_id = uuid5("exit", "acme", "run%7C1")
    assert ended.body == {
        "specversion": "1.0",
        "id": exit_id,
        "source": "/goalworker",
        "type": "workflow.exit.goal",
        "subject": "run|1",
        "time": moment,
        "tenantid": "acme",
        "datacontenttype": "application/json",
        "data": {
            "exit_id": exit_id,
            **enrollment.ids,
            "exit_reason": "goal_achieved",
            "logic": "any",
            "goal_id": str(goal.id),
            "goal_type": "purchase_made",
            "achievement_ids": [achievement_id],
            "achieved_at": moment,
        },
    }
    for message in (achieved, ended):
        assert message.key == b"acme:Zo%C3%AB%3A1"
        assert message.headers == (CONTENT_TYPE, *TRACE)


async def test_revoked_names_its_achievement_and_the_reason(client: clients.Client) -> None:
    goal = await client.create_goal("revoking", "form_submitted", form_id="f")
    enrollment, at = messages_in.new_enrollment("revoking"), messages_in.later(goal.created_at, 1)
    await client.process(enrollment.started(at), enrollment.submits("f", at).with_headers(*TRACE))
    await client.process(enrollment.ended(at))
    _, revoked, _ = await client.messages_about(enrollment)
    body = revoked.body
    assert body.pop("time") > messages_in.rfc3339(at)  # the time of writing
    assert body == {
        "specversion": "1.0",
        "id": uuid5("revoked", "acme", enrollment.enrollment_id, str(goal.id), "2"),
        "source": "/goalworker",
        "type": "workflow.goal.revoked",
        "subject": enrollment.enrollment_id,
        "tenantid": "acme",
        "datacontenttype": "application/json",
        "data": {
            "achievement_id": uuid5("achievement", "acme", enrollment.enrollment_id, str(goal.id)),
            "revision": 2,
            **enrollment.ids,
            "goal_id": str(goal.id),
            "goal_type": "form_submitted",
            "reason": "after_end",
        },
    }
    assert revoked.key == f"acme:{enrollment.contact_id}".encode()
    assert revoked.headers == (CONTENT_TYPE,)


async def test_configured_goals_are_published_by_any_worker(client: clients.Client) -> None:
    goal = await client.create_goal("configuring", "purchase_made", min_amount=100, currency="eur")
    key = f"acme:{goal.id}".encode()

    async def is_told() -> bool:
        return any(message.key == key for message in await client.messages("goal_configured"))

    await clients.until(is_told)
    (configured,) = [message for message in await client.messages("goal_configured") if message.key == key]
    assert configured.body == {
        "specversion": "1.0",
        "id": uuid5("configured", "acme", str(goal.id), "1"),
        "source": "/goalworker",
        "type": "workflow.goal.configured",
        "subject": str(goal.id),
        "time": messages_in.rfc3339(goal.created_at),
        "tenantid": "acme",
        "datacontenttype": "application/json",
        "data": {
            "action": "created",
            "goal_id": str(goal.id),
            "version": 1,
            "workflow_id": "configuring",
            "goal_type": "purchase_made",
            "criteria": {"min_amount": "100", "currency": "EUR"},
            "is_active": True,
        },
    }
    assert configured.headers == (CONTENT_TYPE,)


async def test_invalid_trace_headers_are_not_passed_on(client: clients.Client) -> None:
    goal = await client.create_goal("tracing", "form_submitted", form_id="f")
    enrollment, at = messages_in.new_enrollment("tracing"), messages_in.later(goal.created_at, 1)
    await client.process(
        enrollment.started(at), enrollment.submits("f", at).with_headers(("traceparent", b"\xff"), ("tracestate", None))
    )
    assert [message.headers for message in await client.messages_about(enrollment)] == [(CONTENT_TYPE,)] * 2
