"""Cases that users of other software complain about, where goals, pauses and payments meet (contract section 3)."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.kit import clients, messages_in, running_api
from tests.kit.messages_in import Enrollment, Record, event, later, new_enrollment, rfc3339

ACHIEVED, EXIT = ("goal.achieved", 1), ("exit.goal", None)


@contextlib.asynccontextmanager
async def _asking(client: clients.Client) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the API of the installation, and yield an HTTP client of its tenant."""
    async with (
        running_api.running(client.installation.database_url) as api,
        api.holder(tenant_id=messages_in.TENANT) as asker,
    ):
        yield asker


async def _answer(client: clients.Client, path: str) -> dict[str, Any]:
    async with _asking(client) as asker:
        answer: dict[str, Any] = (await asker.get(f"/api/v1/{path}")).json()
        return answer


def _paid(contact: Enrollment, at: datetime, payment_id: str, amount: object = "49.90", **more: object) -> Record:
    data = {"contact_id": contact.contact_id, "payment_id": payment_id, "amount": amount, "currency": "EUR"}
    return event("payment.completed", {**data, **more}, at)


def _moved(contact: Enrollment, at: datetime, before: int, stage: int) -> Record:
    data = {"contact_id": contact.contact_id, "pipeline_id": "sales", "deal_id": "d-1"}
    return event("pipeline.stage.changed", {**data, "previous_stage_id": before, "stage_id": stage}, at)


async def _kinds(client: clients.Client, enrollment: Enrollment) -> list[tuple[str, int | None]]:
    return clients.kinds(await client.messages_about(enrollment))


# --- goals and stages ---


@pytest.mark.real_world("mautic#6054", "a goal is edited while contacts are on their way to it")
async def test_an_edited_goal_judges_what_happens_from_the_edit_on(client: clients.Client) -> None:
    """mautic#6054: after an edit in mid-flight, nobody is judged anew for what they did before, by either version."""
    goal = await client.create_goal("edited", "purchase_made", min_amount=100, currency="EUR")
    edited = await client.update_goal(goal, criteria={"min_amount": 50, "currency": "EUR"})
    raised = await client.update_goal(edited, criteria={"min_amount": 200, "currency": "EUR"})
    first, second, third = goal.created_at, edited.updated_at, raised.updated_at
    paid = [(first, "150", 1), (first, "60", None), (second, "60", 2), (third, "60", None), (third, "200", 3)]
    contacts = [new_enrollment("edited") for _ in paid]
    await client.send(*(contact.started(first) for contact in contacts))
    await client.process(
        *(_paid(contact, at, "p-1", amount) for contact, (at, amount, _) in zip(contacts, paid, strict=True))
    )
    for contact, (_, amount, version) in zip(contacts, paid, strict=True):
        messages = await client.messages_about(contact)
        assert clients.kinds(messages) == ([ACHIEVED, EXIT] if version else []), amount
        assert [message.data["goal_version"] for message in messages[:1]] == [version] * bool(version)


@pytest.mark.real_world("breathecode#7864", "a deal jumps over the stage that the automation waits for")
async def test_a_goal_with_a_list_of_stages_catches_a_deal_that_skips_one(client: clients.Client) -> None:
    """breathecode#7864: a deal that goes from 1 to 4 was never in 3, so the goal lists every stage that is as good."""
    one = await client.create_goal("one stage", "pipeline_stage_reached", pipeline_id="sales", stage_id="3")
    some = await client.create_goal(
        "some stages", "pipeline_stage_reached", pipeline_id="sales", stage_id=["5", "3", "4"]
    )
    assert some.criteria["stage_id"] == ["3", "4", "5"]
    waiting = new_enrollment("one stage")
    caught, at = Enrollment("some stages", "run-of-deal-1", waiting.contact_id), later(some.created_at, 1)
    assert one.created_at < some.created_at
    await client.process(waiting.started(at), caught.started(at), _moved(waiting, later(at, 1), 1, 4))
    assert await client.messages_about(waiting) == []
    assert await _kinds(client, caught) == [ACHIEVED, EXIT]


# --- pauses ---


async def _paused(client: clients.Client, workflow_id: str) -> tuple[Enrollment, datetime]:
    """Return a contact who was enrolled in an active workflow, and bought a second after it was deactivated."""
    goal = await client.create_goal(workflow_id, "purchase_made", any_purchase=True)
    contact, at = new_enrollment(workflow_id), later(goal.created_at, 1)
    await client.process(contact.started(at), messages_in.deactivated(workflow_id, later(at, 1)))
    await client.process(_paid(contact, later(at, 2), "p-1"))
    return contact, at


@pytest.mark.real_world("caesar#141", "what happens while a workflow is paused is lost to it")
async def test_a_purchase_in_a_pause_counts_and_its_exit_waits_for_the_activation(client: clients.Client) -> None:
    """caesar#141: what happened in a pause counts as of when it happened; only the exit waits."""
    contact, at = await _paused(client, "paused")
    (achieved,) = await client.messages_about(contact)
    assert achieved.data["achieved_at"] == rfc3339(later(at, 2))
    answer = await _answer(client, f"enrollments/{contact.enrollment_id}")
    assert (answer["status"], answer["exit"], len(answer["achievements"])) == ("completed_goal", None, 1)
    await client.process(messages_in.activated("paused", later(at, 3)))
    _, sent = await client.messages_about(contact)
    assert sent.data["achieved_at"] == rfc3339(later(at, 2))
    answer = await _answer(client, f"enrollments/{contact.enrollment_id}")
    assert (answer["status"], answer["exit"]) == ("completed_goal", sent.data)


async def test_a_purchase_that_was_refunded_in_the_pause_stops_nobody_afterwards(client: clients.Client) -> None:
    contact, at = await _paused(client, "refunded in the pause")
    refund = {"contact_id": contact.contact_id, "payment_id": "p-1"}
    await client.process(event("payment.refunded", refund, later(at, 3)))
    await client.process(messages_in.activated("refunded in the pause", later(at, 4)))
    assert await _kinds(client, contact) == [ACHIEVED, ("goal.revoked", 2)]
    await client.process(_paid(contact, later(at, 5), "p-2"))
    assert await _kinds(client, contact) == [ACHIEVED, ("goal.revoked", 2), ("goal.achieved", 3), EXIT]


@pytest.mark.real_world("PostHog#95168", "a workflow that was paused is resumed, and nobody says for whom it stopped")
async def test_after_a_pause_each_run_that_is_not_over_is_told_to_stop_once(client: clients.Client) -> None:
    """PostHog#95168: resuming mails no customer of the pause: each gets one exit, those who left meanwhile none."""
    stays, at = await _paused(client, "resumed")
    leaves, waits = new_enrollment("resumed"), new_enrollment("resumed")
    await client.process(leaves.started(at), waits.started(at), _paid(leaves, later(at, 2), "p-2"))
    await client.process(leaves.ended(later(at, 3)))
    activated = messages_in.activated("resumed", later(at, 4))
    await client.process(activated, activated, messages_in.activated("resumed", later(at, 5)))
    assert await _kinds(client, stays) == [ACHIEVED, EXIT]
    assert await _kinds(client, leaves) == [ACHIEVED]
    assert await _kinds(client, waits) == []


# --- payments ---


@pytest.mark.real_world("be-BOP#770", "an order counts as paid once its deposit is")
async def test_an_order_in_instalments_is_paid_once_they_add_up(client: clients.Client) -> None:
    """be-BOP#770: a deposit pays for a part; the instalment that completes the sum achieves the goal."""
    goal = await client.create_goal(
        "instalments", "purchase_made", product_id="course", total_amount="300", currency="EUR", deadline="P90D"
    )
    contact, at = new_enrollment("instalments"), later(goal.created_at, 1)
    instalments = [
        _paid(contact, later(at, number), f"p-{number}", amount, product_ids=["course"])
        for number, amount in enumerate((99.90, "100.05", "100.05"), start=1)
    ]
    await client.process(contact.started(at), *instalments[:2], instalments[0])  # the deposit is reported twice
    assert await client.messages_about(contact) == []
    await client.process(instalments[2])
    achieved, _ = await client.messages_about(contact)
    assert achieved.data["achieved_at"] == rfc3339(later(at, 3))
    counted = {name: achieved.data[name] for name in ("occurrences", "total_amount", "evidence_complete")}
    assert counted == {"occurrences": 3, "total_amount": "300.00", "evidence_complete": True}


async def _refused(asker: httpx.AsyncClient, criteria: Mapping[str, object], pointer: str) -> str:
    """Return what the API says about criteria of a purchase, of which it refuses this field."""
    goal = {"goal_type": "purchase_made", "criteria": criteria}
    found = running_api.problem(await asker.post("/api/v1/workflows/money/goals", json=goal), 400, "invalid-request")
    (error,) = found["errors"]
    assert error["pointer"] == f"/criteria/{pointer}"
    detail: str = error["detail"]
    return detail


@pytest.mark.real_world("open-saas#456", "amounts in cents become a revenue a hundred times as large")
async def test_amounts_are_in_major_units_and_both_ways_in_say_so(client: clients.Client) -> None:
    """open-saas#456: no one guesses the unit; a text that tries to say one is refused with an example."""
    async with _asking(client) as asker:
        said = await _refused(asker, {"min_amount": "4990 cents", "currency": "EUR"}, "min_amount")
    assert "in major units such as 49.90" in said
    goal = await client.create_goal("money", "purchase_made", min_amount="49.90", currency="EUR")
    contact, at = new_enrollment("money"), later(goal.created_at, 1)
    cents = _paid(contact, later(at, 1), "p-1", "4990 cents")
    await client.process(contact.started(at), cents, _paid(contact, later(at, 2), "p-2", "49.90"))
    (letter,) = [letter for letter in await client.dead_letters() if letter.value == cents.value]
    message = dict(letter.headers)["x-error-message"].decode()
    assert message.startswith("/data/amount: ")
    assert "in major units such as 49.90" in message
    assert await _kinds(client, contact) == [ACHIEVED, EXIT]
    stats = await _answer(client, "workflows/money/goals/stats")
    assert stats["revenue"] == {"EUR": {"gross": "49.90", "reversed": "0.00", "net": "49.90"}}


@pytest.mark.real_world("PostHog#73047", "a goal adds up amounts of every currency as if they were one")
async def test_a_sum_needs_a_currency_and_counts_no_other(client: clients.Client) -> None:
    """PostHog#73047: amounts of other currencies are neither converted nor added; a goal must say which it means."""
    criteria = {"total_amount": 100, "within": "P30D"}
    async with _asking(client) as asker:
        assert 'such as "EUR"' in await _refused(asker, criteria, "currency")
        created = await asker.post(
            "/api/v1/workflows/currencies/goals",
            json={"goal_type": "purchase_made", "criteria": {**criteria, "currency": "eur"}},
        )
        assert (created.status_code, created.json()["warnings"]) == (201, [])
    at = later(datetime.fromisoformat(created.json()["created_at"]), 1)
    contact = new_enrollment("currencies")
    await client.process(contact.started(at), _paid(contact, later(at, 1), "p-1", "60"))
    await client.process(_paid(contact, later(at, 2), "p-2", "1000", currency="JPY"))
    assert await client.messages_about(contact) == []
    await client.process(_paid(contact, later(at, 3), "p-3", "40"))
    achieved, _ = await client.messages_about(contact)
    assert (achieved.data["occurrences"], achieved.data["total_amount"]) == (2, "100")


@pytest.mark.real_world("roomGPT#61", "a provider reports one payment by several events, and each counts")
async def test_one_payment_under_several_event_ids_counts_once(client: clients.Client) -> None:
    """roomGPT#61: a payment is counted by its own id, whatever the ids of the events that report it."""
    goal = await client.create_goal("twice", "purchase_made", any_purchase=True, times=2, within="P30D")
    contact, at = new_enrollment("twice"), later(goal.created_at, 1)
    await client.process(contact.started(at), *(_paid(contact, later(at, number), "p-1") for number in (1, 2, 3)))
    assert await client.messages_about(contact) == []
    await client.process(_paid(contact, later(at, 4), "p-2"))
    achieved, _ = await client.messages_about(contact)
    assert (achieved.data["achieved_at"], achieved.data["occurrences"]) == (rfc3339(later(at, 4)), 2)


@pytest.mark.real_world("facebook-for-woocommerce#4047", "the browser and the server report one order, each in its way")
async def test_an_order_that_browser_and_server_report_is_one_purchase(client: clients.Client) -> None:
    """facebook-for-woocommerce#4047: an order from two sources is one achievement, one exit, and its money once."""
    goal = await client.create_goal("reported", "purchase_made", any_purchase=True)
    contact, at = new_enrollment("reported"), later(goal.created_at, 1)
    order = {"contact_id": contact.contact_id, "payment_id": "order-1", "amount": "49.90", "currency": "EUR"}
    server = event("payment.completed", order, later(at, 1), source="/server")
    browser = event("payment.completed", order, later(at, 2), source="/browser")
    await client.process(contact.started(at), browser)
    await client.process(server)  # later to arrive and earlier by its time, so that it becomes the trigger
    messages = await client.messages_about(contact)
    assert clients.kinds(messages) == [ACHIEVED, ("goal.achieved", 2), EXIT]
    assert messages[1].data["trigger_event"]["source"] == "/server"
    stats = await _answer(client, "workflows/reported/goals/stats")
    assert (stats["goals_achieved"], stats["exits_sent"]) == (1, 1)
    assert stats["revenue"] == {"EUR": {"gross": "49.90", "reversed": "0.00", "net": "49.90"}}
