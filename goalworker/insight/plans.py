"""Plans: enrollments judged over the kept history, as if their workflow had other goals (contract section 7)."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Final

from msgspec import Struct, json, structs
from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker.domain import events, evidence, facts, goals, occurrences, plan_tally, planning, revenue
from goalworker.goal_index import index, matching
from goalworker.insight.jobs import Advance
from goalworker.pipeline import fact_reading
from goalworker.postgres import connections, tables
from goalworker.stores import enrollment_walk, goal_store, history, jobs, plan_requests

# Enrollments judged together: more save round trips, and fewer let other tasks run sooner.
SLICE_ENROLLMENTS: Final = 2_000
# Contacts judged at a time, some ten milliseconds; then other tasks take their turn.
_STEP_CONTACTS: Final = 200
# Seconds that the snapshot may idle while a slice is judged and its progress is written.
_IDLE_SECONDS: Final = 60
_PIN: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'; SET LOCAL jit = off"
)
_FRESH_AS_OF: Final = "SELECT CASE WHEN bool_and(judged_until IS NOT NULL) THEN min(judged_until) END FROM progress"


class Coverage(Struct, frozen=True):
    """Span that the plan could see: complete if every event was kept since the plan counts and enrollments began.

    Events that arrived from history_until on were not kept yet; it is None where they were kept within a minute.
    """

    history_from: datetime | None
    history_until: datetime | None
    fresh_as_of: datetime | None
    complete: bool


class Sampled(Struct, frozen=True):
    """Number of enrollments that were drawn evenly, and of how many."""

    drawn: int
    of: int


class Result(Struct, frozen=True):
    """`result` of a plan (contract section 7)."""

    enrollments: int
    events: int
    per_goal: tuple[plan_tally.OfGoal, ...]
    would_exit: int
    compared: plan_tally.Compared
    revenue: revenue.Revenue
    sampled: Sampled | None
    coverage: Coverage
    plan_hash: str


class Plans:
    """Runner of plans; each sees the database as it was when it began."""

    def __init__(self, pool: AsyncEngine, *, tracking: bool) -> None:
        self._pool, self._tracking = pool, tracking

    async def run(self, job: jobs.Job, advance: Advance) -> bytes:
        """Judge the enrollments of a job's workflow by its goals, and return the result as JSON."""
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "plan", first=_PIN) as connection:
            plan = await _Plan.of(connection, job, tracking=self._tracking)
            return json.encode(await plan.result(advance))


class _Slice(Struct, frozen=True):
    """Enrollments by contact, with the kept events and the facts of these contacts."""

    contacts: enrollment_walk.Contacts
    kept: Mapping[str, Sequence[history.KeptEvent]]
    facts: fact_reading.Facts


class _Plan:
    """A plan, pinned to the snapshot of its connection."""

    def __init__(
        self,
        connection: connections.Connection,
        job: jobs.Job,
        workflow: goals.Workflow,
        covered: history.Coverage,
        now: datetime,
        *,
        tracking: bool,
    ) -> None:
        self._connection, self._job, self._tracking = connection, job, tracking
        self._key = (job.tenant_id, job.workflow_id)
        self._workflow, self._covered, self._now = workflow, covered, now
        self._since = plan_requests.since_of(job.request) or covered.history_from or now
        self._planned = planning.planned(
            self._key, workflow, plan_requests.proposal_of(job.request, workflow), self._since
        )
        self._index = index.Index()
        self._index.replace(self._planned.workflow.goals, {self._key: self._planned.workflow.logics}, revision=1)
        self._earliest: datetime | None = None

    @classmethod
    async def of(cls, connection: connections.Connection, job: jobs.Job, *, tracking: bool) -> "_Plan":
        """Return the plan of a job."""
        workflow = await goal_store.load_workflow(connection, job.tenant_id, job.workflow_id)
        covered = await history.coverage(connection, job.tenant_id)
        now: datetime = await connection.fetchval("SELECT now()")
        return cls(connection, job, workflow, covered, now, tracking=tracking)

    async def result(self, advance: Advance) -> Result:
        """Judge every enrollment, or the sample."""
        walk = enrollment_walk.Walk(self._connection, self._key, tracking=self._tracking)
        total, size = await walk.count(), self._job.request["sample"]
        of = total if size is None else min(size, total)
        await advance(0, of)
        states = await fact_reading.states_of(self._connection, self._key)
        tally = plan_tally.Tally(
            self._planned, partial(matching.hits, goal_index=self._index), states, tracking=self._tracking
        )
        done = 0
        async with aclosing(self._slices(walk, None if of == total else size)) as slices:
            async for one in slices:
                await self._add(tally, one)
                done += sum(map(len, one.contacts))
                await advance(min(done, of), of)
        tallied = tally.result()
        return Result(
            **structs.asdict(tallied),
            sampled=None if of == total else Sampled(tallied.enrollments, total),
            coverage=await self._coverage(),
            plan_hash=self._hash(),
        )

    async def _slices(self, walk: enrollment_walk.Walk, size: int | None) -> AsyncGenerator["_Slice", None]:
        """Yield the slices; the database reads the next one while one is judged."""
        drawn = None if size is None else await walk.sample(size)

        async def read(start: int, after: str) -> _Slice | None:
            if drawn is not None:
                contacts = drawn[start : start + SLICE_ENROLLMENTS]
            else:
                contacts = await walk.after(after, SLICE_ENROLLMENTS)
            return await self._read(contacts) if contacts else None

        start, reading = 0, asyncio.create_task(read(0, ""))
        try:
            while (one := await reading) is not None:
                start += len(one.contacts)
                reading = asyncio.create_task(read(start, one.contacts[-1][0].contact_id))
                yield one
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, contacts: enrollment_walk.Contacts) -> "_Slice":
        enrollments = [one for own in contacts for one in own]
        names = [own[0].contact_id for own in contacts]
        kept = await history.events_of_contacts(self._connection, self._job.tenant_id, names)
        subjects = partial(_subjects, self._job.tenant_id, kept)
        known = await fact_reading.read(self._connection, enrollments, (), self._index, _keep_goals, subjects)
        return _Slice(contacts, kept, known)

    async def _add(self, tally: plan_tally.Tally, one: "_Slice") -> None:
        for number, own in enumerate(one.contacts, 1):
            if number % _STEP_CONTACTS == 0:  # the history of the same process goes on meanwhile
                await asyncio.sleep(0)
            events_ = [kept.event for kept in one.kept[own[0].contact_id]]
            tally.add(self._contact(own, events_, one.facts))
        began = [each.enrolled_at for own in one.contacts for each in own if each.enrolled_at is not None]
        self._earliest = min([*began, *([] if self._earliest is None else [self._earliest])], default=None)

    def _contact(
        self, own: list[facts.Enrollment], kept: list[events.Event], known: fact_reading.Facts
    ) -> plan_tally.Contact:
        """Return a contact with the events that are kept, and those that live judgements know besides."""
        tenant_id, contact_id = self._job.tenant_id, own[0].contact_id
        stored = {
            one.enrollment_id: achieved
            for one in own
            if (achieved := known.achievements.get(facts.enrollment_key(one)))
        }
        hits = known.hits.get((*self._key, contact_id), [])
        reversals = {(one.source, one.id): one for one in known.reversals.get((tenant_id, contact_id), ())}
        for event in kept:
            if event.type in events.REVERSAL_TYPES:
                reversals.setdefault((event.source, event.id), facts.reversal_of(event))
        return plan_tally.Contact(
            own,
            kept,
            self._evidence(own, stored, hits, kept) if hits or stored else (),
            list(reversals.values()),
            stored,
        )

    def _evidence(
        self,
        own: Iterable[facts.Enrollment],
        stored: dict[str, list[facts.Achievement]],
        hits: list[facts.Hit],
        kept: Iterable[events.Event],
    ) -> list[events.Event]:
        seen = {(event.source, event.id) for event in kept}
        found: list[events.Event] = []
        for enrollment in own:
            for hit in evidence.hits_of(enrollment, stored.get(enrollment.enrollment_id, ()), hits):
                trigger, goal = hit.trigger, self._workflow.goals_by_id.get(hit.goal_id)
                if (trigger.source, trigger.id) not in seen and goal is not None:
                    seen.add((trigger.source, trigger.id))
                    event_type = events.GOAL_TYPE_TABLE[goal.goal_type].event_type
                    found.append(facts.event_of(enrollment.tenant_id, event_type, trigger))
        return found

    async def _coverage(self) -> Coverage:
        fresh_as_of = await self._connection.fetchval(_FRESH_AS_OF)
        began = self._since if self._earliest is None else max(self._since, self._earliest)
        history_from, until = self._covered.history_from, self._covered.missing_from(self._now)
        is_complete = history_from is not None and history_from <= began and until is None
        return Coverage(history_from, until, fresh_as_of, is_complete)

    def _hash(self) -> str:
        live = [goal for goal in self._workflow.goals if goal.versions[-1].active_to is None]
        versions = {goal.goal_id: goal.versions[-1].number for goal in live}
        logic = self._workflow.logics[-1].logic if self._workflow.logics else goals.DEFAULT_LOGIC
        return planning.plan_hash(self._job.workflow_id, versions, logic, self._job.request)


def _subjects(
    tenant_id: str, kept: Mapping[str, Sequence[history.KeptEvent]], people: Collection[facts.PersonKey]
) -> Iterator[facts.SubjectKey]:
    """Yield what reversals of people may concern among the kept events, which the plan judges like hits."""
    for _, contact_id in people:
        for one in kept[contact_id]:
            for name in occurrences.names_of(facts.trigger_of(one.event).data):
                yield (tenant_id, contact_id, name)


async def _keep_goals(_connection: connections.Connection) -> None:
    """Judge by the planned goals, whatever the revision."""
