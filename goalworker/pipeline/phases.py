"""A batch through the phases: facts, judge, publish. Every attempt begins at facts (design, Why it replays safely)."""

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from goalworker import config, logs, metrics
from goalworker.domain import events
from goalworker.goal_index import index, matching
from goalworker.kafka.records import Record
from goalworker.kafka.sender import TOO_LARGE, Delivery, Refusal, Sender
from goalworker.pipeline import batches, dead_letters, judgements, outbox, recording
from goalworker.postgres import connections, database_errors, tables
from goalworker.stores import goal_store

log = logs.get("worker")

# So many contacts are judged in one transaction at most: the locks of a larger one would be held for too long.
JUDGE_CONTACTS_MAX: Final = 5_000
STATE_SLICE_CONTACTS: Final = 1_000
UNSTORABLE: Final = "unstorable"
CONFLICTING_ENROLLMENT: Final = "conflicting_enrollment"
# Why a record is a dead letter that only the database could tell: not before it was admitted.
FOUND_LATE: Final = frozenset({UNSTORABLE, CONFLICTING_ENROLLMENT})


class Phases:
    """Takes batches to the database and tells the others what came of them."""

    def __init__(self, settings: config.Settings, pool: AsyncEngine, sender: Sender, goal_index: index.Index) -> None:
        self._pool = pool
        self._sender = sender
        self._index = goal_index
        self._refreshing = asyncio.Lock()
        self._tracking = settings.enrollments.tracking
        self._group_id = settings.kafka.group_id
        self._topics: Mapping[str, str] = settings.topics.model_dump()
        self._acknowledged: set[bytes] = set()  # of what is not published as a whole yet
        self._unpublished: dict[UUID, float] = {}  # the outbox batches of judgements, and since when

    async def record(self, batch: batches.Batch) -> None:
        """Record the facts and dead-letter the rest; raises what is for later, and then is to be called again."""
        if batch.records:
            with _stage("facts"):
                await self._record(batch)
        await self._send_letters(batch)

    async def judge(self, batch: batches.Batch, written: list[judgements.Written]) -> None:
        """Judge whom a recorded batch is about, and add to what is to be published.

        Raises what is for later, and then both are to be called again: a retry begins at facts.
        """
        contacts = _contacts(batch, tracking=self._tracking)
        for start in range(0, len(contacts), JUDGE_CONTACTS_MAX):
            written.append(await self._judge(contacts[start : start + JUDGE_CONTACTS_MAX], batch))
        for (tenant_id, workflow_id), since in _changed_states(batch).items():
            await self._judge_workflow(tenant_id, workflow_id, since, written)

    async def publish(self, written: list[judgements.Written]) -> None:
        """Tell what was judged; raises what is for later, and then is to be called again."""
        with _stage("publish"):
            told = {each.batch_id: each.messages for each in written if each.messages}
            if told:
                await outbox.publish(self._pool, self._sender, self._topics, told, self._acknowledged)
            for batch_id in told:
                self._unpublished.pop(batch_id, None)
            written.clear()

    async def claim(self) -> None:
        """Keep what takes long to publish from the sweepers: they would send it once more."""
        before = time.monotonic() - outbox.CLAIM_SECONDS
        if slow := [batch_id for batch_id, since in self._unpublished.items() if since < before]:
            await outbox.claim(self._pool, slow)

    async def refresh(self, connection: connections.Connection) -> None:
        """Load what changed of the goals since they were last loaded.

        One at a time: of two, the one that read first could put an older version of a goal over a newer one.
        """
        async with self._refreshing:
            await goal_store.refresh_index(connection, self._index)
        metrics.goals_loaded.set(len(self._index))
        metrics.goals_loaded_timestamp_seconds.set_to_current_time()

    # --- 1 FACTS ---

    async def _record(self, batch: batches.Batch) -> None:
        """Record the facts; an event that the database refuses for its content is found by halving (hazard 17)."""
        parts = [batch.items]
        while parts:
            items, revision = parts.pop(), batch.revision
            is_whole = items is batch.items
            try:
                await self._record_at_once(batch, items)
            except database_errors.UNSTORABLE as error:
                items = batch.items if is_whole else items  # which the goals may have added to
                if len(items) > 1:
                    parts += (items[len(items) // 2 :], items[: len(items) // 2])
                else:
                    refused = {batches.event_key(items[0][2])}
                    # However often it is in the batch: nothing meets it again.
                    sentence = f"the database refuses it: {type(error).__name__}"
                    _refuse(batch, batch.items, refused, UNSTORABLE, sentence)
                    parts = [rest for part in parts if (rest := batches.without(refused, part))]
            if batch.revision != revision and not is_whole:  # what could not match may match now, and is in no part
                parts = [batch.items]

    async def _record_at_once(self, batch: batches.Batch, items: Sequence[batches.Item]) -> None:
        lock = recording.lock_goals(self._index.revision)
        async with connections.begin(self._pool, tables.WORKER_ROLE, "facts", lock) as (connection, tag):
            if tag != recording.NOTHING_NEWER:
                await self.refresh(connection)
            is_whole = items is batch.items
            if batch.revision != self._index.revision:
                batch.match(self._index)
                if not is_whole:
                    return  # to begin anew
                items = batch.items
            hits = batch.hits if is_whole else matching.all_hits((event for *_, event in items), self._index)
            lifecycle = (
                [event for *_, event in items if event.type in events.LIFECYCLE_TYPES] if batch.has_lifecycle else []
            )
            if not hits and not lifecycle:
                return
            recorded = await recording.record(connection, hits, lifecycle, tracking=self._tracking)
        batch.new_facts |= recorded.new_events
        batch.new_enrollments |= recorded.new_enrollments
        if recorded.conflicts:
            sentence = "/data/enrollment_id: is known with another workflow or contact"
            _refuse(batch, items, recorded.conflicts, CONFLICTING_ENROLLMENT, sentence)

    async def _send_letters(self, batch: batches.Batch) -> None:
        while batch.letters_sent < len(batch.letters):
            if batch.delivery is None:
                records = [self._letter_of(letter) for letter in batch.letters[batch.letters_sent :]]
                batch.delivery = Delivery(records)
            delivery = batch.delivery
            await self._sender.deliver(delivery)
            letters = batch.letters[batch.letters_sent : batch.letters_sent + delivery.total]
            for number, refusal in list(delivery.refused.items()):
                delivery.replace(number, self._shortened(letters[number], refusal))
            await self._sender.deliver(delivery)
            for refusal in delivery.refused.values():
                raise refusal.error
            batch.letters_sent, batch.delivery = batch.letters_sent + delivery.total, None
            _count_letters(letters)

    def _letter_of(self, letter: dead_letters.DeadLetter) -> Record:
        redriven = letter.record.topic == self._topics["redrive"]
        return dead_letters.record_of(letter, self._topics["dead_letters"], self._group_id, redriven=redriven)

    def _shortened(self, letter: dead_letters.DeadLetter, refusal: Refusal) -> Record:
        """Return a letter without what makes it too large: the record itself stays where it was read."""
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

    async def _judge(self, contacts: Sequence[judgements.ContactKey], batch: batches.Batch) -> judgements.Written:
        with _stage("judge"):
            async with connections.transaction(self._pool, tables.WORKER_ROLE, "judge") as connection:
                written = await judgements.judge_contacts(
                    connection,
                    contacts,
                    batch.hits,
                    self._index,
                    self.refresh,
                    tracking=self._tracking,
                    timestamps=lambda: batch.timestamps_of_hits(self._topics["redrive"]),
                )
        self._note(written)
        return written

    def _note(self, written: judgements.Written) -> None:
        _count(written)
        if written.messages:
            self._unpublished[written.batch_id] = time.monotonic()

    async def _judge_workflow(
        self, tenant_id: str, workflow_id: str, since: datetime, told: list[judgements.Written]
    ) -> None:
        """Judge whom a state of a workflow may concern, in slices, each its own transaction."""
        after = ""
        while True:
            async with connections.transaction(self._pool, tables.WORKER_ROLE, "judge") as connection:
                contacts = await judgements.contacts_from(
                    connection, tenant_id, workflow_id, since, after, STATE_SLICE_CONTACTS
                )
                if not contacts:
                    return
                written = await judgements.judge_contacts(
                    connection, contacts, (), self._index, self.refresh, tracking=self._tracking
                )
            self._note(written)
            told.append(written)
            await self.publish(told)  # at once: of a large workflow there may be many slices
            after = contacts[-1][2]


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


def _count(written: judgements.Written) -> None:
    for (kind, label), count in written.counts.items():
        _COUNTERS[kind].labels(label).inc(count)


def _refuse(
    batch: batches.Batch,
    items: Iterable[batches.Item],
    refused: Collection[batches.EventKey],
    reason: str,
    sentence: str,
) -> None:
    """Make dead letters of the items that are these events, and leave the events out."""
    for partition, record, event in items:
        if batches.event_key(event) in refused:
            batch.letters.append(dead_letters.letter(partition, record, reason, sentence))
    batch.drop(refused)


@contextmanager
def _stage(stage: str) -> Iterator[None]:
    with metrics.batch_duration_seconds.labels(stage=stage).time():
        yield


def _contacts(batch: batches.Batch, *, tracking: bool) -> list[judgements.ContactKey]:
    """Return whom the batch is about, also where its facts were there already: a crash may have come before judging."""
    contacts = {(hit.tenant_id, hit.workflow_id, hit.contact_id) for hit in batch.hits}
    if tracking and batch.has_lifecycle:
        contacts.update(
            (event.tenant_id, event.data.workflow_id, event.data.contact_id)
            for *_, event in batch.items
            if isinstance(event.data, events.EnrollmentChanged)
        )
    return sorted(contacts)


def _changed_states(batch: batches.Batch) -> dict[tuple[str, str], datetime]:
    changed: dict[tuple[str, str], datetime] = {}
    for *_, event in batch.items if batch.has_lifecycle else ():
        if isinstance(event.data, events.WorkflowChanged):
            key = (event.tenant_id, event.data.workflow_id)
            changed[key] = min(event.time, changed.get(key, event.time))
    return changed
