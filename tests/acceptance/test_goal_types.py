"""Events that meet or nearly meet a goal's criteria and settings, in both CloudEvents modes (contract section 3)."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.kit import clients, messages_in

Data = dict[str, Any]

STAGE = {"pipeline_id": "sales", "stage_id": "won"}
PAID = {"payment_id": "p", "amount": 100, "currency": "EUR"}
BOOKED = {"appointment_id": "a"}
ACHIEVED_AND_EXIT = [("goal.achieved", 1), ("exit.goal", None)]


@pytest.mark.parametrize(
    ("goal_type", "criteria", "kind", "hits", "misses"),
    [
        pytest.param(
            "tag_added",
            {"tag_id": "t1", "tag_name": "Customer"},
            "contact.tag.added",
            [{"tag_id": "t1"}, {"tag_id": "t1", "tag_name": "other"}, {"tag_name": " ＣＵＳＴＯＭＥＲ "}],  # noqa: RUF001
            [{"tag_id": "T1"}, {"tag_id": "t2", "tag_name": "Customer"}, {"tag_name": "Customers"}],
            id="tag_added",
        ),
        pytest.param(
            "purchase_made",
            {"product_id": "sku-1", "min_amount": "100.00", "currency": "eur"},
            "payment.completed",
            [{**PAID, "product_ids": ["sku-2", "sku-1"]}, {**PAID, "amount": "1000", "product_ids": ["sku-1"]}],
            [
                {**PAID, "product_ids": ["sku-11"]},
                PAID,
                {**PAID, "amount": 99.999999999999999, "currency": "USD", "product_ids": ["sku-1"]},
                {**PAID, "amount": "99.999999999999999999"[:20], "product_ids": ["sku-1"]},
                {**PAID, "currency": "USD", "product_ids": ["sku-1"]},
            ],
            id="purchase_made",
        ),
        pytest.param(
            "purchase_made",
            {"any_purchase": True},
            "payment.completed",
            [{**PAID, "amount": 0}],
            [],
            id="purchase_made, any",
        ),
        pytest.param(
            "appointment_booked",
            {"calendar_id": "c", "service_id": "s"},
            "appointment.booked",
            [{**BOOKED, "calendar_id": "c", "service_id": "s"}],
            [BOOKED, {**BOOKED, "calendar_id": "c"}, {**BOOKED, "calendar_id": "s", "service_id": "c"}],
            id="appointment_booked",
        ),
        pytest.param(
            "form_submitted",
            {"form_id": "f"},
            "form.submitted",
            [{"form_id": "f", "submission_id": "s"}],
            [{"form_id": "F"}, {"form_id": "f "}],
            id="form_submitted",
        ),
        pytest.param(
            "pipeline_stage_reached",
            STAGE,
            "pipeline.stage.changed",
            [{**STAGE, "previous_stage_id": "open"}],
            [{**STAGE, "pipeline_id": "support"}, {**STAGE, "stage_id": "lost", "previous_stage_id": "won"}],
            id="pipeline_stage_reached",
        ),
        pytest.param(
            "tag_added",
            {"tag_id": ["t2", "t1"]},
            "contact.tag.added",
            [{"tag_id": "t1"}, {"tag_id": "t2", "tag_name": "other"}],
            [{"tag_id": "t3"}, {"tag_name": "t1"}],
            id="tag_added, one of several",
        ),
        pytest.param(
            "purchase_made",
            {"product_id": ["sku-2", "sku-1"]},
            "payment.completed",
            [{**PAID, "product_ids": ["sku-9", "sku-2"]}, {**PAID, "product_ids": ["sku-1", "sku-2"]}],
            [PAID, {**PAID, "product_ids": ["sku-9"]}],
            id="purchase_made, one of several",
        ),
        pytest.param(
            "appointment_booked",
            {"service_id": ["s", "t"]},
            "appointment.booked",
            [{**BOOKED, "service_id": "s"}, {**BOOKED, "calendar_id": "c", "service_id": "t"}],
            [BOOKED, {**BOOKED, "calendar_id": "s"}],
            id="appointment_booked, one of several",
        ),
    ],
)
async def test_only_events_that_meet_its_criteria_achieve_a_goal(
    client: clients.Client, goal_type: str, criteria: Data, kind: str, hits: list[Data], misses: list[Data]
) -> None:
    workflow_id = f"{goal_type}-{'-'.join(criteria)}"
    goal = await client.create_goal(workflow_id, goal_type, **criteria)
    enrolled, happened = messages_in.later(goal.created_at, 1), messages_in.later(goal.created_at, 2)
    achieving = {}
    for number, data in enumerate(hits + misses):
        for form in (messages_in.event, messages_in.binary):
            enrollment = messages_in.new_enrollment(workflow_id)
            achieving[enrollment.enrollment_id] = number < len(hits)
            record = form(kind, {"contact_id": enrollment.contact_id, **data}, happened)
            await client.send(enrollment.started(enrolled), record)
    await client.settle()
    achieved = {
        m.data["enrollment_id"] for m in await client.messages("goal_achieved") if m.data["goal_id"] == str(goal.id)
    }
    assert achieved == {enrollment_id for enrollment_id, is_hit in achieving.items() if is_hit}
    exits = {m.data["enrollment_id"] for m in await client.messages("workflow_exit")}
    assert achieved == exits & achieving.keys()
    assert await client.dead_letters() == []


# --- settings ---


def _won(contact: messages_in.Enrollment, deal_id: object, at: datetime) -> messages_in.Record:
    return messages_in.event(
        "pipeline.stage.changed", {"contact_id": contact.contact_id, **STAGE, "deal_id": deal_id}, at
    )


async def test_with_correlate_by_only_the_deal_of_an_enrollment_ends_it(client: clients.Client) -> None:
    goal = await client.create_goal("deals", "pipeline_stage_reached", **STAGE, correlate_by="deal_id")
    first, at = messages_in.new_enrollment("deals"), messages_in.later(goal.created_at, 1)
    second = messages_in.Enrollment("deals", f"{first.enrollment_id}-again", first.contact_id)
    without = messages_in.Enrollment("deals", f"{first.enrollment_id}-without", first.contact_id)
    for enrollment, correlation_id in ((first, 17), (second, "18")):
        data = {**enrollment.ids, "correlation_id": correlation_id}
        await client.send(messages_in.event("workflow.enrollment.started", data, at))
    await client.process(without.started(at), _won(first, 18, messages_in.later(at, 1)))
    assert await client.messages_about(first) == await client.messages_about(without) == []
    assert clients.kinds(await client.messages_about(second)) == ACHIEVED_AND_EXIT
    await client.process(_won(first, "17", messages_in.later(at, 2)))
    assert clients.kinds(await client.messages_about(first)) == ACHIEVED_AND_EXIT


async def test_after_its_deadline_a_goal_cannot_be_achieved(client: clients.Client) -> None:
    goal = await client.create_goal("deadlines", "form_submitted", form_id="f", deadline="PT1H")
    enrolled = messages_in.later(goal.created_at, -3_600_000)  # so that an hour later the goal is in force
    in_time, late = messages_in.new_enrollment("deadlines"), messages_in.new_enrollment("deadlines")
    await client.send(in_time.started(enrolled), late.started(enrolled))
    await client.process(
        in_time.submits("f", goal.created_at), late.submits("f", messages_in.later(goal.created_at, 0.001))
    )
    assert clients.kinds(await client.messages_about(in_time)) == ACHIEVED_AND_EXIT
    assert await client.messages_about(late) == []


async def test_the_event_that_started_an_enrollment_does_not_end_it(client: clients.Client) -> None:
    goal = await client.create_goal("founded", "form_submitted", form_id="f")
    enrollment, at = messages_in.new_enrollment("founded"), messages_in.later(goal.created_at, 1)
    started_by = {"source": "/crm", "id": f"form of {enrollment.contact_id}"}
    started = {**enrollment.ids, "started_by": started_by}
    await client.process(
        messages_in.event("workflow.enrollment.started", started, at), enrollment.submits("f", at, **started_by)
    )
    assert await client.messages_about(enrollment) == []
    await client.process(enrollment.submits("f", messages_in.later(at, 1)))
    assert clients.kinds(await client.messages_about(enrollment)) == ACHIEVED_AND_EXIT


async def test_an_enrollment_of_fractions_takes_an_event_of_the_same_whole_second(client: clients.Client) -> None:
    goal = await client.create_goal("seconds", "form_submitted", form_id="f")
    whole = goal.created_at.replace(microsecond=0) + timedelta(seconds=2)
    same, before = messages_in.new_enrollment("seconds"), messages_in.new_enrollment("seconds")
    await client.send(*(each.started(messages_in.later(whole, 900)) for each in (same, before)))
    await client.process(same.submits("f", whole), before.submits("f", messages_in.later(whole, -1000)))
    assert clients.kinds(await client.messages_about(same)) == ACHIEVED_AND_EXIT
    assert await client.messages_about(before) == []


async def test_with_reversals_keep_a_refunded_purchase_stays_achieved(client: clients.Client) -> None:
    goal = await client.create_goal("kept", "purchase_made", any_purchase=True, reversals="keep")
    enrollment, at = messages_in.new_enrollment("kept"), messages_in.later(goal.created_at, 1)
    paid = {"contact_id": enrollment.contact_id, **PAID}
    refunded = {"contact_id": enrollment.contact_id, "payment_id": PAID["payment_id"]}
    await client.process(enrollment.started(at), messages_in.event("payment.completed", paid, messages_in.later(at, 1)))
    await client.process(messages_in.event("payment.refunded", refunded, messages_in.later(at, 2)))
    assert clients.kinds(await client.messages_about(enrollment)) == ACHIEVED_AND_EXIT


# --- tenants ---


async def test_nothing_crosses_tenants(client: clients.Client) -> None:
    goal = await client.create_goal("private", "form_submitted", form_id="f")
    enrollment, at = messages_in.new_enrollment("private"), messages_in.later(goal.created_at, 1)
    await client.process(enrollment.started(at), enrollment.submits("f", at, tenantid="other"))
    assert await client.messages_about(enrollment) == []
    await client.process(enrollment.submits("f", at))
    assert clients.kinds(await client.messages_about(enrollment)) == ACHIEVED_AND_EXIT
