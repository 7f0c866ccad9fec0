"""Events as real shops, forms and CRMs send them count for what they say, and what concerns no goal is skipped."""

from datetime import datetime
from typing import Any

import pytest

from tests.kit import clients, messages_in, worker_process
from tests.kit.messages_in import Enrollment, event, later, new_enrollment

pytestmark = pytest.mark.unmeasured


async def _achieved(client: clients.Client, enrollment: Enrollment) -> list[dict[str, Any]]:
    """Return the data of the events that achieved goals of an enrollment."""
    found = await client.messages_about(enrollment)
    return [message.data["trigger_event"]["data"] for message in found if message.topic == "goal_achieved"]


# --- what senders write into fields ---


@pytest.mark.real_world("gatsby-source-shopify#59", "ids as numbers, and null for a product that was deleted")
async def test_an_order_with_numeric_ids_and_a_deleted_product_is_a_purchase(client: clients.Client) -> None:
    goal = await client.create_goal("orders", "purchase_made", product_id="6801234567890")
    buyer, at = Enrollment("orders", "run-1", "207119551"), later(goal.created_at, 1)
    order = {"contact_id": 207119551, "payment_id": 450789469, "amount": 49.90, "currency": "EUR"}
    paid = event("payment.completed", {**order, "product_ids": [None, 6801234567890, None]}, at)
    await client.process(buyer.started(at), paid)
    assert await _achieved(client, buyer) == [
        {
            "contact_id": "207119551",
            "payment_id": "450789469",
            "amount": "49.9",
            "currency": "EUR",
            "product_ids": ["6801234567890"],
        }
    ]
    assert await client.dead_letters() == []


@pytest.mark.real_world("FormSG#6132", "a start that is a timestamp, an object or a list of slots, not a text")
async def test_a_booking_counts_whatever_its_start_looks_like(client: clients.Client) -> None:
    goal = await client.create_goal("bookings", "appointment_booked", calendar_id="42")
    at, booked = later(goal.created_at, 1), {"appointment_id": "a-1", "calendar_id": 42}
    odd = [1780304400000, {"date": "2026-06-01", "slot": None}, [["09:00", "10:00"]], True, "x" * 300, "a\x00b", ""]
    for starts_at in [*odd, "next Tuesday"]:
        contact = new_enrollment("bookings")
        data = {"contact_id": contact.contact_id, **booked, "starts_at": starts_at}
        await client.process(contact.started(at), event("appointment.booked", data, at))
        kept = {"starts_at": starts_at} if starts_at == "next Tuesday" else {}
        expected = {"contact_id": contact.contact_id, **booked, "calendar_id": "42", **kept}
        assert await _achieved(client, contact) == [expected]
    assert await client.dead_letters() == []


@pytest.mark.real_world("activepieces#9752", "a stage event for every edit of a deal that stays where it is")
async def test_an_edit_within_a_stage_reaches_no_stage(client: clients.Client, worker: worker_process.Worker) -> None:
    goal = await client.create_goal("deals", "pipeline_stage_reached", pipeline_id="sales", stage_id="3")
    contact, at = new_enrollment("deals"), later(goal.created_at, 1)

    def changed(stage: object, before: object, when: datetime) -> messages_in.Record:
        data = {"contact_id": contact.contact_id, "pipeline_id": "sales", "deal_id": "d-1"}
        return event("pipeline.stage.changed", {**data, "stage_id": stage, "previous_stage_id": before}, when)

    await client.process(contact.started(at), changed(3, 3, later(at, 1)), changed(3, "3", later(at, 2)))
    assert await client.messages_about(contact) == []
    await client.process(changed(3, 2, later(at, 3)))
    (achieved, _) = await client.messages_about(contact)
    assert achieved.data["achieved_at"] == messages_in.rfc3339(later(at, 3))

    async def is_counted() -> bool:  # after the commit
        return worker.metric("events_total", topic=client.installation.topics["stage_changed"]) == 3

    await clients.until(is_counted)
    assert worker.metric("events_total", outcome="no_move") == 2


async def test_what_an_event_and_an_enrollment_refer_to_is_taken_and_passed_on(client: clients.Client) -> None:
    goal = await client.create_goal("references", "appointment_booked", any_appointment=True)
    contact, at = new_enrollment("references"), later(goal.created_at, 1)
    started_by = {"source": "/crm", "id": "lead-1"}
    started = event("workflow.enrollment.started", {**contact.ids, "correlation_id": 17, "started_by": started_by}, at)
    data = {"contact_id": contact.contact_id, "appointment_id": "a-2"}
    more = {"replaces_appointment_id": "a-1", "correlation_id": "17", "test": False}
    await client.process(started, event("appointment.booked", {**data, **more}, at))
    expected = {**data, "replaces_appointment_id": "a-1", "correlation_id": "17"}
    assert [list(found.items()) for found in await _achieved(client, contact)] == [list(expected.items())]


# --- what is skipped ---


def _form(contact: Enrollment, at: datetime, **more: object) -> messages_in.Record:
    data = {"contact_id": contact.contact_id, "form_id": "f", **more}
    return messages_in.in_partition(0, event("form.submitted", data, at))


def _foreign(at: datetime, name: str) -> messages_in.Record:
    """Return an event that shares the topic of forms, with data that means nothing to us."""
    shared = event("form.submitted", {"fields": [None, 17]}, at, type=name)
    return messages_in.in_partition(0, shared)


@pytest.mark.real_world("pipeshub-ai#2992", "a sender whose messages are of no use to us stops all others")
async def test_a_topic_shared_with_other_types_of_events_goes_on(installation: worker_process.Installation) -> None:
    async with (
        installation.worker(DEAD_LETTERS__WINDOW=20, DEAD_LETTERS__MAX_RATIO=0.5) as worker,
        clients.connect(installation) as client,
    ):
        goal = await client.create_goal("shared", "form_submitted", form_id="f")
        contact, at = new_enrollment("shared"), later(goal.created_at, 1)
        foreign = [_foreign(at, "form.viewed"), _foreign(at, "form.abandoned")] * 50
        await client.process(contact.started(at), *foreign, _form(contact, at), *foreign)
        assert clients.kinds(await client.messages_about(contact)) == [("goal.achieved", 1), ("exit.goal", None)]
        assert await client.dead_letters() == []
        topic = installation.topics["form_submitted"]

        async def is_counted() -> bool:  # after the commit
            return worker.metric("events_total", topic=topic, outcome="foreign_type") == 200

        await clients.until(is_counted)
        assert worker.metric("events_total", topic=topic) == 201
        assert worker.metric("topic_paused") == 0
        lines = {(line["topic"], line["type"], line["partition"]) for line in worker.lines("foreign_type")}
        assert lines == {(topic, "form.viewed", 0), (topic, "form.abandoned", 0)}
        assert len(worker.lines("foreign_type")) == 2


async def test_a_test_event_achieves_nothing_and_a_redriven_one_neither(
    client: clients.Client, worker: worker_process.Worker
) -> None:
    goal = await client.create_goal("tests", "form_submitted", form_id="f")
    contact, at = new_enrollment("tests"), later(goal.created_at, 1)
    redriven = messages_in.Record("redrive", _form(contact, at, test=True).value).with_headers(
        ("x-original-topic", client.installation.topics["form_submitted"].encode())
    )
    before = worker.metric("events_total", outcome="test")
    await client.process(contact.started(at), _form(contact, at, test=True), redriven)
    assert await client.messages_about(contact) == []

    async def is_counted() -> bool:  # after the commit
        return worker.metric("events_total", outcome="test") - before == 2

    await clients.until(is_counted)
    assert worker.metric("events_total", topic=client.installation.topics["redrive"], outcome="test") == 1
    await client.process(_form(contact, at, test="true"))
    assert await _achieved(client, contact) == [{"contact_id": contact.contact_id, "form_id": "f"}]


async def test_settings_make_test_events_count_and_foreign_types_dead_letters(
    installation: worker_process.Installation,
) -> None:
    settings = {"EVENTS__TEST_EVENTS": "count", "EVENTS__FOREIGN_TYPES": "dead_letter"}
    async with installation.worker(**settings), clients.connect(installation) as client:
        goal = await client.create_goal("counted", "form_submitted", form_id="f")
        contact, at = new_enrollment("counted"), later(goal.created_at, 1)
        foreign = _foreign(at, "form.viewed")
        await client.process(contact.started(at), foreign, _form(contact, at, test=True))
        assert await _achieved(client, contact) == [{"contact_id": contact.contact_id, "form_id": "f", "test": True}]
        (letter,) = await client.dead_letters()
        assert (letter.value, dict(letter.headers)["x-error-reason"]) == (foreign.value, b"unexpected_type")
