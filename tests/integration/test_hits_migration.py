"""Hits by day, in a filled database and beside a worker of the release before, and back."""

import asyncio
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from alembic import script
from sqlalchemy.ext import asyncio as sa_async

from goalworker.domain import events
from goalworker.postgres import arrays, connections, migrations, pooler, tables
from goalworker.stores import retention
from tests.integration import checks, hit_days, world
from tests.integration.scenes import ONE, paid, purchase, started, tagged
from tests.kit.strategies import at

BEFORE = "0008"
_TEXT = Path(__file__).with_name("release_0008.sql").read_text()
_STATEMENTS = dict(re.findall(r"^-- ([a-z ]+)\n(.+?)(?=\n\n--|\Z)", _TEXT, re.DOTALL | re.MULTILINE))

_FILL = """
INSERT INTO goal_hits (tenant_id, workflow_id, contact_id, goal_id, event_source, event_id, goal_version, event_time,
    data, kept_until)
SELECT 'north', 'w1', 'c' || n, '00000000-0000-0000-0000-000000000001', '/crm', 'old' || n, 1, $2,
    '{"contact_id": "c"}', CASE WHEN n % 10 = 0 THEN now() + interval '30 days' END
FROM generate_series(1, $1::int) AS n
"""
_ROWS = """
SELECT tenant_id, workflow_id, contact_id, goal_id, event_source, event_id, goal_version, event_time, data::text,
    traceparent, tracestate, kept_until
FROM goal_hits ORDER BY event_source, event_id, goal_id
"""


async def _rows(administrator: connections.Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await administrator.fetch(_ROWS)]


async def _days(administrator: connections.Connection) -> int:
    return int(
        await administrator.fetchval("SELECT count(*) - 1 FROM pg_inherits WHERE inhparent = 'goal_hits'::regclass")
    )


async def _downgrade(url: str) -> None:
    await asyncio.to_thread(migrations.downgrade, url, BEFORE)


async def _upgrade(url: str) -> None:
    await asyncio.to_thread(migrations.upgrade, url)


def _migration() -> Any:
    return script.ScriptDirectory(str(migrations._folder())).get_revision("0011").module


async def _use(administrator: connections.Connection) -> None:
    """Let workers of the release before have used the database."""
    await administrator.execute("INSERT INTO installation VALUES (1, true)")


# --- the release before ---


class _Before:
    """A worker of the release before, as far as it writes and reads hits."""

    def __init__(self, connection: connections.Connection) -> None:
        self._connection = connection

    async def record(self, ids: Sequence[str], contact_id: str = "c1") -> list[str] | None:
        """Record hits of the first goal; return the events that were new, None if all were."""
        texts: list[Sequence[str]] = [
            ["north"] * len(ids),
            ["w1"] * len(ids),
            [contact_id] * len(ids),
            ["/crm"] * len(ids),
            ids,
        ]
        texts.append([json.dumps({"contact_id": contact_id, "tag_id": "tag-1"})] * len(ids))
        values: list[Sequence[object]] = [
            [UUID(int=1)] * len(ids),
            [1] * len(ids),
            [at(5)] * len(ids),
            [None] * len(ids),
            [None] * len(ids),
        ]
        arguments = [*map(arrays.texts, texts), *map(arrays.array, values), len(ids)]
        async with self._connection.transaction():  # type: ignore[attr-defined]
            await self._connection.execute(f"SET LOCAL ROLE {tables.WORKER_ROLE}")
            some = await self._connection.fetchval(_STATEMENTS["record hits"], *arguments)
        return None if some is None else [row[2] for row in json.loads(some)]

    async def read(self, contact_id: str = "c1") -> list[str]:
        """Return the events of a contact's hits."""
        contact = [arrays.texts([text]) for text in ("north", "w1", contact_id)]
        arguments = [*contact, *contact[:2], "", "", contact[0], contact[2]]
        async with self._connection.transaction():  # type: ignore[attr-defined]
            await self._connection.execute(f"SET LOCAL ROLE {tables.WORKER_ROLE}")
            rows = await self._connection.fetch(_STATEMENTS["read facts"], *arguments)
        return sorted(row[7] for row in rows if row[0] == "hit")


@pytest.mark.parametrize("name", _STATEMENTS)
async def test_a_worker_of_the_release_before_can_run_its_statements_on_hits(
    administrator: connections.Connection, name: str
) -> None:
    await hit_days.make(administrator)
    sql = _STATEMENTS[name]
    parameters = max(int(number) for number in re.findall(r"\$(\d+)", sql))
    async with administrator.transaction():  # type: ignore[attr-defined]
        await administrator.execute(f"SET LOCAL ROLE {tables.WORKER_ROLE}; PREPARE before AS {sql}")
        await administrator.execute(f"EXECUTE before ({', '.join(['NULL'] * parameters)})")
        await administrator.execute("DEALLOCATE before")
    assert len(_STATEMENTS) == 7


async def test_workers_of_both_releases_find_each_others_hits_and_count_each_once(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    twice = purchase(2, times=2, within=600)
    await world.install(administrator, [ONE, twice])
    before, broker = _Before(administrator), world.Broker()
    worker = world.Worker(pool, broker)
    messages: list[events.Event] = [tagged("h1", 5), paid("p1", at(6))]
    await worker.take(*messages)
    assert await before.read() == ["h1", "p1"]
    assert await before.record(["h1", "h2"]) is None  # h1 has another day, and counts once
    assert await before.record(["h1", "h3"]) == ["h3"]
    assert await before.read() == ["h1", "h1", "h2", "h3", "p1"]
    messages += [tagged("h2", 5), tagged("h3", 5), started(0)]
    await worker.take(messages[-1])
    await checks.assert_lawful(administrator, broker, [ONE, twice], {}, messages)


async def test_the_release_before_neither_deletes_nor_reads_days_when_it_sweeps(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, database_url: str
) -> None:
    await _downgrade(database_url)
    await _use(administrator)
    await _upgrade(database_url)
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(tagged("h", 5))
    assert await _days(administrator) == 8
    week, ever = timedelta(0), datetime(1970, 1, 1, tzinfo=UTC)
    assert tuple(await administrator.fetchrow(_STATEMENTS["sweep hits"], week, 2000, ever)) == (0, 0, None)
    assert tuple(await administrator.fetchrow(_STATEMENTS["sweep kept hits"], 2000)) == (0, 0)
    await administrator.execute("SET enable_seqscan = off")
    for name in ("sweep hits", "sweep kept hits", "read facts"):
        plan = await _generic_plan(administrator, _STATEMENTS[name])
        assert "Seq Scan on goal_hits_2" not in plan, name
    assert await _Before(administrator).read() == ["h"]


async def test_the_release_before_changes_and_deletes_no_hits_of_days(
    pool: sa_async.AsyncEngine, administrator: connections.Connection
) -> None:
    """Rows are named by their ctid there, which a row of another partition may have, too."""
    await world.install(administrator, [ONE, purchase(2, times=2, within=60)])
    await administrator.execute(_FILL, 40, at(3))
    await administrator.execute("UPDATE goal_hits SET recorded_at = recorded_at - interval '8 days'")
    await administrator.execute("UPDATE goal_hits SET kept_until = now() WHERE kept_until IS NOT NULL")
    await administrator.execute("VACUUM FULL goal_hits_kept")
    await world.Worker(pool, world.Broker()).take(*(tagged(f"h{number}", 5) for number in range(40)))
    excess = [["north"] * 40, ["w1"] * 40, ["c1"] * 40, [UUID(int=1)] * 40, ["/crm"] * 40, [f"h{n}" for n in range(40)]]
    async with administrator.transaction():  # type: ignore[attr-defined]
        await administrator.execute(f"SET LOCAL ROLE {tables.WORKER_ROLE}")
        assert await administrator.execute(_STATEMENTS["delete excess hits"], *excess) == "DELETE 0"
        ever = datetime(1970, 1, 1, tzinfo=UTC)
        swept = await administrator.fetchrow(_STATEMENTS["sweep hits"], timedelta(days=7), 2000, ever)
        assert swept["swept"] == 36
        assert (await administrator.fetchrow(_STATEMENTS["sweep kept hits"], 2000))["swept"] == 4
    assert {row[5][0] for row in await _rows(administrator)} == {"h"}
    assert len(await _rows(administrator)) == 40


async def _generic_plan(administrator: connections.Connection, sql: str) -> str:
    parameters = max(int(number) for number in re.findall(r"\$(\d+)", sql))
    await administrator.execute(f"SET plan_cache_mode = force_generic_plan; PREPARE wanted AS {sql}")
    rows = await administrator.fetch(f"EXPLAIN EXECUTE wanted({', '.join(['NULL'] * parameters)})")
    await administrator.execute("DEALLOCATE wanted; RESET plan_cache_mode")
    return "\n".join(row[0] for row in rows)


# --- upgrades ---


async def test_an_upgrade_keeps_every_hit_and_a_downgrade_brings_those_of_days_back(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, database_url: str
) -> None:
    await _downgrade(database_url)
    await administrator.execute(_FILL, 1000, at(3))
    filled = await _rows(administrator)
    await _upgrade(database_url)
    assert await _rows(administrator) == filled
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits_kept") == 1000
    await world.install(administrator, [ONE])
    worker, broker = world.Worker(pool, world.Broker()), world.Broker()
    await worker.take(*(tagged(f"h{number}", 5, contact_id=f"c{number}") for number in range(200)))
    await hit_days.age(administrator, hit_days.DAY)
    await worker.take(*(tagged(f"h{number}", 5, contact_id=f"c{number}") for number in range(100)))
    both = await _rows(administrator)
    assert len(both) == 1300
    await _downgrade(database_url)
    assert await _rows(administrator) == sorted(set(both), key=lambda row: (row[4], row[5], row[3]))
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits WHERE recorded_at IS NULL") == 0
    await _upgrade(database_url)
    await world.Worker(pool, broker).take(*(started(0, f"s{n}", ("w1", f"e{n}", f"c{n}")) for n in range(200)))
    assert await administrator.fetchval("SELECT count(*) FROM achievements") == 200


async def test_hits_of_a_day_are_kept_for_the_lateness_after_a_downgrade(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, database_url: str
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(tagged("h", 5))
    await hit_days.age(administrator, timedelta(days=3))
    await _downgrade(database_url)
    age = await administrator.fetchval("SELECT now() - recorded_at FROM goal_hits")
    assert timedelta(days=2) <= age < timedelta(days=3)
    await _upgrade(database_url)


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_an_upgrade_of_hits_that_was_interrupted_is_completed_by_the_next_one(
    administrator: connections.Connection, database_url: str, steps: int
) -> None:
    await _downgrade(database_url)
    await administrator.execute(_FILL, 100, at(3))
    migration = _migration()
    for statement in (migration.NEW_COLUMNS, migration.VALIDATE, migration.SWAP)[:steps]:
        await administrator.execute(statement)
    await _upgrade(database_url)
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits_kept") == 100
    assert await administrator.fetchval("SELECT count(*) FROM pg_constraint WHERE conname ~ 'without_day'") == 0


async def test_a_downgrade_of_hits_that_was_interrupted_is_completed_by_the_next_one(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, database_url: str
) -> None:
    await world.install(administrator, [ONE])
    await world.Worker(pool, world.Broker()).take(*(tagged(f"h{number}", 5) for number in range(50)))
    before = await _rows(administrator)
    migration = _migration()
    ((table, _),) = [row for row in await administrator.fetch(migration.DAYS_OF_HITS) if row[1]]
    await administrator.execute(migration.COPY_BACK.format(table=table, first=0, end=""))
    await _downgrade(database_url)
    assert await _rows(administrator) == before
    await _upgrade(database_url)


async def test_an_upgrade_goes_on_beside_a_worker_of_the_release_before(
    administrator: connections.Connection, database_url: str
) -> None:
    await _downgrade(database_url)
    await _use(administrator)
    await administrator.execute(_FILL, 20_000, at(3))
    is_over = asyncio.Event()

    async def work() -> int:
        connection = await asyncpg.connect(database_url)
        before, batches = _Before(connection), 0
        while not is_over.is_set():
            assert await before.record([f"h{batches}-{number}" for number in range(20)], f"c-{batches}") is None
            assert len(await before.read(f"c-{batches}")) == 20
            batches += 1
        await connection.close()
        return batches

    working = [asyncio.create_task(work())]
    await _upgrade(database_url)
    is_over.set()
    (batches,) = await asyncio.gather(*working)
    assert batches
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits") == 20_000 + 20 * batches


async def test_only_a_database_that_was_used_gets_indexes_for_the_release_before(
    administrator: connections.Connection, database_url: str
) -> None:
    assert await _days(administrator) == 0
    await _downgrade(database_url)
    await _use(administrator)
    await _upgrade(database_url)
    rows = await administrator.fetch("SELECT indexname FROM pg_indexes WHERE indexname ~ '_before'")
    assert len(rows) == 8 * 3


async def test_an_upgrade_of_hits_through_a_pooler_is_one_transaction(
    administrator: connections.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await administrator.execute(_FILL, 100, at(3))
    monkeypatch.setattr(pooler, "is_pooled", lambda connection: True)
    await _downgrade(database_url)
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits") == 100
    await _upgrade(database_url)
    assert await administrator.fetchval("SELECT count(*) FROM goal_hits_kept") == 100


async def test_old_hits_of_the_release_before_are_swept_as_before(
    pool: sa_async.AsyncEngine, administrator: connections.Connection, database_url: str
) -> None:
    await _downgrade(database_url)
    await administrator.execute(_FILL, 100, at(3))
    await administrator.execute("UPDATE goal_hits SET recorded_at = recorded_at - interval '7 days'")
    await _upgrade(database_url)
    assert await retention.sweep_hits(pool, timedelta(days=7)) == 90
