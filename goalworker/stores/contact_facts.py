"""Facts of one contact in one workflow, as an explanation needs them (contract section 7)."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from msgspec import structs
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.domain import events, evidence, facts, ids, messages, occurrences
from goalworker.domain.explanations import ContactFacts, Coverage, Run
from goalworker.postgres import connections, tables
from goalworker.stores import enrollments, history, stats
from goalworker.stores.goal_store import load_workflow

EVENTS_MAX: Final = 5_000
"""Kept events of a contact that are explained, at most: the newest. Older ones count as no longer kept."""
REVERSALS_MAX: Final = 1_000
"""Reversals of a contact that are read whatever they undo; of a contact with more, those of its hits and events."""


class NothingKnownError(errors.GoalworkerError):
    """The contact, the goal or the enrollment is unknown; the sentence says which."""


async def read(
    connection: sa_async.AsyncConnection,
    tenant_id: str,
    workflow_id: str,
    contact_id: str,
    *,
    goal_id: UUID | None = None,
    enrollment_id: str | None = None,
    lateness: timedelta,
    tracking: bool,
) -> ContactFacts:
    """Return the facts of a contact in a workflow; UnknownWorkflowError, NothingKnownError.

    With a goal_id or an enrollment_id, these must belong to the workflow and the contact. The facts are read after the
    times until which they are known.
    """
    await stats.require_workflow(connection, tenant_id, workflow_id)
    driver = await connections.driver_of(connection)
    fresh_as_of = await enrollments.fresh_as_of(connection)
    kept = await history.coverage(driver, tenant_id)
    now: datetime = await driver.fetchval("SELECT clock_timestamp()")
    workflow = await load_workflow(driver, tenant_id, workflow_id)
    if goal_id is not None and goal_id not in workflow.goals_by_id:
        raise NothingKnownError(f"Unknown goal: {goal_id} is not a goal of this workflow")
    whose = (tenant_id, workflow_id, contact_id)
    runs = await _runs(driver, *whose)
    hits = [_hit(whose, row) for row in await driver.fetch(_HITS, *whose, ids.contact_hash(*whose))]
    seen, is_whole = await history.newest_events(driver, tenant_id, contact_id, EVENTS_MAX)
    if not is_whole:
        kept = _from_oldest(kept, seen)
    happened = [one.event for one in seen if isinstance(one.event.data, events.GoalData)]
    if not (runs or hits or seen):
        raise NothingKnownError("Unknown contact: no enrollment, hit or kept event names it")
    if not runs and not tracking:
        runs = [Run(_untracked(*whose))]
    if enrollment_id is not None:
        runs = [run for run in runs if run.enrollment.enrollment_id == enrollment_id]
        if not runs:
            raise NothingKnownError("Unknown enrollment: it is not one of this contact in this workflow")
    return ContactFacts(
        *whose,
        workflow,
        runs,
        happened,
        hits,
        await _reversals(driver, tenant_id, contact_id, partial(_subjects, runs, hits, happened)),
        [facts.WorkflowState(*row) for row in await driver.fetch(_STATES, tenant_id, workflow_id)],
        coverage_of(kept, runs, fresh_as_of, now, now - lateness),
        now,
        tracking,
    )


def _untracked(tenant_id: str, workflow_id: str, contact_id: str) -> facts.Enrollment:
    enrollment_id = ids.contact_enrollment_id(workflow_id, contact_id)
    return facts.Enrollment(tenant_id, enrollment_id, workflow_id, contact_id)


def _from_oldest(kept: history.Coverage, seen: Sequence[history.KeptEvent]) -> history.Coverage:
    """Return coverage that begins with the oldest event that was read."""
    if kept.history_from is None:
        return kept
    return structs.replace(kept, history_from=max(kept.history_from, seen[0].event.time), retention=timedelta(0))


def coverage_of(
    kept: history.Coverage, runs: Sequence[Run], fresh_as_of: datetime | None, now: datetime, hits_from: datetime
) -> Coverage:
    """Return the span of time that is known of a contact with these enrollments."""
    since = kept.history_from
    if since is None:
        return Coverage(None, hits_from, fresh_as_of)
    began = [run.enrollment.enrolled_at or facts.BEGINNING for run in runs]
    until = kept.missing_from(now)
    is_complete = until is None and (all(since <= one for one in began) if began else _keeps_everyone(kept))
    # Days are dropped whole, and their last hour may be kept a day longer than the retention asks for.
    is_cut = since <= now - kept.retention + timedelta(days=2)
    return Coverage(since, hits_from, fresh_as_of, is_complete, is_cut, until)


def _keeps_everyone(kept: history.Coverage) -> bool:
    return kept.all_since is not None and kept.history_from is not None and kept.all_since <= kept.history_from


# --- rows ---

_FIELDS: Final = tuple(name for name in facts.Enrollment.__struct_fields__ if name in tables.enrollments.c)
_RUNS: Final = f"""
SELECT {", ".join(f"e.{name}" for name in _FIELDS)}, x.created_at
FROM enrollments e LEFT JOIN exits x USING (tenant_id, enrollment_id)
WHERE e.tenant_id = $1 AND e.workflow_id = $2 AND e.contact_id = $3
ORDER BY e.enrolled_at, e.enrollment_id
"""
_ACHIEVEMENTS: Final = """
SELECT enrollment_id, goal_id, goal_version, enrolled_at, event_source, event_id, achieved_at, data::text, traceparent,
    tracestate, revision, revoked_at IS NOT NULL, counted
FROM achievements WHERE tenant_id = $1 AND enrollment_id = ANY ($2::text[])
"""
_HIT: Final = "goal_id, goal_version, event_source, event_id, event_time, data::text, traceparent, tracestate"
_OF_CONTACT: Final = "tenant_id = $1 AND workflow_id = $2 AND contact_id = $3"
# In the order of their days: a hit that was found again on another day is there twice, and the first one stands.
_HITS: Final = f"""
SELECT {_HIT}, NULL::date AS recorded_on FROM goal_hits_kept WHERE {_OF_CONTACT}
UNION ALL
SELECT {_HIT}, recorded_on FROM goal_hits WHERE {_OF_CONTACT} AND contact_hash = $4 AND {tables.OF_DAYS}
ORDER BY recorded_on NULLS FIRST
"""
_REVERSALS_OF: Final = """
SELECT event_source, event_id, event_time, type, subject_id, refund_id, amount, currency
FROM reversals WHERE tenant_id = $1 AND contact_id = $2
"""
_REVERSALS: Final = f"{_REVERSALS_OF} ORDER BY event_source, event_id LIMIT {REVERSALS_MAX + 1}"
_REVERSALS_OF_SUBJECTS: Final = f"{_REVERSALS_OF} AND subject_id = ANY ($3::text[])"
_STATES: Final = "SELECT since, active FROM workflow_states WHERE tenant_id = $1 AND workflow_id = $2 ORDER BY since"
# An exit that was published twice, after a crash, counts from the first time.
_PUBLISHED: Final = """
SELECT exit_id, min(published_at) FROM history_exits
WHERE tenant_id = $1 AND exit_id = ANY ($2::uuid[]) GROUP BY exit_id
"""
_UNPUBLISHED: Final = "SELECT goalworker_unpublished_exits($1)"


async def _runs(driver: connections.Connection, tenant_id: str, workflow_id: str, contact_id: str) -> list[Run]:
    rows = await driver.fetch(_RUNS, tenant_id, workflow_id, contact_id)
    achieved = await _achievements(driver, tenant_id, [row["enrollment_id"] for row in rows])
    sent = [ids.exit_id(tenant_id, row["enrollment_id"]) for row in rows if row["created_at"] is not None]
    published = await _published(driver, tenant_id, contact_id, sent) if sent else {}
    return [_run(row, achieved[row["enrollment_id"]], published) for row in rows]


async def _published(
    driver: connections.Connection, tenant_id: str, contact_id: str, sent: Sequence[UUID]
) -> dict[UUID, datetime | None]:
    """Return the exits that left the outbox or were read from their topic, with the time where that is known."""
    times = {row[0]: row[1] for row in await driver.fetch(_PUBLISHED, tenant_id, sent)}
    waiting = {row[0] for row in await driver.fetch(_UNPUBLISHED, messages.key_of(tenant_id, contact_id))}
    return {exit_id: times.get(exit_id) for exit_id in sent if exit_id in times or exit_id not in waiting}


def _run(
    row: Mapping[str, Any], achieved: Sequence[facts.Achievement], published: Mapping[UUID, datetime | None]
) -> Run:
    enrollment = facts.Enrollment(**{name: row[name] for name in _FIELDS})
    sent_at = row["created_at"]
    exit_id = ids.exit_id(enrollment.tenant_id, enrollment.enrollment_id)
    is_published = None if sent_at is None else exit_id in published
    return Run(enrollment, achieved, sent_at, published.get(exit_id), is_published, enrollment.exit_withheld)


async def _achievements(
    driver: connections.Connection, tenant_id: str, enrollment_ids: Sequence[str]
) -> defaultdict[str, list[facts.Achievement]]:
    found: defaultdict[str, list[facts.Achievement]] = defaultdict(list)
    for row in await driver.fetch(_ACHIEVEMENTS, tenant_id, enrollment_ids):
        # Unpacked in the order of the columns of _ACHIEVEMENTS.
        enrollment_id, goal_id, version, enrolled_at, *trigger, revision, is_revoked, more = row
        counted, others = evidence.others_from_json(more)
        achievement = facts.Achievement(
            goal_id, version, enrolled_at, _trigger(*trigger), revision, is_revoked, counted, others
        )
        found[enrollment_id].append(achievement)
    return found


async def _reversals(
    driver: connections.Connection, tenant_id: str, contact_id: str, subjects: Callable[[], Iterable[str]]
) -> list[facts.Reversal]:
    """Return the reversals of a contact, or of very many those of the subjects."""
    rows = await driver.fetch(_REVERSALS, tenant_id, contact_id)
    if len(rows) > REVERSALS_MAX:
        rows = await driver.fetch(_REVERSALS_OF_SUBJECTS, tenant_id, contact_id, sorted(subjects()))
    return [facts.Reversal(*row) for row in rows]


def _subjects(runs: Iterable[Run], hits: Sequence[facts.Hit], happened: Iterable[events.Event]) -> set[str]:
    """Return what reversals may concern: the subjects of all that is judged or explained."""
    known = [hit for run in runs for hit in evidence.hits_of(run.enrollment, run.achievements, hits)]
    triggers = [*(hit.trigger for hit in (*known, *hits)), *map(facts.trigger_of, happened)]
    return {name for trigger in triggers for name in occurrences.names_of(trigger.data)}


def _hit(whose: tuple[str, str, str], row: Any) -> facts.Hit:
    goal_id, version, *trigger, _ = row
    return facts.Hit(*whose, goal_id, version, _trigger(*trigger))


def _trigger(
    source: str, id_: str, time: datetime, data: str, traceparent: str | None, tracestate: str | None
) -> facts.Trigger:
    return facts.Trigger(source, id_, time, data.encode(), traceparent, tracestate)
