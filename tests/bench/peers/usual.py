"""Shared parts of the peers: the event, the goals in a dictionary, and a clock that stops after the last event.

The programs that import this module run in another environment (.venv/bench), which limits its imports.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pydantic
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import tables

FIELDS = ("tag_id", "product_id", "calendar_id", "form_id", "stage_id")

Goal = tuple[UUID, str]
"""Id and workflow."""
Goals = Mapping[tuple[str, str], Sequence[Goal]]
"""By tenant and by the value in the criteria."""


class Event(pydantic.BaseModel):
    """Fields of an event that a peer uses."""

    id: str
    source: str
    type: str
    time: datetime
    tenantid: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """Arguments of a peer: the servers, the topics, and the number of events."""

    database_url: str
    exit_topic: str
    bootstrap_servers: str
    group_id: str
    events: int
    topics: Sequence[str]

    @classmethod
    def of_arguments(cls) -> "Task":
        """Parse the command line (beside.py)."""
        url, exit_topic, servers, group, events, *topics = sys.argv[1:]
        return cls(url, exit_topic, servers, group, int(events), topics)

    def engine(self, pool_size: int = 1) -> sa_async.AsyncEngine:
        """Return SQLAlchemy's engine on asyncpg."""
        url = self.database_url.replace("postgresql://", "postgresql+asyncpg://")
        return sa_async.create_async_engine(url, pool_size=pool_size)


class Clock:
    """Clock that starts with the first event and stops after the last one."""

    def __init__(self, wanted: int) -> None:
        self._wanted, self._done = wanted, 0
        self._began = self._cpu_began = self._ended = self._cpu_ended = 0.0

    def begin(self) -> None:
        """Start the clock."""
        if not self._began:
            self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def end(self, events: int = 1) -> bool:
        """Count events as done; return whether these were the last."""
        self._done += events
        self._ended, self._cpu_ended = time.perf_counter(), time.process_time()
        return self._done >= self._wanted

    def report(self) -> None:
        """Print the result that drains.py reads."""
        seconds, cpu_seconds = self._ended - self._began, self._cpu_ended - self._cpu_began
        print(json.dumps({"events": self._done, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": 0}))


def run(work: Callable[[Task, Clock], Coroutine[Any, Any, None]]) -> None:
    """Run a peer as the command line says, and report."""
    task = Task.of_arguments()
    clock = Clock(task.events)
    asyncio.run(work(task, clock))
    clock.report()


async def goals(engine: sa_async.AsyncEngine) -> Goals:
    """Read every goal, once."""
    found: dict[tuple[str, str], list[Goal]] = defaultdict(list)
    joined = sa.select(tables.goals, tables.goal_versions.c.criteria).join(tables.goal_versions)
    async with engine.connect() as connection:
        for row in (await connection.execute(joined)).mappings():
            for field in FIELDS:
                if field in row["criteria"]:
                    found[row["tenant_id"], row["criteria"][field]].append((row["goal_id"], row["workflow_id"]))
    return dict(found)


def hit(known: Goals, tenant_id: str, data: Mapping[str, Any]) -> list[Goal]:
    """Return the goals that an event hits."""
    wanted = [data[field] for field in FIELDS if field in data] + data.get("product_ids", [])
    return [goal for value in wanted for goal in known.get((tenant_id, value), ())]


async def achieve(connection: sa_async.AsyncConnection, event: Event, goal: Goal) -> list[str]:
    """Write the results of a hit for the contact's open enrollments, statement by statement; return those that exit."""
    enrollments, (goal_id, workflow_id) = tables.enrollments, goal
    contact_id = event.data["contact_id"]
    open_ones = (
        sa.select(enrollments.c.enrollment_id)
        .where(
            enrollments.c.tenant_id == event.tenantid,
            enrollments.c.workflow_id == workflow_id,
            enrollments.c.contact_id == contact_id,
            enrollments.c.exited_at.is_(None),
        )
        .order_by(enrollments.c.enrollment_id)
        .with_for_update()
    )
    exited = [row[0] for row in await connection.execute(open_ones)]
    for enrollment_id in exited:
        key = {"tenant_id": event.tenantid, "enrollment_id": enrollment_id}
        common = {"workflow_id": workflow_id, "contact_id": contact_id, "goal_id": goal_id, "achieved_at": event.time}
        await connection.execute(
            pg.insert(tables.achievements).on_conflict_do_nothing(),
            {**key, **common, "goal_version": 1, "goal_type": "any", "event_source": event.source,
             "event_id": event.id, "data": event.data, "revision": 1},
        )  # fmt: skip
        await connection.execute(
            pg.insert(tables.exits).on_conflict_do_nothing(),
            {**key, **common, "goal_type": "any", "logic": "any", "goal_ids": [goal_id]},
        )
        await connection.execute(
            sa.update(enrollments)
            .where(enrollments.c.tenant_id == event.tenantid, enrollments.c.enrollment_id == enrollment_id)
            .values(exited_at=event.time, satisfied_at=event.time, converted_at=event.time)
        )
    return exited


def exit_of(enrollment_id: str, goal_id: UUID) -> bytes:
    """Return the message that tells the engine to stop."""
    return json.dumps({"enrollment_id": enrollment_id, "goal_id": str(goal_id)}).encode()
