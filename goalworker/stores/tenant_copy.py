"""Copy of a tenant's rows from one database to another, and their deletion (contract section 10).

A copy may be repeated and continued: rows that are there are overwritten. It runs as the owner of the tables, with the
worker's role (move_rights), since no role alone may write every table. Tables are copied by the columns of their
metadata, and as the text that one database writes and the other reads, so that no value is altered on its way.
"""

import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import ids
from goalworker.errors import GoalworkerError
from goalworker.postgres import cell_tables, connections, insight_tables, tables
from goalworker.stores import day_partitions

# A large table takes long to read, and waits while its rows are written.
UNLIMITED: Final = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
# Bytes that are written, and rows that are deleted, in one transaction.
SLICE_BYTES: Final = 1024 * 1024
SLICE_ROWS: Final = 5_000
# Without a key: tenant_history copies them.
_HISTORY: Final = (insight_tables.history_events, insight_tables.history_exits)
# Backfills must end before a move, and finished jobs are answers of the cell that ran them. Login codes last minutes.
_LEFT: Final = (insight_tables.jobs, tables.login_codes, *_HISTORY)
# Read and written as a part of goal_hits.
_PARTS: Final = (tables.goal_hits_kept,)
COPIED: Final = tuple(
    table for table in tables.TENANT_TABLES if table not in (cell_tables.moved_tenants, *_LEFT, *_PARTS)
)
# Hits of days never change, and go with their day. Without enrollments nothing is judged: a frozen worker that wakes up
# meanwhile finds all facts or no enrollment.
_CLEARED: Final = (
    tables.enrollments,
    *_PARTS,
    *(table for table in reversed(COPIED) if table not in (tables.enrollments, tables.goal_hits)),
)
# Keys stay where a tenant was, so that a caller there is told that the tenant has moved.
_KEPT: Final = (tables.api_keys,)

Check = Callable[[connections.Connection], Awaitable[None]]
"""Awaited in each transaction that writes; raises if the tenant's rows must not be written any more."""
Write = Callable[[bytes], Awaitable[None]]
"""Awaited with whole rows, one in each line."""


class Size(Struct, frozen=True):
    """Rows of a tenant in a table, and their bytes."""

    table: str
    rows: int
    bytes: int


class NoRoomError(GoalworkerError):
    """The target's disk is full."""

    def __init__(self) -> None:
        super().__init__(
            "The database of --to has no room left on its disk: make room, then run this again, and the move continues"
        )


@asynccontextmanager
async def own_transaction(pool: sa_async.AsyncEngine, first: str = "") -> AsyncIterator[connections.Connection]:
    """Run one transaction as the login itself."""
    async with pool.connect() as connection:
        driver = await connections.driver_of(connection)
        try:
            await driver.execute(f"BEGIN; {first}")
            yield driver
            await driver.execute("COMMIT")
        except BaseException as error:
            driver.terminate()
            await connection.invalidate()
            if isinstance(error, asyncpg.DiskFullError):
                raise NoRoomError from error
            raise


async def sizes(connection: connections.Connection, tenant_id: str) -> list[Size]:
    """Return how much of a tenant there is to copy."""
    found = []
    for table in (*COPIED, insight_tables.history_events):
        rows_of = selected(table, tenant_id)
        sql = f"SELECT count(*), coalesce(sum(pg_column_size(t)), 0)::bigint FROM ({rows_of}) AS t"
        rows, size = await connection.fetchrow(sql, tenant_id)
        found.append(Size(str(table.name), rows, size))
    return found


async def has_rows(connection: connections.Connection, tenant_id: str) -> bool:
    """Say whether a database has facts or goals of a tenant."""
    found = " OR ".join(
        f"EXISTS (SELECT FROM {table.name} WHERE tenant_id = $1)" for table in _CLEARED if table not in _KEPT
    )
    return bool(await connection.fetchval(f"SELECT {found}", tenant_id))


async def horizon(connection: connections.Connection) -> int:
    """Return the oldest transaction that is still running: what later ones write is not in a copy that begins now."""
    return int(await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))


# --- copy ---


async def copy(
    source: sa_async.AsyncEngine,
    target: sa_async.AsyncEngine,
    tenant_id: str,
    since: int | None,
    check: Check,
) -> int:
    """Copy a tenant's rows, or those that transactions from `since` on have written; return how many."""
    copied = 0
    await copy_days(source, target, tables.goal_hits)
    async with own_transaction(source, UNLIMITED) as reading:
        for table in COPIED:

            async def write(rows: bytes, table: sa.Table = table) -> None:
                async with own_transaction(target) as writing:
                    await check(writing)
                    await _write(writing, table, rows)

            copied += await read_slices(reading, selected(table, tenant_id, since), tenant_id, write)
    async with own_transaction(target) as writing:
        await writing.execute(_AFTER_COPIED_IDS, tenant_id)
    return copied


async def copy_days(source: sa_async.AsyncEngine, target: sa_async.AsyncEngine, table: sa.Table) -> None:
    """Make the partitions of days that a table has in the source."""
    async with own_transaction(source) as connection:
        days = await day_partitions.days_of(connection, table.name)
    async with own_transaction(target) as connection:
        for day in days:
            await day_partitions.make_between(connection, [table.name], day, day)


async def read_slices(reading: connections.Connection, query: str, tenant_id: str, write: Write) -> int:
    """Hand over the rows of a query about a tenant, a slice at a time; return how many."""
    buffer, count = bytearray(), 0

    async def hand_over(end: int) -> None:
        nonlocal count
        rows = bytes(buffer[:end])
        del buffer[:end]
        count += rows.count(b"\n")
        await write(rows)

    async def take(data: bytes) -> None:
        buffer.extend(data)
        if len(buffer) >= SLICE_BYTES and (end := buffer.rfind(b"\n") + 1):
            await hand_over(end)

    await reading.copy_from_query(query, tenant_id, output=take)
    if buffer:
        await hand_over(len(buffer))
    return count


class _DroppedError(Exception):
    """Rolls a sample back."""


async def copy_sample(source: sa_async.AsyncEngine, target: sa_async.AsyncEngine, tenant_id: str, table: str) -> int:
    """Copy some rows of a table that refers to no other, and drop them again; return how many."""
    sampled = tables.metadata.tables[table]

    async def write(rows: bytes) -> None:
        with contextlib.suppress(_DroppedError):
            async with own_transaction(target) as writing:
                await _write(writing, sampled, rows)
                raise _DroppedError

    async with own_transaction(source) as reading:
        return await read_slices(reading, f"{selected(sampled, tenant_id)} LIMIT {SLICE_ROWS}", tenant_id, write)


def is_sampled(table: str) -> bool:
    """Say whether rows of a table can be copied by themselves."""
    return any(copied.name == table and copied.primary_key and not copied.foreign_key_constraints for copied in COPIED)


async def goals_are_new(connection: connections.Connection, tenant_id: str, revision: int) -> None:
    """Let workers load the goals of a tenant, which were copied, with a revision."""
    for table in (tables.goals, tables.workflow_settings):
        await connection.execute(f"UPDATE {table.name} SET revision = $2 WHERE tenant_id = $1", tenant_id, revision)


# Entries of the audit keep their ids, and later ones get greater ones.
_AFTER_COPIED_IDS: Final = """
SELECT setval(pg_get_serial_sequence('audit_log', 'id'), greatest(
    nextval(pg_get_serial_sequence('audit_log', 'id')), (SELECT max(id) FROM audit_log WHERE tenant_id = $1)))
"""


def columns_of(table: sa.Table) -> list[str]:
    """Return the columns that are copied: all but those that the database computes itself."""
    return [column.name for column in table.columns if column.computed is None]


def quoted(names: Iterable[str], prefix: str = "") -> str:
    """Return names of columns as SQL lists them."""
    return ", ".join(f'{prefix}"{name}"' for name in names)


def selected(table: sa.Table, tenant_id: str, since: int | None = None) -> str:
    """Return SQL that selects the rows of a tenant, $1, or those that transactions from `since` on have written."""
    if table is tables.goal_hits:
        # A day's only index is by contact_hash, of which a tenant's are one range.
        least, greatest = ids.contact_hashes(tenant_id)
        of_days = f"{tables.OF_DAYS} AND contact_hash BETWEEN {least} AND {greatest}"
        return f"{_selected(tables.goal_hits_kept, since)} UNION ALL {_selected(table, since)} AND {of_days}"
    return _selected(table, since)


def _selected(table: sa.Table, since: int | None) -> str:
    # Ids of transactions come round after 4 billion: their ages are compared.
    changed = "" if since is None else f" AND age(t.xmin) <= age('{since % 2**32}'::xid)"
    names = quoted(columns_of(tables.goal_hits if table in _PARTS else table))  # a part has another order
    return f"SELECT {names} FROM {table.name} t WHERE tenant_id = $1{changed}"


async def _write(connection: connections.Connection, table: sa.Table, rows: bytes) -> None:
    names, key = columns_of(table), [column.name for column in table.primary_key]
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in key)
    await take_in(connection, table, rows)
    add = f"INSERT INTO {table.name} ({quoted(names)}) OVERRIDING SYSTEM VALUE SELECT {quoted(names)} FROM incoming"
    if key:
        conflict = f"({quoted(key)}) DO {'UPDATE SET ' + changes if changes else 'NOTHING'}"
        await connection.execute(f"{add} ORDER BY {quoted(key)} ON CONFLICT {conflict}")
    else:  # hits, which are facts and never change
        await connection.execute(f"{add} ON CONFLICT DO NOTHING")


async def take_in(connection: connections.Connection, table: sa.Table, rows: bytes) -> None:
    """Put rows of a table into a temporary one, which ends with the transaction."""
    names = columns_of(table)
    await connection.execute(
        f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {quoted(names)} FROM {table.name} WITH NO DATA"
    )
    await connection.copy_to_table("incoming", source=io.BytesIO(rows), columns=names)


# --- deletion ---


async def clear(pool: sa_async.AsyncEngine, tenant_id: str, check: Check, *, keys_too: bool) -> int:
    """Delete a tenant's rows, a slice in each transaction; return how many."""
    cleared = 0
    for table in _CLEARED:
        if keys_too or table not in _KEPT:
            count = SLICE_ROWS
            while count == SLICE_ROWS:
                count = await _clear_slice(pool, tenant_id, check, _delete_slice(table))
                cleared += count
    for table in _LEFT:
        cleared += await _clear_slice(pool, tenant_id, check, f"DELETE FROM {table.name} WHERE tenant_id = $1")
    return cleared


async def _clear_slice(pool: sa_async.AsyncEngine, tenant_id: str, check: Check, sql: str) -> int:
    async with own_transaction(pool, UNLIMITED) as connection:
        await check(connection)
        return int((await connection.execute(sql, tenant_id)).rpartition(" ")[2])


def _delete_slice(table: sa.Table) -> str:
    key = quoted(column.name for column in table.primary_key)
    some = f"SELECT {key} FROM {table.name} WHERE tenant_id = $1 LIMIT {SLICE_ROWS}"
    return f"DELETE FROM {table.name} WHERE tenant_id = $1 AND ({key}) IN ({some})"
