"""The verdict about an installation: whether it is healthy, with reasons and what to do about each."""

import enum
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

from msgspec import Struct

from goalworker.console import wording
from goalworker.console.health_reading import Installation, OfTenant
from goalworker.domain import phrases
from goalworker.inspection import outbox_report
from goalworker.pipeline import clock_skew, progress
from goalworker.stores import jobs

# A worker writes the progress of a partition at least once a minute, also while nothing moves.
DOWN_AFTER: Final = timedelta(seconds=75)
# Progress that stands still for longer is a warning: it moves once a second while workers keep up.
BEHIND_AFTER: Final = timedelta(minutes=1)
# A job that nobody has taken for as long.
UNTAKEN_AFTER: Final = timedelta(minutes=1)
# A smaller distance of two clocks cannot be measured over a network.
_SAME_SECONDS: Final = 0.05


class Level(enum.StrEnum):
    """Severity of a reason, and of the verdict."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Reason(Struct, frozen=True):
    """Fault of an installation: a sentence, the command that helps, and the section with its numbers."""

    level: Level
    sentence: str
    section: str
    command: str | None = None
    since: datetime | None = None


class Verdict(Struct, frozen=True):
    """The answer to whether all is well, in a sentence, with the reasons against it."""

    level: Level
    sentence: str
    reasons: list[Reason]


def verdict(installation: Installation, tenant: OfTenant) -> Verdict:
    """Return the verdict about an installation, as a tenant sees it."""
    reasons = [
        *_about_workers(installation.liveness),
        *_about_partitions(installation),
        *_about_topics(installation),
        *_about_database(installation),
        *_about_insight(installation, tenant),
    ]
    problems = [reason for reason in reasons if reason.level is Level.PROBLEM]
    if problems:
        return Verdict(
            Level.PROBLEM, f"Not healthy: {phrases.counted(len(problems), 'problem')}", _worst_first(reasons)
        )
    if reasons:
        return Verdict(Level.WARNING, f"Working, with {phrases.counted(len(reasons), 'warning')}", reasons)
    return Verdict(Level.OK, "Healthy: workers keep up, and nothing waits longer than it should", [])


def _worst_first(reasons: Sequence[Reason]) -> list[Reason]:
    return sorted(reasons, key=lambda reason: reason.level is not Level.PROBLEM)


def _about_workers(liveness: progress.Liveness) -> Iterator[Reason]:
    if (reason := about_workers(liveness)) is not None:
        yield reason


def about_workers(liveness: progress.Liveness) -> Reason | None:
    """Return what is wrong with the workers, None while they make progress."""
    run = "goalworker run"
    if liveness.seen_at is None:
        return Reason(Level.PROBLEM, "No worker has run yet, so no event is judged", "freshness", run)
    if liveness.now - liveness.seen_at > DOWN_AFTER:
        sentence = "Workers are down, or cannot reach Kafka: no event is judged"
        return Reason(Level.PROBLEM, sentence, "freshness", run, liveness.seen_at)
    if liveness.judged_until is not None and liveness.now - liveness.judged_until > BEHIND_AFTER:
        sentence = "Workers run and make no progress: no partition is judged to its end"
        return Reason(Level.PROBLEM, sentence, "freshness", "goalworker doctor", liveness.judged_until)
    return None


def _about_partitions(installation: Installation) -> Iterator[Reason]:
    if about_workers(installation.liveness) is not None:
        return  # all of them stand still
    unjudged = [row for row in installation.partitions if row.judged_until is None]
    if unjudged:
        sentence = f"{phrases.counted(len(unjudged), 'partition')} never judged to the end, so freshness is unknown"
        yield Reason(Level.WARNING, sentence, "freshness", "goalworker lag")
    for topic in topics(installation):
        if topic.judged_until is not None and installation.at - topic.judged_until > BEHIND_AFTER:
            sentence = f"{topic.name} is behind"
            yield Reason(Level.WARNING, sentence, "freshness", "goalworker lag", topic.judged_until)


def _about_topics(installation: Installation) -> Iterator[Reason]:
    for paused in installation.paused:
        sentence = f"{paused.topic} is paused ({paused.reason}), and its events wait"
        command = f"goalworker topics resume {shlex.quote(paused.topic)}"
        yield Reason(Level.PROBLEM, sentence, "topics", command, paused.paused_at)
    for held in installation.refused:
        yield Reason(Level.PROBLEM, outbox_report.sentence(held, held.topic), "outbox", "goalworker outbox status")
    oldest_at = min((pending.oldest_at for pending in waiting(installation)), default=installation.at)
    if installation.at - oldest_at > timedelta(seconds=outbox_report.AGE_MAX_SECONDS):
        sentence = "Messages wait to be published for longer than a minute"
        yield Reason(Level.WARNING, sentence, "outbox", "goalworker outbox status", oldest_at)


def _about_database(installation: Installation) -> Iterator[Reason]:
    if installation.schema.problem is not None:
        yield Reason(Level.PROBLEM, _sentence(installation.schema.problem), "database", "goalworker db upgrade")
    if clock_skew.is_large(installation.skew.total_seconds()):
        sentence = f"The clocks of the database and of this server are {_seconds(installation.skew)} apart"
        yield Reason(Level.WARNING, sentence, "database", "goalworker doctor")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _seconds(length: timedelta) -> str:
    return f"{abs(length.total_seconds()):.1f} s"


def _about_insight(installation: Installation, tenant: OfTenant) -> Iterator[Reason]:
    if (since := tenant.coverage.missing_from(installation.at)) is not None:
        sentence = "History is behind: explanations, plans and backfills lack the events since then"
        yield Reason(Level.WARNING, sentence, "insight", "goalworker insight", since)
    if left := [job for job in tenant.jobs if is_left(job, tenant, installation.at)]:
        sentence = f"No process works on {phrases.counted(len(left), 'plan or backfill', 'plans and backfills')}"
        yield Reason(Level.WARNING, sentence, "insight", "goalworker insight", min(job.created_at for job in left))


def is_left(job: jobs.Unfinished, tenant: OfTenant, now: datetime) -> bool:
    """Say whether the process that took a job has died, or no process ever ran to take it.

    A queued job may wait for those of other tenants, which nobody sees here.
    """
    if job.state == jobs.QUEUED:
        return tenant.coverage.history_from is None and now - job.created_at > UNTAKEN_AFTER
    beat_at = job.heartbeat_at or job.created_at
    return now - beat_at > timedelta(seconds=2 * jobs.STALE_SECONDS)


# --- topics ---


class Topic(Struct, frozen=True):
    """Progress of a topic: the least time of its partitions, None where one was never judged to its end."""

    name: str
    judged_until: datetime | None
    partitions: list[progress.PartitionProgress]


def topics(installation: Installation) -> list[Topic]:
    """Return the progress of each topic, the ones furthest behind first."""
    found = []
    for name, rows in groupby(installation.partitions, key=lambda row: row.topic):
        partitions = list(rows)
        times = [row.judged_until for row in partitions if row.judged_until is not None]
        found.append(Topic(name, min(times) if len(times) == len(partitions) else None, partitions))
    return sorted(found, key=lambda topic: (topic.judged_until is not None, topic.judged_until or installation.at))


# --- outbox and clocks ---


class Waiting(Struct, frozen=True):
    """Messages of a topic that wait to be published."""

    topic: str
    records: int
    oldest_at: datetime


def waiting(installation: Installation) -> list[Waiting]:
    """Return the messages that wait to be published, by topic."""
    return [
        Waiting(pending.topic, pending.records, datetime.fromtimestamp(pending.oldest_timestamp_seconds, UTC))
        for pending in installation.pending
    ]


def skew_sentence(skew: timedelta) -> str:
    """Return in a sentence by how much the database's clock is ahead of this server's, or behind it."""
    seconds = skew.total_seconds()
    if abs(seconds) < _SAME_SECONDS:
        return "the database and this server agree on the time"
    return f"the database is {_seconds(skew)} {'ahead of' if seconds > 0 else 'behind'} this server"


# --- lag ---


class Lag(Struct, frozen=True):
    """Lag in a sentence, and by topic."""

    sentence: str
    topics: list["TopicLag"]


class TopicLag(Struct, frozen=True):
    """Lag of a topic, summed over its partitions; behind_seconds is the age of the oldest record that waits."""

    name: str
    lag: int
    hidden: int
    behind_seconds: float | None
    partitions: list[Mapping[str, Any]]


def lag(rows: Sequence[Mapping[str, Any]]) -> Lag:
    """Return the lag of rows by partition."""
    found = lag_of_topics(rows)
    return Lag(lag_sentence(found), found)


def lag_of_topics(rows: Sequence[Mapping[str, Any]]) -> list[TopicLag]:
    """Return the lag of each topic, the greatest first."""
    by_topic: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_topic.setdefault(row["topic"], []).append(row)
    found = [
        TopicLag(
            name,
            sum(row["lag"] for row in partitions),
            sum(row["hidden"] for row in partitions),
            max((row["behind_seconds"] for row in partitions if row["behind_seconds"] is not None), default=None),
            partitions,
        )
        for name, partitions in by_topic.items()
    ]
    return sorted(found, key=lambda topic: (-topic.lag, topic.name))


def lag_sentence(found: Sequence[TopicLag]) -> str:
    """Return the lag of all topics in a sentence."""
    records, hidden = sum(topic.lag for topic in found), sum(topic.hidden for topic in found)
    behind = max((topic.behind_seconds for topic in found if topic.behind_seconds is not None), default=None)
    waits = "No record waits for a worker" if not records else f"{phrases.counted(records, 'record')} wait for a worker"
    since = "" if behind is None else f", the oldest for {wording.duration(behind)}"
    return f"{waits}{since}" + (
        f"; {phrases.counted(hidden, 'record')} hidden by an open transaction" if hidden else ""
    )
