"""Backfills: kept events are counted for a goal, by the phases of the worker itself (contract section 7).

Each slice of contacts has two transactions, as a batch of the worker has, and its cursor is written after both. A slice
that is repeated inserts no hit again and finds nothing to change.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct, json, structs
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.domain import events, facts, goals
from goalworker.domain.text import parse_time
from goalworker.goal_index import index, matching
from goalworker.insight.jobs import Advance, RefusedJobError
from goalworker.pipeline import judgements, recording
from goalworker.postgres import connections, tables
from goalworker.stores import goal_store, history, jobs

# Contacts of a slice: their enrollments stay locked while they are judged, which must not delay the worker.
SLICE_CONTACTS: Final = 200
# Records that the worker may lag behind; above it a backfill waits (contract section 7).
LAG_MAX: Final = 1_000
# Seconds between looks at the lag, and at the history, while a backfill waits.
WAIT_SECONDS: Final = 1.0

_CONTACTS: Final = """
SELECT DISTINCT contact_id FROM history_events
WHERE tenant_id = $1 AND contact_id > $2 AND event_time >= $3 AND event_time < $4 AND type = $5
ORDER BY contact_id LIMIT $6
"""
_COUNT: Final = """
SELECT count(DISTINCT contact_id) FROM history_events
WHERE tenant_id = $1 AND event_time >= $2 AND event_time < $3 AND type = $4
"""
# Those whose answer may be another one although the goal got no hit of theirs: their exit was withheld, or their
# workflow wants all goals and has one more in the span.
_TOUCHED: Final = """
SELECT DISTINCT contact_id FROM enrollments
WHERE tenant_id = $1 AND workflow_id = $2 AND contact_id > $3
    AND (exit_withheld OR (satisfied_at >= $4 AND satisfied_at < $5))
ORDER BY contact_id LIMIT $6
"""
# Messages without a batch are published by the worker's sweep at once, in their order.
_LEAVE_TO_SWEEP: Final = "UPDATE outbox SET batch_id = NULL WHERE batch_id = $1"


class Result(Struct, frozen=True):
    """`result` of a backfill: contacts with kept events, hits whether known before or not, and what is new by them."""

    contacts: int = 0
    hits: int = 0
    achieved: int = 0
    exits: int = 0


class _Cursor(Struct, frozen=True):
    """Last finished slice: its contact, in the first part, which counts hits, or in the second one."""

    after: str = ""
    is_counted: bool = False
    result: Result = Result()


_CURSOR: Final = json.Decoder(_Cursor)


class Kafka(Struct, frozen=True):
    """Questions about Kafka: whether history has everything that is there now, and how far the worker lags."""

    await_history: Callable[[], Awaitable[None]]
    lag: Callable[[], Awaitable[int]]


class Backfills:
    """Runner of backfills."""

    def __init__(self, pool: AsyncEngine, kafka: Kafka, *, tracking: bool, lateness: timedelta) -> None:
        self._pool, self._kafka = pool, kafka
        self._tracking, self._lateness = tracking, lateness

    async def run(self, job: jobs.Job, advance: Advance) -> bytes:
        """Count the kept events of a job's goal, and judge whom they concern."""
        # The worker may have taken records, before the goal counted them, that history has not read yet.
        await self._kafka.await_history()
        backfill = _Backfill(self._pool, job, advance, tracking=self._tracking, lateness=self._lateness)
        return json.encode(await backfill.run(self._kafka.lag))


class _Backfill:
    """One backfill, from the cursor of its job on."""

    def __init__(
        self, pool: AsyncEngine, job: jobs.Job, advance: Advance, *, tracking: bool, lateness: timedelta
    ) -> None:
        self._pool, self._job, self._advance = pool, job, advance
        self._tracking, self._lateness = tracking, lateness
        self._since, self._until = _moment(job.request["from"]), _moment(job.request["until"])
        self._index = index.Index()
        self._of = 0
        self._reached = _Cursor() if job.cursor is None else _CURSOR.decode(job.cursor)

    async def run(self, lag: Callable[[], Awaitable[int]]) -> Result:
        """Count and judge slice by slice, while the worker does not lag."""
        goal = await self._load()
        tenant_id, workflow_id = self._job.tenant_id, self._job.workflow_id
        if not self._reached.is_counted:
            span = (self._since, self._until, events.GOAL_TYPE_TABLE[goal.goal_type].event_type)
            self._of = await self._count_contacts(*span)
            await self._advance(self._reached.result.contacts, self._of, self._job.cursor)
            while contacts := await self._next(_CONTACTS, tenant_id, self._reached.after, *span):
                async with _yielding(lag):
                    counted = await self._count_slice(goal, contacts)
                    await self._move(contacts, structs.replace(counted, contacts=len(contacts)))
            self._reached = _Cursor("", True, self._reached.result)
        if self._job.request["exits"] or any(version.logic == "all" for version in self._workflow().logics):
            key = (tenant_id, workflow_id)
            while contacts := await self._next(_TOUCHED, *key, self._reached.after, self._since, self._until):
                async with _yielding(lag):
                    await self._move(contacts, await self._judge(contacts, ()))
        return self._reached.result

    async def _load(self) -> goals.Goal:
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "facts") as connection:
            await self._refresh(connection)
        goal = self._workflow().goals_by_id.get(self._goal_id())
        if goal is None:
            raise RefusedJobError(f"Goal {self._job.goal_id} does not exist")
        return goal

    def _goal_id(self) -> UUID:
        if self._job.goal_id is None:
            raise RefusedJobError("The backfill names no goal")
        return self._job.goal_id

    def _workflow(self) -> goals.Workflow:
        return self._index.workflow(self._job.tenant_id, self._job.workflow_id)

    async def _refresh(self, connection: connections.Connection) -> None:
        """Load the workflow, as of a revision that is read first: a later change is loaded now or the next time."""
        key = (self._job.tenant_id, self._job.workflow_id)
        revision = await goal_store.get_revision(connection)
        workflow = await goal_store.load_workflow(connection, *key)
        self._index.replace(workflow.goals, {key: workflow.logics}, revision)

    # --- slices ---

    async def _count_contacts(self, *span: object) -> int:
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "facts") as connection:
            return int(await connection.fetchval(_COUNT, self._job.tenant_id, *span))

    async def _next(self, sql: str, *values: object) -> list[str]:
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "facts") as connection:
            return [row[0] for row in await connection.fetch(sql, *values, SLICE_CONTACTS)]

    async def _move(self, contacts: Sequence[str], judged: Result) -> None:
        """Write the cursor after a slice, with what has come of everything so far."""
        sums = (one + other for one, other in zip(_values(self._reached.result), _values(judged), strict=True))
        result = Result(*sums)
        self._reached = structs.replace(self._reached, after=contacts[-1], result=result)
        self._of = max(self._of, result.contacts)
        await self._advance(result.contacts, self._of, json.encode(self._reached).decode())

    async def _count_slice(self, goal: goals.Goal, contacts: Sequence[str]) -> Result:
        hits = await self._record(goal, await self._kept(contacts))
        if not hits:
            return Result()
        return structs.replace(await self._judge({hit.contact_id for hit in hits}, hits), hits=len(hits))

    async def _kept(self, contacts: Sequence[str]) -> list[events.Event]:
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "facts") as connection:
            kept = await history.events_of_contacts(
                connection, self._job.tenant_id, contacts, since=self._since, until=self._until
            )
        return [one.event for of_contact in kept.values() for one in of_contact]

    async def _record(self, goal: goals.Goal, kept: Sequence[events.Event]) -> list[facts.Hit]:
        """Record the hits of a goal as the worker does: no goal changes meanwhile (design, Goal freshness)."""
        lock = recording.lock_goals(self._index.revision)
        async with connections.begin(self._pool, tables.WORKER_ROLE, "facts", lock) as (connection, tag):
            if tag != recording.NOTHING_NEWER:
                await self._refresh(connection)
            hits = [hit for hit in matching.all_hits(kept, self._index) if hit.goal_id == goal.goal_id]
            if hits:
                await recording.record(connection, hits, (), (), tracking=self._tracking, lateness=self._lateness)
        return hits

    async def _judge(self, contacts: Collection[str], hits: Sequence[facts.Hit]) -> Result:
        keys = [(self._job.tenant_id, self._job.workflow_id, contact_id) for contact_id in contacts]
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "judge") as connection:
            judged = await judgements.judge_contacts(
                connection, keys, hits, self._index, self._refresh, tracking=self._tracking
            )
            if judged.messages:
                await connection.execute(_LEAVE_TO_SWEEP, judged.batch_id)
        counts: Counter[str] = Counter()
        for (kind, _), count in judged.counts.items():
            counts[kind] += count
        return Result(0, 0, counts["achieved"], counts["exit"])


def _values(result: Result) -> tuple[int, ...]:
    return structs.astuple(result)


@asynccontextmanager
async def _yielding(lag: Callable[[], Awaitable[int]]) -> AsyncIterator[None]:
    """Do a slice once the worker does not lag, and rest as long as it took: the database is the worker's first."""
    while await lag() > LAG_MAX:  # noqa: ASYNC110 - Kafka is asked, and nobody tells
        await asyncio.sleep(WAIT_SECONDS)
    began = time.monotonic()
    yield
    await asyncio.sleep(time.monotonic() - began)


def _moment(text: str) -> datetime:
    moment = parse_time(text)
    if moment is None:
        raise RefusedJobError(f"{text!r} is not a time")
    return moment
