"""A topic full of malformed records is paused until an operator resumes it, and loses nothing (contract section 4)."""

from datetime import UTC, datetime

import pytest

from tests.kit import clients, messages_in, worker_process

WINDOW = 20
SETTINGS = {"DEAD_LETTERS__WINDOW": WINDOW, "DEAD_LETTERS__MAX_RATIO": 0.5}
# One tenant sends all of it, as in an installation with one tenant.
GARBAGE = messages_in.in_partition(0, messages_in.event("form.submitted", {}, datetime.now(UTC)))


async def _good(client: clients.Client, at: datetime, topic_runs: int) -> list[messages_in.Enrollment]:
    """Send enrollments that have started and submitted a form."""
    enrollments = [messages_in.new_enrollment("garbage") for _ in range(topic_runs)]
    await client.send(*(enrollment.started(at) for enrollment in enrollments))
    await client.send(*(messages_in.in_partition(0, enrollment.submits("f", at)) for enrollment in enrollments))
    return enrollments


async def _exited(client: clients.Client, enrollments: list[messages_in.Enrollment]) -> bool:
    exits = {message.data["enrollment_id"] for message in await client.messages("workflow_exit")}
    return exits >= {enrollment.enrollment_id for enrollment in enrollments}


async def test_a_topic_of_malformed_records_is_paused_across_restarts_until_it_is_resumed(
    installation: worker_process.Installation,
) -> None:
    topic = installation.topics["form_submitted"]
    async with clients.connect(installation) as client:
        await client.create_goal("garbage", "form_submitted", form_id="f")
        goal = await client.create_goal("garbage", "tag_added", tag_id="t")
        at = messages_in.later(goal.created_at, 1)
        async with installation.worker(**SETTINGS) as first:
            before = await _good(client, at, WINDOW - 1)
            (*_, last) = await client.send(*[GARBAGE] * 2 * WINDOW)
            waiting = await _good(client, at, 3)
            await first.said("topic_paused", topic=topic, reason="invalid_data", partition=0)
            (line,) = first.lines("topic_paused")
            paused_at = line["offset"]
            # Ten of the last 20 records were malformed: one more would exceed the ratio.
            assert paused_at == WINDOW - 1 + WINDOW // 2
            assert first.metric("topic_paused", topic=topic) == 1
            assert first.metric("topic_paused") == 1

            # The other topics are still processed.
            tagged = messages_in.new_enrollment("garbage")
            tag = messages_in.event("contact.tag.added", {"contact_id": tagged.contact_id, "tag_id": "t"}, at)
            await client.send(tagged.started(at), tag)
            await clients.until(lambda: _exited(client, [*before, tagged]))
            assert not await _exited(client, waiting)
            assert len(await client.dead_letters()) == WINDOW // 2
            assert await client.lag(["form_submitted"]) == {
                clients.partition(topic, 0): last.offset + 1 + 3 - paused_at
            }

        listed = installation.call("topics", "list", "--json")
        (state,) = [row for row in messages_in.rows(listed.out) if row["state"] == "paused"]
        assert (state["topic"], state["reason"], state["sample_offset"]) == (topic, "invalid_data", paused_at)

        async with installation.worker(**SETTINGS) as second:
            assert second.metric("topic_paused", topic=topic) == 1
            another = messages_in.new_enrollment("garbage")
            tag = messages_in.event("contact.tag.added", {"contact_id": another.contact_id, "tag_id": "t"}, at)
            await client.send(another.started(at), tag)
            await clients.until(lambda: _exited(client, [another]))
            assert len(await client.dead_letters()) == WINDOW // 2

            # Without --accept the same records are read and pause the topic again.
            assert installation.call("topics", "resume", topic).code == 0
            await second.said("topic_paused", topic=topic, offset=paused_at + WINDOW - 1)
            # The worker logs the pause before it has dead-lettered the earlier records.
            await clients.until(lambda: _letters(client, WINDOW // 2 + WINDOW - 1))

            assert installation.call("topics", "resume", topic, "--accept", str(WINDOW)).code == 0
            await client.settle()
            assert await _exited(client, waiting)
            assert len(await client.dead_letters()) == 2 * WINDOW
            assert second.metric("topic_paused") == 0

        again = installation.call("topics", "resume", topic)
        assert (again.code, topic in again.err) == (1, True)


async def _letters(client: clients.Client, count: int) -> bool:
    return len(await client.dead_letters()) == count


async def test_a_valid_record_can_be_the_one_that_pauses_its_topic(
    installation: worker_process.Installation,
) -> None:
    topic = installation.topics["form_submitted"]
    async with clients.connect(installation) as client, installation.worker(**SETTINGS) as worker:
        good = messages_in.new_enrollment("garbage").submits("f", datetime.now(UTC))
        await client.send(*[GARBAGE] * (WINDOW - 1), messages_in.in_partition(0, good))
        await worker.said("topic_paused", topic=topic, reason="invalid_data", offset=WINDOW - 2)
        await clients.until(lambda: _is_all_but_one(client, topic))


async def _is_all_but_one(client: clients.Client, topic: str) -> bool:
    return await client.lag(["form_submitted"]) == {clients.partition(topic, 0): 1}


async def test_accepted_records_do_not_count_towards_the_next_pause(
    installation: worker_process.Installation,
) -> None:
    topic = installation.topics["form_submitted"]
    async with clients.connect(installation) as client, installation.worker(**SETTINGS) as worker:
        await client.send(*[GARBAGE] * WINDOW)
        await worker.said("topic_paused", topic=topic, offset=WINDOW - 1)
        assert installation.call("topics", "resume", topic, "--accept", "5").code == 0
        await client.settle()
        await client.send(*[GARBAGE] * (WINDOW + 4))
        # One of the five accepted records was left at the first pause, so four of the new ones pass too.
        await worker.said("topic_paused", topic=topic, offset=WINDOW + 4 + WINDOW - 1)
        await clients.until(lambda: _is_all_but_one(client, topic))


def _payment(tenant_id: str, data: dict[str, str], at: datetime) -> messages_in.Record:
    return messages_in.in_partition(0, messages_in.event("payment.completed", data, at, tenantid=tenant_id))


@pytest.mark.real_world("pipeshub-ai#2992", "one sender of broken records stops everybody's")
async def test_a_tenant_that_sends_only_broken_payments_stops_no_other_tenants(
    installation: worker_process.Installation,
) -> None:
    topic = installation.topics["payment_completed"]
    async with clients.connect(installation) as client, installation.worker(**SETTINGS) as worker:
        goal = await client.create_goal("shop", "purchase_made", any_purchase=True)
        at = messages_in.later(goal.created_at, 1)
        buyers = [messages_in.new_enrollment("shop") for _ in range(20)]
        await client.send(*(buyer.started(at) for buyer in buyers))
        broken = {tenant_id: _payment(tenant_id, {"contact_id": "c"}, at) for tenant_id in ("noisy", "loud")}
        for buyer in buyers:
            paid = {"contact_id": buyer.contact_id, "payment_id": buyer.contact_id, "amount": "5", "currency": "EUR"}
            await client.send(*[broken["noisy"]] * (WINDOW - 2), _payment(messages_in.TENANT, paid, at))
        await client.settle()
        assert await _exited(client, buyers)
        assert len(await client.dead_letters()) == 20 * (WINDOW - 2)
        assert (worker.lines("topic_paused"), worker.metric("topic_paused")) == ([], 0)
        (line,) = worker.lines("tenant_mostly_dead_letters")
        assert (line["tenant_id"], line["topic"]) == ("noisy", topic)

        # With two of them, the sender may not be at fault: the remaining records are kept out of the DLQ.
        await client.send(*[broken["noisy"], broken["loud"]] * WINDOW)
        await worker.said("topic_paused", topic=topic, reason="invalid_data")
