"""The phases of a batch: facts, judge, publish. Every attempt begins at facts (design, Why it replays safely)."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.decoding.decoder import Decoder
from goalworker.domain import events, facts
from goalworker.goal_index import index
from goalworker.kafka.delivery import TOO_LARGE, Delivery, Refusal
from goalworker.kafka.records import Record
from goalworker.kafka.sender import Sender
from goalworker.pipeline import batches, dead_letters, judgements, outbox, recording
from goalworker.pipeline.judgements import Judged
from goalworker.pipeline.recording import Recorded
from goalworker.postgres import connections, database_errors, tables
from goalworker.stores import cell_store, goal_store

log = logs.get("worker")

# Contacts judged in one transaction, at most: a larger one would hold its locks for too long.
JUDGE_CONTACTS_MAX: Final = 5_000
# The same for an activation, which may send many more exits than a batch has contacts.
STATE_SLICE_CONTACTS: Final = 1_000
UNSTORABLE: Final = "unstorable"
CONFLICTING_ENROLLMENT: Final = "conflicting_enrollment"
CONFLICT: Final = "/data/enrollment_id: is known with another workflow or contact"
# Reasons of dead letters that only the database finds, after their records were admitted.
FOUND_LATE: Final = frozenset({UNSTORABLE, CONFLICTING_ENROLLMENT})


class Phases:
    """The three phases of a batch; the caller repeats the ones that fail with a transient error."""

    def __init__(
        self,
        settings: config.Settings,
        pool: AsyncEngine,
        sender: Sender,
        goal_index: index.Index,
        decoder: Decoder | None = None,
    ) -> None:
        self._pool = pool
        self._buckets = settings.cell.buckets
        self._decoder = decoder
        self._sender = sender
        self._index = goal_index
        self._refreshing = asyncio.Lock()
        self._tracking = settings.enrollments.tracking
        self._lateness = settings.events.lateness
        self._group_id = settings.kafka.group_id
        self._topics: Mapping[str, str] = settings.topics.model_dump()
        self._acknowledged: set[bytes] = set()  # values of judgements that are published in part
        self._unpublished: dict[UUID, float] = {}  # outbox batches of judgements, and when each was committed

    async def record(self, batch: batches.Batch) -> Recorded:
        """Record the facts of a batch; events that the database refuses become dead letters of the batch."""
        if not batch.records:
            return Recorded()
        with _stage("facts"):
            return await self._record(batch)

    async def send_letters(self, batch: batches.Batch) -> None:
        """Send the dead letters of a batch that were not sent yet."""
        while batch.letters_sent < len(batch.letters):
            if batch.delivery is None:
                records = [self._letter_of(letter) for letter in batch.letters[batch.letters_sent :]]
                batch.delivery = Delivery(records)
            letters = batch.letters[batch.letters_sent : batch.letters_sent + batch.delivery.total]
            await self._deliver(batch.delivery, letters)
            batch.letters_sent, batch.delivery = batch.letters_sent + len(letters), None
            _count_letters(letters)

    async def judge(self, batch: batches.Batch) -> AsyncGenerator[Judged]:
        """Judge the contacts of a recorded batch, a slice of them in each transaction.

        After a transient error the batch is recorded again first: after a failover the database may lack its facts.
        """
        contacts = _contacts(batch, tracking=self._tracking)
        reversed_ = _reversed_contacts(batch) if batch.has_reversals else ()
        for start in range(0, max(len(contacts), len(reversed_)), JUDGE_CONTACTS_MAX):
            end = start + JUDGE_CONTACTS_MAX
            yield await self._judge(contacts[start:end], reversed_[start:end], batch)

    async def judge_activated_workflows(self, batch: batches.Batch) -> AsyncGenerator[Judged]:
        """Judge the enrollments whose exit waits for an activation of a recorded batch, as judge() does its own."""
        for workflow_key in _activated(batch):
            async with connections.transaction(self._pool, tables.WORKER_ROLE, "judge") as connection:
                await judgements.await_waiting(connection, workflow_key)
            after: str | None = ""
            while after is not None:
                judged, after = await self._judge_after(workflow_key, after)
                if judged is not None:
                    yield judged

    async def publish(self, judged: Sequence[Judged]) -> None:
        """Publish the messages of judgements that were committed."""
        with _stage("publish"):
            outgoing = {part.batch_id: part.messages for part in judged if part.messages}
            if outgoing:
                await outbox.publish(self._pool, self._sender, self._topics, outgoing, self._acknowledged)
            for batch_id in outgoing:
                self._unpublished.pop(batch_id, None)

    async def claim(self) -> None:
        """Keep judgements that take long to publish from the sweepers, which would send them once more."""
        before = time.monotonic() - outbox.CLAIM_SECONDS
        if slow := [batch_id for batch_id, since in self._unpublished.items() if since < before]:
            await outbox.claim(self._pool, slow)

    async def refresh(self, connection: connections.Connection) -> None:
        """Load the goals that changed since they were last loaded.

        One refresh at a time: of two, the one that read first could put an older version of a goal over a newer one.
        """
        async with self._refreshing:
            await goal_store.refresh_index(connection, self._index, lambda: self._read_cell(connection))
        metrics.goals_loaded.set(len(self._index))
        metrics.goals_loaded_timestamp_seconds.set_to_current_time()

    async def _read_cell(self, connection: connections.Connection) -> None:
        """Read which tenants were moved; a replay has no decoder of ours, and takes one tenant."""
        if self._decoder is not None:
            self._decoder.cell = await cell_store.judged(connection, self._buckets)

    # --- 1 FACTS ---

    async def _record(self, batch: batches.Batch) -> Recorded:
        """Record the facts; an event that the database refuses for its content is found by halving (hazard 17)."""
        recorded, parts = Recorded(), [batch.whole()]
        while parts:
            part, cell = parts.pop(), batch.cell
            try:
                async with self._facts_transaction(batch) as connection:
                    if part.revision != batch.revision or cell is not batch.cell:  # what matches only now is in no part
                        part, parts = batch.whole(), []
                    result = await self._record_part(connection, part, batch)
            except database_errors.UNSTORABLE as error:
                if len(part.items) > 1:
                    parts += reversed(part.halves(self._index))
                else:
                    refused = {facts.event_key(part.items[0][2])}
                    batch.refuse(refused, UNSTORABLE, f"the database refuses it: {type(error).__name__}")
                    parts = [rest for rest in (part.without(refused) for part in parts) if rest.items]
            else:
                if result.conflicts:
                    batch.refuse(result.conflicts, CONFLICTING_ENROLLMENT, CONFLICT)
                recorded = recorded.merged(result)
        return recorded

    @asynccontextmanager
    async def _facts_transaction(self, batch: batches.Batch) -> AsyncIterator[connections.Connection]:
        """Begin a transaction in which no goal changes, with the batch matched against the goals as they are."""
        lock = recording.lock_goals(self._index.revision)
        async with connections.begin(self._pool, tables.WORKER_ROLE, "facts", lock) as (connection, tag):
            if tag != recording.NOTHING_NEWER:
                await self.refresh(connection)
            if batch.cell is not batch.decoder.cell:
                batch.decode_again(self._index, self._topics["redrive"])
            if batch.revision != self._index.revision:
                batch.match(self._index)
            yield connection

    async def _record_part(
        self, connection: connections.Connection, part: batches.Part, batch: batches.Batch
    ) -> Recorded:
        lifecycle = _of_types(part, events.LIFECYCLE_TYPES) if batch.has_lifecycle else ()
        reversals = _of_types(part, events.REVERSAL_TYPES) if batch.has_reversals else ()
        if not (part.hits or lifecycle or reversals):
            return Recorded()
        return await recording.record(
            connection, part.hits, lifecycle, reversals, tracking=self._tracking, lateness=self._lateness
        )

    # --- dead letters ---

    async def _deliver(self, delivery: Delivery, letters: Sequence[dead_letters.DeadLetter]) -> None:
        await self._sender.deliver(delivery)
        for number, refusal in list(delivery.refused.items()):
            delivery.replace(number, self._shortened(letters[number], refusal))
        await self._sender.deliver(delivery)
        for refusal in delivery.refused.values():
            raise refusal.error

    def _letter_of(self, letter: dead_letters.DeadLetter) -> Record:
        redriven = letter.record.topic == self._topics["redrive"]
        return dead_letters.record_of(letter, self._topics["dead_letters"], self._group_id, redriven=redriven)

    def _shortened(self, letter: dead_letters.DeadLetter, refusal: Refusal) -> Record:
        """Return a letter that is small enough, without the value: the original record stays in its topic."""
        if refusal.reason != TOO_LARGE:
            raise refusal.error
        log.error(
            "dead_letter_without_value",
            topic=letter.record.topic,
            partition=letter.record.partition,
            offset=letter.record.offset,
            size_bytes=refusal.size,
            limit_bytes=refusal.limit,
        )
        return self._letter_of(dead_letters.shortened(letter))

    # --- 2 JUDGE ---

    async def _judge(
        self,
        contacts: Sequence[facts.ContactKey],
        reversed_: Sequence[facts.PersonKey],
        batch: batches.Batch,
    ) -> Judged:
        with _stage("judge"):
            async with connections.transaction(self._pool, tables.WORKER_ROLE, "judge") as connection:
                if reversed_:
                    contacts = [*contacts, *await judgements.enrolled_contacts(connection, reversed_)]
                judged = await judgements.judge_contacts(
                    connection,
                    contacts,
                    batch.hits,
                    self._index,
                    self.refresh,
                    tracking=self._tracking,
                    timestamps=lambda: batch.timestamps_of_hits(self._topics["redrive"]),
                    reversals=_reversals(batch) if reversed_ else {},
                )
        self._note(judged)
        return judged

    async def _judge_after(self, workflow_key: facts.WorkflowKey, after: str) -> tuple[Judged | None, str | None]:
        """Judge the next slice of a workflow's waiting exits; return it and its last contact, None at the end."""
        async with connections.transaction(self._pool, tables.WORKER_ROLE, "judge") as connection:
            contacts = await judgements.waiting_contacts(connection, workflow_key, after, STATE_SLICE_CONTACTS)
            if not contacts:
                return None, None
            judged = await judgements.judge_contacts(
                connection, contacts, (), self._index, self.refresh, tracking=self._tracking
            )
        self._note(judged)
        return judged, contacts[-1][2]

    def _note(self, judged: Judged) -> None:
        _count(judged)
        if judged.messages:
            self._unpublished[judged.batch_id] = time.monotonic()


def _count_letters(letters: Sequence[dead_letters.DeadLetter]) -> None:
    for letter in letters:
        metrics.dead_letters_total.labels(topic=letter.record.topic, reason=letter.reason).inc()
    sample = letters[0]
    log.warning(
        "dead_letters",
        records=len(letters),
        reason=sample.reason,
        topic=sample.record.topic,
        partition=sample.record.partition,
        offset=sample.record.offset,
    )


_COUNTERS: Final = {
    "achieved": metrics.achievements_total,
    "revised": metrics.achievements_revised_total,
    "revoked": metrics.achievements_revoked_total,
    "exit": metrics.exits_total,
}


def _count(judged: Judged) -> None:
    for (kind, label), count in judged.counts.items():
        _COUNTERS[kind].labels(label).inc(count)


@contextmanager
def _stage(stage: str) -> Iterator[None]:
    with metrics.batch_duration_seconds.labels(stage=stage).time():
        yield


def _contacts(batch: batches.Batch, *, tracking: bool) -> list[facts.ContactKey]:
    """Return the contacts of a batch, also where its facts were recorded before: a crash may have prevented judging."""
    contacts = {(hit.tenant_id, hit.workflow_id, hit.contact_id) for hit in batch.hits}
    if tracking and batch.has_lifecycle:
        contacts.update(
            (event.tenant_id, event.data.workflow_id, event.data.contact_id)
            for *_, event in batch.items
            if isinstance(event.data, events.EnrollmentChanged)
        )
    return sorted(contacts)


def _of_types(part: batches.Part, types: Collection[str]) -> list[events.Event]:
    return [event for *_, event in part.items if event.type in types]


def _reversals(batch: batches.Batch) -> dict[facts.EventKey, facts.SubjectKey]:
    """Return the reversals of a batch, with what they undo."""
    return {
        facts.event_key(event): (event.tenant_id, event.data.contact_id, facts.reversal_of(event).subject_id)
        for *_, event in batch.items
        if isinstance(event.data, events.ReversalData)
    }


def _reversed_contacts(batch: batches.Batch) -> list[facts.PersonKey]:
    found = {
        (event.tenant_id, event.data.contact_id)
        for *_, event in batch.items
        if isinstance(event.data, events.ReversalData)
    }
    return sorted(found)


def _activated(batch: batches.Batch) -> list[facts.WorkflowKey]:
    """Return the workflows with an activation: no other state sends an exit that waits (contract rule 3.4)."""
    found = {
        (event.tenant_id, event.data.workflow_id)
        for *_, event in (batch.items if batch.has_lifecycle else ())
        if event.type == events.WORKFLOW_ACTIVATED and isinstance(event.data, events.WorkflowChanged)
    }
    return sorted(found)
