"""Connections that call a hook at every statement: to count, wait, crash or explain."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.postgres import connections


@dataclass(frozen=True, slots=True)
class Statement:
    """Round trip about to be made; without a connection if it is not to the database."""

    sql: str
    run: Callable[[], Awaitable[Any]]
    args: tuple[object, ...] = ()
    connection: connections.Connection | None = None


Hook = Callable[[Statement], Awaitable[Any]]

_hook: ContextVar[Hook | None] = ContextVar("hook", default=None)


async def through_hook(statement: Statement) -> Any:
    hook = _hook.get()
    return await (statement.run() if hook is None else hook(statement))


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Let a hook make, or not make, the round trips of this task and of the tasks that it starts.

    An inner hook makes its round trips through the outer one.
    """
    outer = _hook.get()

    async def inside(statement: Statement) -> Any:
        return await hook(statement if outer is None else replace(statement, run=partial(outer, statement)))

    token = _hook.set(inside)
    try:
        yield
    finally:
        _hook.reset(token)


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    __slots__ = ()  # no more attributes than its base, so that the class of a connection can be replaced

    async def execute(self, query: str, *args: object, **options: Any) -> Any:
        return await self._step(query, args, partial(super().execute, query, *args, **options))

    async def fetch(self, query: str, *args: object, **options: Any) -> Any:
        return await self._step(query, args, partial(super().fetch, query, *args, **options))

    async def fetchrow(self, query: str, *args: object, **options: Any) -> Any:
        return await self._step(query, args, partial(super().fetchrow, query, *args, **options))

    async def fetchval(self, query: str, *args: object, **options: Any) -> Any:
        return await self._step(query, args, partial(super().fetchval, query, *args, **options))

    async def copy_records_to_table(self, table_name: str, **options: Any) -> Any:
        return await self._step(f"COPY {table_name}", (), partial(super().copy_records_to_table, table_name, **options))

    async def copy_to_table(self, table_name: str, **options: Any) -> Any:
        return await self._step(f"COPY {table_name}", (), partial(super().copy_to_table, table_name, **options))

    async def copy_from_query(self, query: str, *args: object, **options: Any) -> Any:
        return await self._step(query, args, partial(super().copy_from_query, query, *args, **options))

    async def _step(self, sql: str, args: tuple[object, ...], run: Callable[[], Awaitable[Any]]) -> Any:
        return await through_hook(Statement(sql, run, args, self))


def watch(pool: sa_async.AsyncEngine) -> None:
    """Send the statements of a pool that has no connections yet through the hook."""

    @sa.event.listens_for(pool.sync_engine, "connect")
    def change_class(connection: Any, record: Any) -> None:
        connection.driver_connection.__class__ = _Connection


# --- one statement at a time ---

_LOOK_SECONDS = 0.005
_STUCK_SECONDS = 20
_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
_BLOCKED = "SELECT pid FROM unnest($1::int[]) AS pid WHERE pg_blocking_pids(pid) <> '{}'"


@dataclass(slots=True, eq=False)
class _Actor:
    gates: Callable[[str], bool]
    moved: asyncio.Event
    steps: int = 0
    pid: int = 0
    turn: asyncio.Future[None] | None = None
    task: asyncio.Task[Any] = field(init=False)

    async def hook(self, statement: Statement) -> Any:
        if isinstance(statement.connection, asyncpg.Connection):
            self.pid = statement.connection.get_server_pid()
        if self.gates(statement.sql):
            self.turn = asyncio.get_running_loop().create_future()
            self.moved.set()
            await self.turn
        return await statement.run()

    async def play(self, part: Awaitable[Any]) -> None:
        try:
            with hooked(self.hook):
                await part
        finally:
            self.moved.set()

    @property
    def is_moving(self) -> bool:
        return self.turn is None and not self.task.done()


Gates = Callable[[str], bool]


def transactions(sql: str) -> bool:
    """Step by transactions: each is a step, with everything sent after it."""
    return sql.startswith("BEGIN")


def decisive(sql: str) -> bool:
    """Step by statements that read, lock or publish, without those that write under a lock or are sent afterwards."""
    if sql.startswith("BEGIN"):
        return "lock" in sql
    return not sql.strip().startswith(("SEND", "COPY", "UPDATE enrollments", "INSERT INTO exits", "DELETE FROM outbox"))


async def take_turns(
    administrator: connections.Connection,
    parts: Mapping[str, Awaitable[Any]],
    order: Iterable[str],
    gates: Gates,
) -> dict[str, int]:
    """Run the parts step by step in this order, then each to its end.

    A part that waits for a lock of the database, or has ended, is passed over. Return the steps of each part.
    """
    moved = asyncio.Event()
    actors = {name: _Actor(gates, moved) for name in parts}
    for name, part in parts.items():
        actors[name].task = asyncio.create_task(actors[name].play(part))
    turns = iter(order)
    async with asyncio.timeout(_STUCK_SECONDS):
        while not all(actor.task.done() for actor in actors.values()):
            await _settle(administrator, actors.values(), moved)
            waiting = {name: actor for name, actor in actors.items() if actor.turn is not None}
            wanted = next((name for name in turns if name in waiting), None) or next(iter(waiting), None)
            if wanted is not None:
                _let(waiting[wanted])
    await asyncio.gather(*(actor.task for actor in actors.values()))
    return {name: actor.steps for name, actor in actors.items()}


def _let(actor: _Actor) -> None:
    assert actor.turn is not None
    turn, actor.turn = actor.turn, None
    actor.steps += 1
    turn.set_result(None)


async def _settle(administrator: connections.Connection, actors: Iterable[_Actor], moved: asyncio.Event) -> None:
    """Return when every part is at a gate, has ended, or waits for a lock of the database."""
    while moving := [actor for actor in actors if actor.is_moving]:
        moved.clear()
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await moved.wait()
        except TimeoutError:
            blocked = {row[0] for row in await administrator.fetch(_BLOCKED, [actor.pid for actor in moving])}
            if all(actor.is_moving and actor.pid in blocked for actor in moving):
                return


async def until_blocked(administrator: connections.Connection) -> None:
    """Return as soon as a session waits for a lock of the database."""
    async with asyncio.timeout(_LOOK_SECONDS * 1000):
        while not await administrator.fetchval(_WAITING):  # noqa: ASYNC110 - only the database knows
            await asyncio.sleep(_LOOK_SECONDS)
