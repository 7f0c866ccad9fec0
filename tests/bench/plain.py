"""The usual way, as well as it goes: a loop over aiokafka with pydantic and SQLAlchemy, an event at a time.

Goals are cached in a dictionary; each event that hits one is a transaction, each event's offset is committed behind it.
What it cannot give: an event that comes before its enrollment is lost, a crash between the transaction and the message
loses the exit or sends it twice, and a late message corrects nothing. Run as a program by bench.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import aiokafka
import pydantic
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker import tables
from tests import support
from tests.bench import drains

FIELDS = ("tag_id", "product_id", "calendar_id", "form_id", "stage_id")
WAIT_MS = 10_000


class Event(pydantic.BaseModel):
    """An event, as far as this loop looks at it."""

    id: str
    source: str
    type: str
    time: datetime
    tenantid: str
    data: dict[str, Any]


Goals = dict[tuple[str, str], list[tuple[UUID, str]]]


async def drained(stage: drains.Stage) -> float:
    """Let it work off a stage's backlog on a fresh copy of the database; return events a second."""
    with support.fresh_database(stage.pair.database_url, f"TEMPLATE {stage.database} STRATEGY FILE_COPY") as database:
        url = support.with_database(stage.pair.database_url, database)
        drain = await drains.program(stage, "tests.bench.plain", url, stage.topics["workflow_exit"])
    return drain.events_per_second


async def work(url: str, exit_topic: str, servers: str, group: str, wanted: int, topics: list[str]) -> dict[str, Any]:
    """Take so many events, one after the other."""
    engine = sa_async.create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    goals = await _goals(engine)
    consumer = aiokafka.AIOKafkaConsumer(
        *topics, bootstrap_servers=servers, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with consumer, aiokafka.AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        await consumer.getone()
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(wanted - 1):
            record = await consumer.getone()
            event = Event.model_validate_json(record.value)
            for goal in _hit(goals, event):
                for enrollment_id in await _achieved(engine, event, *goal):
                    value = json.dumps({"enrollment_id": enrollment_id, "goal_id": str(goal[0])}).encode()
                    await producer.send_and_wait(exit_topic, value, key=record.key)
            await consumer.commit()
        seconds = time.perf_counter() - began
    await engine.dispose()
    return {
        "events": wanted - 1,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": 0,
    }


async def _goals(engine: sa_async.AsyncEngine) -> Goals:
    goals: Goals = defaultdict(list)
    joined = sa.select(tables.goals, tables.goal_versions.c.criteria).join(tables.goal_versions)
    async with engine.connect() as connection:
        for row in (await connection.execute(joined)).mappings():
            for field in FIELDS:
                if field in row["criteria"]:
                    goals[row["tenant_id"], row["criteria"][field]].append((row["goal_id"], row["workflow_id"]))
    return goals


def _hit(goals: Goals, event: Event) -> list[tuple[UUID, str]]:
    wanted = [event.data.get(field) for field in FIELDS if field != "product_id"] + event.data.get("product_ids", [])
    return [goal for value in wanted if value is not None for goal in goals.get((event.tenantid, value), ())]


async def _achieved(engine: sa_async.AsyncEngine, event: Event, goal_id: UUID, workflow_id: str) -> list[str]:
    enrollments, contact = tables.enrollments, event.data["contact_id"]
    async with engine.begin() as connection:
        found = await connection.execute(
            sa.select(enrollments.c.enrollment_id).where(
                enrollments.c.tenant_id == event.tenantid,
                enrollments.c.workflow_id == workflow_id,
                enrollments.c.contact_id == contact,
                enrollments.c.exited_at.is_(None),
            )
        )
        exited = [row[0] for row in found]
        for enrollment_id in exited:
            key = {"tenant_id": event.tenantid, "enrollment_id": enrollment_id, "goal_id": goal_id}
            common = {**key, "workflow_id": workflow_id, "contact_id": contact, "achieved_at": event.time}
            await connection.execute(
                sa.insert(tables.achievements).values(
                    **common, goal_version=1, goal_type="any", event_source=event.source, event_id=event.id,
                    data=event.data, revision=1,
                )
            )  # fmt: skip
            await connection.execute(
                sa.insert(tables.exits).values(**common, goal_type="any", logic="any", goal_ids=[goal_id])
            )
            await connection.execute(
                sa.update(enrollments)
                .where(enrollments.c.tenant_id == event.tenantid, enrollments.c.enrollment_id == enrollment_id)
                .values(exited_at=event.time, satisfied_at=event.time)
            )
    return exited


if __name__ == "__main__":
    address, out, kafka_servers, group_id, count, *names = sys.argv[1:]
    print(json.dumps(asyncio.run(work(address, out, kafka_servers, f"{group_id}-{uuid4()}", int(count), names))))
