"""Stored rows and published messages, and checks of both against the laws."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from goalworker.domain import events, goals, ids
from goalworker.kafka import records
from goalworker.postgres import connections
from tests.integration import world
from tests.kit import naive_judge, stored
from tests.kit.naive.money import Payment


class Row(NamedTuple):
    """Stored achievement; without evidence where it is revoked, as in the message."""

    revision: int
    enrolled_at: datetime | None
    achieved: naive_judge.Achieved | None


async def achievements(administrator: connections.Connection) -> dict[naive_judge.AchievementKey, Row]:
    """Return every achievement, including revoked ones."""
    rows = await administrator.fetch("SELECT * FROM achievements")
    return {
        (row["tenant_id"], row["enrollment_id"], row["goal_id"]): Row(
            row["revision"],
            row["enrolled_at"] if row["revoked_at"] is None else None,
            stored.achieved(row) if row["revoked_at"] is None else None,
        )
        for row in rows
    }


async def achieved(administrator: connections.Connection) -> dict[naive_judge.AchievementKey, naive_judge.Walked]:
    """Return the events behind the achievements that are not revoked."""
    rows = await achievements(administrator)
    return {key: row.achieved.at for key, row in rows.items() if row.achieved is not None}


async def satisfied(administrator: connections.Connection) -> dict[naive_judge.EnrollmentKey, datetime]:
    """Return when each enrollment was satisfied."""
    rows = await administrator.fetch(
        "SELECT tenant_id, enrollment_id, satisfied_at FROM enrollments WHERE satisfied_at IS NOT NULL"
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def judged(administrator: connections.Connection) -> dict[str, list[dict[str, Any]]]:
    """Return every row that judgements write."""
    return {
        table: [dict(row) for row in await administrator.fetch(f"SELECT * FROM {table} ORDER BY {key}")]
        for table, key in (("enrollments", "1, 2"), ("achievements", "1, 2, 3"), ("exits", "1, 2"))
    }


async def written(administrator: connections.Connection) -> list[Any]:
    """Return all facts and judgements, and the ids of unsent messages, without the moments of writing."""
    queries = (
        "SELECT enrollment_id, satisfied_at, converted_at, exited_at, exit_withheld FROM enrollments ORDER BY 1",
        "SELECT enrollment_id, goal_id, achieved_at, event_id, revision FROM achievements ORDER BY 1, 2",
        "SELECT contact_id, goal_id, event_id FROM goal_hits ORDER BY 1, 2, 3",
        "SELECT enrollment_id, goal_id, achieved_at FROM exits ORDER BY 1",
        "SELECT convert_from(value, 'UTF8')::json ->> 'id' FROM outbox ORDER BY 1",
    )
    return [[tuple(row) for row in await administrator.fetch(query)] for query in queries]


def messages_by_id(broker: world.Broker) -> dict[UUID, dict[str, Any]]:
    """Return each message once, by its id, and assert that repeats are the same bytes."""
    sent: dict[UUID, records.Record] = {}
    for record in broker.sent:
        if record.topic != world.TOPICS.dead_letters:
            first = sent.setdefault(UUID(json.loads(record.value or b"")["id"]), record)
            assert first == record, "one id, two messages"
    return {id_: json.loads(record.value or b"") for id_, record in sent.items()}


def messages(broker: world.Broker) -> list[dict[str, Any]]:
    """Return each message once, in the order in which they were first sent."""
    return list(messages_by_id(broker).values())


def latest_achievements(broker: world.Broker) -> dict[naive_judge.AchievementKey, Row]:
    """Return the latest revision of each achievement, as a consumer sees it, and assert that no revision is missing."""
    revisions: dict[naive_judge.AchievementKey, dict[int, Row]] = defaultdict(dict)
    for message in messages_by_id(broker).values():
        if message["type"] in ("workflow.goal.achieved", "workflow.goal.revoked"):
            data = message["data"]
            key = (message["tenantid"], data["enrollment_id"], UUID(data["goal_id"]))
            assert data["achievement_id"] == str(ids.achievement_id(*key))
            assert data["revision"] not in revisions[key], "one revision, two messages"
            revisions[key][data["revision"]] = _row_of(data)
    assert all(sorted(rows) == list(range(1, len(rows) + 1)) for rows in revisions.values())
    return {key: rows[max(rows)] for key, rows in revisions.items()}


def _row_of(data: Mapping[str, Any]) -> Row:
    if "trigger_event" not in data:
        return Row(data["revision"], None, None)
    enrolled_at = data["enrolled_at"]
    return Row(
        data["revision"],
        None if enrolled_at is None else datetime.fromisoformat(enrolled_at),
        stored.told(data),
    )


async def assert_published_as_stored(administrator: connections.Connection, broker: world.Broker) -> None:
    """Assert that the outbox is empty, and that every revision and exit was published as stored."""
    assert await administrator.fetchval("SELECT count(*) FROM outbox") == 0
    assert latest_achievements(broker) == await achievements(administrator)
    exits = await administrator.fetch("SELECT tenant_id, enrollment_id, goal_id, achieved_at FROM exits")
    published = {
        id_: message for id_, message in messages_by_id(broker).items() if message["type"] == "workflow.exit.goal"
    }
    assert published.keys() == {ids.exit_id(row[0], row[1]) for row in exits}
    for tenant_id, enrollment_id, goal_id, achieved_at in exits:
        data = published[ids.exit_id(tenant_id, enrollment_id)]["data"]
        assert (data["goal_id"], datetime.fromisoformat(data["achieved_at"])) == (str(goal_id), achieved_at)
    # A satisfied enrollment without a recorded end has an exit or waits for one, at the latest by the last judgement.
    assert not await administrator.fetch(
        "SELECT FROM enrollments e LEFT JOIN exits x USING (tenant_id, enrollment_id)"
        " WHERE e.satisfied_at IS NOT NULL AND e.ended_at IS NULL AND x.tenant_id IS NULL AND NOT e.exit_waits"
    )
    assert not await administrator.fetch(
        "SELECT FROM enrollments WHERE exit_waits AND (satisfied_at IS NULL OR ended_at IS NOT NULL"
        " OR exited_at IS NOT NULL)"
    )


async def assert_lawful(
    administrator: connections.Connection,
    broker: world.Broker,
    given_goals: Sequence[goals.Goal],
    logics: naive_judge.Logics,
    messages: Sequence[events.Event],
    *,
    tracked: bool = True,
) -> None:
    """Assert the three laws: the rows are those of a naive judge that sees everything at once, published once."""
    answered = naive_judge.everything(given_goals, logics, messages, tracked=tracked)
    rows = await achievements(administrator)
    assert {key: row.achieved for key, row in rows.items() if row.achieved is not None} == {
        (*key[:2], goal_id): found for key, answer in answered.items() for goal_id, found in answer.achieved.items()
    }
    assert await satisfied(administrator) == {
        key[:2]: answer.satisfied.at.time for key, answer in answered.items() if answer.satisfied is not None
    }
    waiting, over = await _waiting(administrator)
    assert waiting == {key[:2] for key, answer in answered.items() if answer.exit_waits} - over
    assert await _converted(administrator) == {
        key[:2]: answer.converted_at for key, answer in answered.items() if answer.converted_at is not None
    }
    assert await _payments(administrator) == {
        (*key[:2], goal_id, payment_id): payment
        for key, answer in answered.items()
        for goal_id, by_payment in answer.payments.items()
        for payment_id, payment in by_payment.items()
    }
    await assert_published_as_stored(administrator, broker)


async def _waiting(
    administrator: connections.Connection,
) -> tuple[set[naive_judge.EnrollmentKey], set[naive_judge.EnrollmentKey]]:
    """Return the enrollments whose exit waits, and those that get none, or had theirs."""
    rows = await administrator.fetch(
        "SELECT tenant_id, enrollment_id, exit_waits, ended_at IS NOT NULL OR exited_at IS NOT NULL FROM enrollments"
    )
    return {(row[0], row[1]) for row in rows if row[2]}, {(row[0], row[1]) for row in rows if row[3]}


async def _converted(administrator: connections.Connection) -> dict[naive_judge.EnrollmentKey, datetime]:
    rows = await administrator.fetch(
        "SELECT tenant_id, enrollment_id, converted_at FROM enrollments WHERE converted_at IS NOT NULL"
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def _payments(administrator: connections.Connection) -> dict[stored.PaymentKey, Payment]:
    return stored.payments(
        await administrator.fetch("SELECT * FROM achievements"), await administrator.fetch("SELECT * FROM enrollments")
    )
