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
from tests.kit import naive_judge


class Row(NamedTuple):
    """Stored achievement; without evidence where it is revoked, as in the message."""

    revision: int
    goal_version: int | None
    enrolled_at: datetime | None
    evidence: naive_judge.Walked | None


async def achievements(administrator: connections.Connection) -> dict[naive_judge.AchievementKey, Row]:
    """Return every achievement, including revoked ones."""
    rows = await administrator.fetch("SELECT * FROM achievements")
    return {
        (row["tenant_id"], row["enrollment_id"], row["goal_id"]): Row(
            row["revision"],
            row["goal_version"] if row["revoked_at"] is None else None,
            row["enrolled_at"] if row["revoked_at"] is None else None,
            _walked(row) if row["revoked_at"] is None else None,
        )
        for row in rows
    }


def _walked(row: Mapping[str, Any]) -> naive_judge.Walked:
    return naive_judge.Walked(row["achieved_at"], row["event_source"], row["event_id"])


async def achieved(administrator: connections.Connection) -> dict[naive_judge.AchievementKey, naive_judge.Walked]:
    """Return the achievements that are not revoked."""
    stored = await achievements(administrator)
    return {key: row.evidence for key, row in stored.items() if row.evidence is not None}


async def satisfied(administrator: connections.Connection) -> dict[naive_judge.EnrollmentKey, datetime]:
    """Return when each enrollment was satisfied."""
    rows = await administrator.fetch(
        "SELECT tenant_id, enrollment_id, satisfied_at FROM enrollments WHERE satisfied_at IS NOT NULL"
    )
    return {(row[0], row[1]): row[2] for row in rows}


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
        return Row(data["revision"], None, None, None)
    trigger = data["trigger_event"]
    enrolled_at = data["enrolled_at"]
    return Row(
        data["revision"],
        data["goal_version"],
        None if enrolled_at is None else datetime.fromisoformat(enrolled_at),
        naive_judge.Walked(datetime.fromisoformat(data["achieved_at"]), trigger["source"], trigger["id"]),
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
    # A satisfied enrollment without a recorded end has an exit, at the latest by the last judgement.
    assert not await administrator.fetch(
        "SELECT FROM enrollments e LEFT JOIN exits x USING (tenant_id, enrollment_id)"
        " WHERE e.satisfied_at IS NOT NULL AND e.ended_at IS NULL AND x.tenant_id IS NULL"
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
    expected, expected_satisfied = naive_judge.answers(given_goals, logics, messages, tracked=tracked)
    assert await achieved(administrator) == expected
    assert await satisfied(administrator) == {key: found.at.time for key, found in expected_satisfied.items()}
    await assert_published_as_stored(administrator, broker)
