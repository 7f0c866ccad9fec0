"""FastStream's batch subscriber with SQLAlchemy, as close to the guarantees of goalworker as it gets.

Events are decoded with msgspec, which its documentation recommends for speed. For each batch: hits in one transaction;
enrollments locked, achievements, exits and an outbox in the next, with a statement for many rows each; then all
messages at once; then the offsets. A replay after a crash writes nothing twice. A program that beside.py runs.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import faststream
import msgspec
import sqlalchemy as sa
from fast_depends import msgspec as fast_msgspec
from faststream import kafka
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import tables
from tests.bench.peers import usual

MAX_RECORDS = 2_000
"""As many as the product takes by default."""


class Event(msgspec.Struct, gc=False):
    """Fields of an event that a peer uses."""

    id: str
    source: str
    time: datetime
    tenantid: str
    data: dict[str, Any]


class CloudEvents:
    """Decoder for all messages of a batch at once."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(Event)

    async def decode(self, message: Any) -> Any:
        """Refuse single messages: there are batches only."""
        raise NotImplementedError

    async def decode_batch(self, message: Any) -> list[Event]:
        """Return the events."""
        return [self._decoder.decode(record.value) for record in message.raw_message]

    async def encode(self, message: Any, serializer: Any = None) -> tuple[bytes, str | None]:
        """Return bytes unchanged."""
        return message, None

    async def encode_batch(self, messages: Sequence[Any], serializer: Any = None) -> list[tuple[bytes, str | None]]:
        """Return bytes unchanged."""
        return [(message, None) for message in messages]


Hit = tuple[Event, UUID, str]
"""Event, goal and workflow."""


def _contact(hit: Hit) -> tuple[str, str, str]:
    event, _, workflow_id = hit
    return (event.tenantid, workflow_id, event.data["contact_id"])


async def record(connection: sa_async.AsyncConnection, hits: Sequence[Hit]) -> None:
    """Record the hits that are not recorded yet."""
    rows = [
        {"tenant_id": event.tenantid, "workflow_id": workflow_id, "contact_id": event.data["contact_id"],
         "goal_id": goal_id, "event_source": event.source, "event_id": event.id, "goal_version": 1,
         "event_time": event.time, "data": event.data}
        for event, goal_id, workflow_id in hits
    ]  # fmt: skip
    rows.sort(
        key=lambda row: (row["tenant_id"], row["workflow_id"], row["contact_id"], row["goal_id"], row["event_id"])
    )
    await connection.execute(pg.insert(tables.goal_hits).on_conflict_do_nothing(), rows)


async def judge(connection: sa_async.AsyncConnection, hits: Sequence[Hit], exit_topic: str, batch_id: UUID) -> Any:
    """Write the results of the hits for open enrollments; return the messages, as rows of the outbox."""
    first = {_contact(hit): hit for hit in sorted(hits, key=lambda hit: (hit[0].time, hit[0].id), reverse=True)}
    rows = [(row, *first[tuple(row[2:])]) for row in await connection.execute(_locked(sorted(first)))]
    if not rows:
        return []
    verdicts = [_verdict(*row) for row in rows]
    outgoing = [
        {"topic": exit_topic, "key": f"{verdict['tenant_id']}:{verdict['contact_id']}".encode(),
         "value": usual.exit_of(verdict["enrollment_id"], verdict["goal_id"]), "batch_id": batch_id}
        for verdict in verdicts
    ]  # fmt: skip
    await connection.execute(
        pg.insert(tables.achievements).on_conflict_do_nothing(), _for(tables.achievements, verdicts)
    )
    await connection.execute(pg.insert(tables.exits).on_conflict_do_nothing(), _for(tables.exits, verdicts))
    await connection.execute(_exited(verdicts))
    await connection.execute(sa.insert(tables.outbox), outgoing)
    return outgoing


def _unnested(name: str, columns: dict[str, tuple[Any, Sequence[Any]]]) -> Any:
    arrays = [sa.bindparam(None, list(values), pg.ARRAY(type_)) for type_, values in columns.values()]
    return sa.func.unnest(*arrays).table_valued(*columns, name=name).render_derived()


def _locked(contacts: Sequence[tuple[str, str, str]]) -> Any:
    """Select the open enrollments of contacts: key, workflow and contact; locked in the order of the key."""
    columns = zip(("tenant_id", "workflow_id", "contact_id"), zip(*contacts, strict=True), strict=True)
    wanted, runs = _unnested("wanted", {name: (sa.Text, values) for name, values in columns}), tables.enrollments
    return (
        sa.select(runs.c.enrollment_id, runs.c.enrolled_at, runs.c.tenant_id, runs.c.workflow_id, runs.c.contact_id)
        .join(wanted, sa.and_(*(runs.c[name] == wanted.c[name] for name in wanted.c.keys())))  # noqa: SIM118
        .where(runs.c.exited_at.is_(None))
        .order_by(runs.c.tenant_id, runs.c.enrollment_id)
        .with_for_update(of=runs)
    )


def _verdict(run: Any, event: Event, goal_id: UUID, workflow_id: str) -> dict[str, Any]:
    return {
        "tenant_id": run.tenant_id, "enrollment_id": run.enrollment_id, "goal_id": goal_id, "workflow_id": workflow_id,
        "contact_id": run.contact_id, "goal_version": 1, "goal_type": "any", "enrolled_at": run.enrolled_at,
        "achieved_at": event.time, "event_source": event.source, "event_id": event.id, "data": event.data,
        "revision": 1, "logic": "any", "goal_ids": [goal_id],
    }  # fmt: skip


def _for(table: sa.Table, verdicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in verdict.items() if name in table.c} for verdict in verdicts]


def _exited(verdicts: Sequence[dict[str, Any]]) -> Any:
    types = {"tenant_id": sa.Text, "enrollment_id": sa.Text, "achieved_at": sa.DateTime(timezone=True)}
    judged = _unnested("judged", {name: (type_, [v[name] for v in verdicts]) for name, type_ in types.items()})
    runs, at = tables.enrollments, judged.c.achieved_at
    return (
        sa.update(runs)
        .where(runs.c.tenant_id == judged.c.tenant_id, runs.c.enrollment_id == judged.c.enrollment_id)
        .values(satisfied_at=at, converted_at=at, exited_at=at)
    )


async def publish(broker: Any, engine: sa_async.AsyncEngine, outgoing: Sequence[dict[str, Any]]) -> None:
    """Send all messages at once, and delete those that were acknowledged."""
    sent = [
        await broker.publish(each["value"], topic=each["topic"], key=each["key"], no_confirm=True) for each in outgoing
    ]
    await asyncio.gather(*sent)
    batches = {each["batch_id"] for each in outgoing}
    async with engine.begin() as connection:
        await connection.execute(sa.delete(tables.outbox).where(tables.outbox.c.batch_id.in_(batches)))


async def work(task: usual.Task, clock: usual.Clock) -> None:
    """Process this many events, batch after batch."""
    engine = task.engine()
    goals = await usual.goals(engine)
    broker = kafka.KafkaBroker(
        task.bootstrap_servers,
        codec=CloudEvents(),
        serializer=fast_msgspec.MsgSpecSerializer(),
        logger=None,
        acks="all",
    )
    app = faststream.FastStream(broker, logger=None)

    async def handle(events: list[Event]) -> None:
        clock.begin()
        hits = [(event, *goal) for event in events for goal in usual.hit(goals, event.tenantid, event.data)]
        if hits:
            async with engine.begin() as connection:
                await record(connection, hits)
            async with engine.begin() as connection:
                outgoing = await judge(connection, hits, task.exit_topic, uuid4())
            if outgoing:
                await publish(broker, engine, outgoing)
        if clock.end(len(events)):
            app.exit()

    async def send_what_a_crash_left_behind() -> None:
        async with engine.connect() as connection:
            left = [dict(row) for row in (await connection.execute(sa.select(tables.outbox))).mappings()]
        if left:
            await publish(broker, engine, left)

    app.after_startup(send_what_a_crash_left_behind)
    broker.subscriber(
        *task.topics,
        batch=True,
        max_records=MAX_RECORDS,
        group_id=task.group_id,
        auto_offset_reset="earliest",
        ack_policy=faststream.AckPolicy.NACK_ON_ERROR,
    )(handle)
    await app.run()
    await engine.dispose()


if __name__ == "__main__":
    usual.run(work)
