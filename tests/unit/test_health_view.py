"""The verdict about an installation: what makes it unhealthy, and what to do about it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from goalworker.console import health_view
from goalworker.console.health_reading import Installation, OfTenant, PausedTopic, Schema
from goalworker.console.health_view import Level
from goalworker.pipeline import outbox, progress, refused_messages
from goalworker.stores import history, jobs

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HEALTHY = Installation(
    at=NOW,
    partitions=[
        progress.PartitionProgress(topic, number, NOW - timedelta(seconds=2), NOW - timedelta(seconds=2))
        for topic in ("form-submitted", "tag-added")
        for number in range(3)
    ],
    paused=[],
    pending=[],
    refused=[],
    schema=Schema("0015", "0015", None),
    skew=timedelta(0),
)
TENANT = OfTenant(NOW, history.Coverage(None), [], [])
JOB = jobs.Unfinished(UUID(int=1), "plan", "w", None, jobs.RUNNING, jobs.Progress(1, 9), NOW, NOW)


def seconds(number: float) -> datetime:
    return NOW - timedelta(seconds=number)


def with_partition(judged_until: datetime | None, written_at: datetime = NOW) -> list[progress.PartitionProgress]:
    return [*HEALTHY.partitions[:5], progress.PartitionProgress("tag-added", 2, judged_until, written_at)]


def all_partitions(judged_until: datetime | None, written_at: datetime) -> list[progress.PartitionProgress]:
    return [row._replace(judged_until=judged_until, written_at=written_at) for row in HEALTHY.partitions]


def test_an_installation_where_nothing_waits_is_healthy() -> None:
    found = health_view.verdict(HEALTHY, TENANT)
    assert (found.level, found.reasons) == (Level.OK, [])
    assert found.sentence.startswith("Healthy: ")


HELD = refused_messages.HeldByTopic("goal-achieved", 2, 900, 1_000, 500, "larger than max.message.bytes", 0.0)


@pytest.mark.parametrize(
    ("changed", "level", "words", "command"),
    [
        ({"partitions": []}, Level.PROBLEM, "No worker has run", "goalworker run"),
        ({"partitions": all_partitions(seconds(90), seconds(80))}, Level.PROBLEM, "Workers are down", "goalworker run"),
        ({"partitions": all_partitions(seconds(61), seconds(9))}, Level.PROBLEM, "no progress", "goalworker doctor"),
        ({"partitions": with_partition(seconds(61))}, Level.WARNING, "tag-added is behind", "goalworker lag"),
        ({"partitions": with_partition(None)}, Level.WARNING, "1 partition never judged", "goalworker lag"),
        (
            {"paused": [PausedTopic("tag-added", "invalid_json", 0, 7, NOW)]},
            Level.PROBLEM,
            "tag-added is paused (invalid_json)",
            "goalworker topics resume tag-added",
        ),
        ({"refused": [HELD]}, Level.PROBLEM, "goal-achieved refuses 2 messages", "goalworker outbox status"),
        (
            {"pending": [outbox.Pending("goal-achieved", 3, NOW.timestamp() - 61)]},
            Level.WARNING,
            "longer than a minute",
            "goalworker outbox status",
        ),
        ({"schema": Schema("0012", "0015", "the schema is old")}, Level.PROBLEM, "The schema", "goalworker db upgrade"),
        ({"skew": timedelta(seconds=-5.5)}, Level.WARNING, "5.5 s apart", "goalworker doctor"),
    ],
)
def test_each_fault_is_a_reason_with_the_command_that_helps(
    changed: dict[str, Any], level: Level, words: str, command: str
) -> None:
    found = health_view.verdict(structs.replace(HEALTHY, **changed), TENANT)
    (reason,) = found.reasons
    assert (found.level, reason.level, reason.command) == (level, level, command)
    assert words in reason.sentence


def test_problems_come_before_warnings_and_decide_the_sentence() -> None:
    paused = [PausedTopic("tag-added", "invalid_json", 0, 7, NOW)]
    partitions = with_partition(seconds(61))
    found = health_view.verdict(structs.replace(HEALTHY, paused=paused, partitions=partitions), TENANT)
    assert [reason.level for reason in found.reasons] == [Level.PROBLEM, Level.WARNING]
    assert found.sentence == "Not healthy: 1 problem"


@pytest.mark.parametrize(
    "changed",
    [
        {"partitions": all_partitions(seconds(59), seconds(59))},
        {"pending": [outbox.Pending("goal-achieved", 3, NOW.timestamp() - 59)]},
        {"skew": timedelta(seconds=4.9)},
        {"schema": Schema("0099", "0015", None)},
    ],
)
def test_what_is_within_its_limits_is_no_reason(changed: dict[str, Any]) -> None:
    assert health_view.verdict(structs.replace(HEALTHY, **changed), TENANT).level is Level.OK


@pytest.mark.parametrize(
    ("changed", "is_reason"),
    [
        ({"heartbeat_at": seconds(59)}, False),
        ({"heartbeat_at": seconds(61)}, True),
        ({"state": jobs.QUEUED, "heartbeat_at": None, "created_at": seconds(59)}, False),
        ({"state": jobs.QUEUED, "heartbeat_at": None, "created_at": seconds(61)}, True),
    ],
)
def test_a_job_that_no_process_works_on_is_a_warning(changed: dict[str, Any], is_reason: bool) -> None:
    tenant = structs.replace(TENANT, jobs=[structs.replace(JOB, **changed)])
    found = health_view.verdict(HEALTHY, tenant)
    assert [reason.sentence for reason in found.reasons] == ["No process works on 1 plan or backfill"] * is_reason


def test_a_queued_job_may_wait_for_others_while_insight_keeps_history() -> None:
    coverage = history.Coverage(seconds(9_000), "all", None, timedelta(days=30), seconds(5))
    waiting = structs.replace(JOB, state=jobs.QUEUED, heartbeat_at=None, created_at=seconds(600))
    tenant = structs.replace(TENANT, jobs=[waiting], coverage=coverage)
    assert health_view.verdict(HEALTHY, tenant).reasons == []


def test_history_that_is_behind_is_a_warning() -> None:
    coverage = history.Coverage(seconds(9_000), "all", None, timedelta(days=30), seconds(61))
    (reason,) = health_view.verdict(HEALTHY, structs.replace(TENANT, coverage=coverage)).reasons
    assert (reason.level, reason.command, reason.since) == (Level.WARNING, "goalworker insight", seconds(61))


def test_topics_are_as_fresh_as_their_slowest_partition_and_the_slowest_come_first() -> None:
    partitions = with_partition(seconds(30))
    found = health_view.topics(structs.replace(HEALTHY, partitions=partitions))
    assert [(topic.name, topic.judged_until) for topic in found] == [
        ("tag-added", seconds(30)),
        ("form-submitted", seconds(2)),
    ]
    unjudged = health_view.topics(structs.replace(HEALTHY, partitions=with_partition(None)))
    assert (unjudged[0].name, unjudged[0].judged_until) == ("tag-added", None)


def test_lag_is_summed_by_topic_and_told_in_a_sentence() -> None:
    def row(topic: str, partition: int, lag: int, behind: float | None = None, hidden: int = 0) -> dict[str, Any]:
        return {"topic": topic, "partition": partition, "lag": lag, "behind_seconds": behind, "hidden": hidden}

    found = health_view.lag_of_topics([row("a", 0, 0), row("b", 0, 3, 61.0), row("b", 1, 4, 5.0, hidden=1)])
    assert [(topic.name, topic.lag, topic.behind_seconds, topic.hidden) for topic in found] == [
        ("b", 7, 61.0, 1),
        ("a", 0, None, 0),
    ]
    assert health_view.lag_sentence(found) == (
        "7 records wait for a worker, the oldest for 1 min 1 s; 1 record hidden by an open transaction"
    )
    assert health_view.lag_sentence(found[1:]) == "No record waits for a worker"
