"""Every statement of the worker and of housekeeping uses indexes, with a custom and with a generic plan."""

import json
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_async

from goalworker.pipeline import fact_reading, outbox, phases
from goalworker.postgres import connections
from goalworker.stores import contact_facts, contact_timeline, retention, stats, table_statistics, tenant_copy
from goalworker.stores.goal_store import loading
from tests.integration import statements, world
from tests.integration.scenes import ACTIVATED, ended, failed, started, state, tagged

BEFORE_ITS_HIT = datetime(2025, 1, 1, tzinfo=UTC)
WEEK, YEARS = timedelta(days=7), timedelta(days=730)

# 20,000 contacts in 100 workflows, each with a goal of its own, which every contact has achieved.
_FILL = """
SET session_replication_role = replica;
CREATE TEMP TABLE contact AS
    SELECT number, 'w' || number % 100 AS workflow_id, 'c' || number AS contact_id, 'e' || number AS enrollment_id,
        ('00000000-0000-0000-0000-' || lpad((number % 100)::text, 12, '0'))::uuid AS goal_id
    FROM generate_series(0, 19999) AS number;
INSERT INTO goals
    SELECT 'north', goal_id, workflow_id, 'tag_added', NULL, 1, 'epoch', 'ann', 'epoch', 'ann', NULL, 1 + number
    FROM contact WHERE number < 100;
INSERT INTO goal_versions
    SELECT 'north', goal_id, 1, jsonb_build_object('tag_id', 'tag-' || number), true, 'epoch', NULL
    FROM contact WHERE number < 100;
INSERT INTO goals
    SELECT 'south', gen_random_uuid(), 'w1', 'tag_added', NULL, 1, 'epoch', 'ann', 'epoch', 'ann', NULL, 1
    FROM generate_series(1, 5000);
INSERT INTO goal_versions
    SELECT 'south', goal_id, 1, '{"tag_id": "tag-1"}', true, 'epoch', NULL FROM goals WHERE tenant_id = 'south';
INSERT INTO workflow_states SELECT 'north', 'w' || number, 'epoch', true FROM generate_series(0, 4999) AS number;
INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at, satisfied_at, converted_at,
        exited_at)
    SELECT 'north', enrollment_id, workflow_id, contact_id, 'epoch', '2026-01-01', '2026-01-01', '2026-01-01'
    FROM contact;
UPDATE enrollments SET ended_at = clock_timestamp() WHERE enrollment_id LIKE 'e%5';
INSERT INTO goal_hits_kept
    SELECT 'north', workflow_id, contact_id, goal_id, '/crm', 'h' || number, 1, '2026-01-01', '{"contact_id": "c"}'
    FROM contact;
SELECT goalworker_make_days(ARRAY['goal_hits'], '2026-05-01', '2026-05-02');
INSERT INTO goal_hits (tenant_id, workflow_id, contact_id, goal_id, event_source, event_id, goal_version, event_time,
        data, contact_hash, recorded_on)
    SELECT 'north', workflow_id, contact_id, goal_id, '/crm', 'h' || number, 1, '2026-01-01', '{"contact_id": "c"}',
        number, date '2026-05-01' + number % 2
    FROM contact;
INSERT INTO reversals (tenant_id, contact_id, event_source, event_id, type, subject_id, event_time)
    SELECT 'north', contact_id, '/bank', 'r' || number, 'payment.failed', 'p', '2026-01-01' FROM contact;
INSERT INTO achievements (tenant_id, enrollment_id, goal_id, workflow_id, contact_id, goal_version, goal_type,
        enrolled_at, achieved_at, event_source, event_id, data, revision)
    SELECT 'north', enrollment_id, goal_id, workflow_id, contact_id, 1, 'tag_added', 'epoch', '2026-01-01', '/crm',
        'h' || number, '{}', 1
    FROM contact;
INSERT INTO exits
    SELECT 'north', enrollment_id, workflow_id, contact_id, goal_id, 'tag_added', 'any', ARRAY[goal_id], '2026-01-01'
    FROM contact;
INSERT INTO outbox (topic, key, value, batch_id)
    SELECT 'goal_achieved', 'k', 'v', gen_random_uuid() FROM generate_series(1, 20000);
SELECT goalworker_make_history_days('2026-05-01', '2026-05-02');
INSERT INTO history_events
    SELECT 'north', contact_id, '/crm', 'h' || number, 'contact.tag.added', '2026-01-01', '{"contact_id": "c"}',
        'tag-added', 0, number,
        date '2026-05-01' + number % 2
    FROM contact;
INSERT INTO history_exits
    SELECT 'north', gen_random_uuid(), '2026-05-01', date '2026-05-01' + number % 2 FROM contact;
UPDATE goal_revision SET revision = 20000;
RESET session_replication_role;
"""
BIG = {"goals", "goal_versions", "workflow_states", "enrollments", "reversals", "achievements", "exits", "outbox"}
BIG |= {"goal_hits_kept", "goal_hits_20260501", "goal_hits_20260502"}
BIG |= {f"history_{kept}_{day}" for kept in ("events", "exits") for day in (20260501, 20260502)}

OF_DAYS = ("goal_hits_20260501_by_contact", "goal_hits_20260502_by_contact")

Plan = dict[str, Any]


@pytest.fixture
async def filled(administrator: connections.Connection, pool: sa_async.AsyncEngine) -> connections.Connection:
    """Tables that nobody but a worker analyzed."""
    await administrator.execute(_FILL)
    await table_statistics.analyze_grown(pool)
    return administrator


async def _plans(part: Awaitable[Any]) -> dict[str, list[Plan]]:
    """Run something and return the plans of each statement: the custom one, and the generic one."""
    plans: dict[str, list[Plan]] = {}

    async def hook(statement: statements.Statement) -> Any:
        sql = statement.sql.strip()
        if sql.startswith("BEGIN;"):  # the statement is sent along with BEGIN, and perhaps with COMMIT
            statement = replace(statement, sql=sql.removesuffix("; COMMIT").rpartition(";")[2].strip())
            sql = statement.sql
        if statement.connection is not None and sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "(")):
            plans[sql] = [await _for_its_values(statement), await _for_any_values(statement)]
        return await statement.run()

    with statements.hooked(hook):
        await part
    return plans


async def _for_its_values(statement: statements.Statement) -> Plan:
    assert statement.connection is not None
    return _plan(await statement.connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement.sql}", *statement.args))


async def _for_any_values(statement: statements.Statement) -> Plan:
    assert statement.connection is not None
    values = f"({', '.join('NULL' for _ in statement.args)})" if statement.args else ""
    execute = statement.connection.execute
    await execute(f"SET LOCAL plan_cache_mode = force_generic_plan; PREPARE wanted AS {statement.sql}")
    plan = _plan(await statement.connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE wanted{values}"))
    await execute("DEALLOCATE wanted; SET LOCAL plan_cache_mode = auto")
    return plan


def _plan(explained: Any) -> Plan:
    # The connections of a pool decode JSON themselves.
    plan: Plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
    return plan


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _assert_by_index(plans: dict[str, list[Plan]]) -> set[str]:
    """Assert that no table is scanned as a whole; return the indexes that are used."""
    nodes = [(sql, node) for sql, both in plans.items() for plan in both for node in _nodes(plan)]
    whole = [(sql, node["Relation Name"]) for sql, node in nodes if node["Node Type"] == "Seq Scan"]
    assert [(sql, table) for sql, table in whole if table in BIG] == []
    return {node["Index Name"] for _, node in nodes if "Index Name" in node}


async def test_facts_judgement_and_publishing_use_indexes(
    pool: sa_async.AsyncEngine, filled: connections.Connection
) -> None:
    worker = world.Worker(pool, world.Broker())
    known = ("w7", "e7", "c7")
    plans = await _plans(
        worker.take(
            started(5, "s1", ("w8", "e8", "c8")),
            started(0, "s2", ("w1", "e7", "c7")),
            ended(BEFORE_ITS_HIT, "x1", known),
            tagged("h-new", 5, "tag-7", "c7"),
        )
    )
    assert len(plans) >= 8
    assert _assert_by_index(plans) >= {
        "enrollments_pkey",
        "enrollments_by_contact",
        "goal_hits_kept_pkey",
        *OF_DAYS,
        "workflow_states_pkey",
        "achievements_pkey",
        "outbox_by_batch",
    }


async def test_a_move_reads_the_hits_of_its_tenant_alone(
    pool: sa_async.AsyncEngine, filled: connections.Connection
) -> None:
    async def count() -> None:
        async with tenant_copy.own_transaction(pool) as connection:
            await tenant_copy.sizes(connection, "west")

    plans = {
        sql: [for_its_values] for sql, (for_its_values, _) in (await _plans(count())).items() if "goal_hits" in sql
    }
    assert len(plans) == 1
    assert _assert_by_index(plans) >= {"goal_hits_kept_pkey", *OF_DAYS}


async def test_judgement_uses_indexes_for_any_number_of_contacts(
    pool: sa_async.AsyncEngine, filled: connections.Connection
) -> None:
    worker = world.Worker(pool, world.Broker())
    ends = [ended(BEFORE_ITS_HIT, f"x{n}", (f"w{n % 100}", f"e{n}", f"c{n}")) for n in range(2000)]
    plans = await _plans(worker.take(*ends))
    assert await filled.fetchval("SELECT count(*) FROM achievements WHERE revoked_at IS NOT NULL") == 2000
    judging = {sql: both for sql, both in plans.items() if "'\x1f'" in sql}
    assert len(judging) == 3
    assert _assert_by_index(judging) >= {"enrollments_pkey", "enrollments_by_contact", "goal_hits_kept_pkey", *OF_DAYS}


async def test_statements_use_indexes_without_tracking_too(
    pool: sa_async.AsyncEngine, filled: connections.Connection
) -> None:
    worker = world.Worker(pool, world.Broker(), tracked=False)
    assert _assert_by_index(await _plans(worker.take(tagged("h-new", 5, "tag-7", "c7"))))


async def test_a_workflow_state_finds_its_contacts_by_indexes(
    pool: sa_async.AsyncEngine, filled: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "STATE_SLICE_CONTACTS", 50)
    await filled.execute("UPDATE enrollments SET exit_waits = true, exited_at = NULL WHERE workflow_id = 'w3'")
    await filled.execute("DELETE FROM exits WHERE workflow_id = 'w3'")
    worker = world.Worker(pool, world.Broker())
    plans = await _plans(worker.take(state(ACTIVATED, 0, workflow_id="w3")))
    assert _assert_by_index(plans) >= {"enrollments_by_waiting_exit", "workflow_states_pkey", "achievements_pkey"}
    assert await filled.fetchval("SELECT count(*) FROM enrollments WHERE exit_waits") == 0


async def test_a_reversal_finds_its_contacts_by_indexes(
    pool: sa_async.AsyncEngine, filled: connections.Connection
) -> None:
    worker = world.Worker(pool, world.Broker())
    plans = await _plans(worker.take(failed("r", 5, contact_id="c7"), failed("r", 5, contact_id="c8")))
    assert _assert_by_index(plans) >= {"enrollments_by_contact", "reversals_pkey", "goal_hits_kept_pkey", *OF_DAYS}


async def test_the_reversals_of_a_contact_with_very_many_are_found_by_what_they_undo(
    pool: sa_async.AsyncEngine, filled: connections.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_reading, "REVERSALS_MAX", 0)
    plans = await _plans(world.Worker(pool, world.Broker()).take(failed("r", 5, contact_id="c7")))
    of_subjects = {sql: both for sql, both in plans.items() if "USING (tenant_id, contact_id, subject_id)" in sql}
    assert _assert_by_index(of_subjects) == {"reversals_by_subject"}


async def test_the_facts_of_an_explanation_are_found_by_indexes(
    pool: sa_async.AsyncEngine, filled: connections.Connection
) -> None:
    async def read() -> None:
        async with connections.tenant_transaction(pool, "north", "explain") as connection:
            await contact_facts.read(connection, "north", "w7", "c7", lateness=WEEK, tracking=True)

    plans = await _plans(read())
    # One workflow of the fill has nearly all goals, so the planner reads them all for any workflow.
    of_contact = {sql: both for sql, both in plans.items() if "goal_versions" not in sql}
    assert _assert_by_index(of_contact) >= {
        "enrollments_by_contact",
        "exits_pkey",
        "achievements_pkey",
        "goal_hits_kept_pkey",
        *OF_DAYS,
        "reversals_pkey",
        "workflow_states_pkey",
        "history_events_20260501_tenant_id_contact_id_event_time_idx",
        "history_exits_20260501_tenant_id_exit_id_idx",
    }


async def test_the_timeline_of_a_contact_is_found_by_indexes(
    pool: sa_async.AsyncEngine, filled: connections.Connection
) -> None:
    async def read() -> None:
        async with connections.tenant_transaction(pool, "north", "timeline") as connection:
            driver = await connections.driver_of(connection)
            known = await contact_timeline.workflows_of(driver, "north", "c7")
            await contact_timeline.read(driver, contact_timeline.Asked("north", "c7", known.searched))

    plans = await _plans(read())
    # The fill has no tenant but one with goals in many workflows, so the planner reads them all.
    of_contact = {sql: both for sql, both in plans.items() if "FROM goals" not in sql}
    assert len(of_contact) == 8
    assert _assert_by_index(of_contact) >= {
        "enrollments_by_contact",
        "exits_pkey",
        "achievements_pkey",
        *OF_DAYS,
        "history_events_20260501_tenant_id_contact_id_event_time_idx",
    }


async def test_a_sweep_uses_indexes(pool: sa_async.AsyncEngine, filled: connections.Connection) -> None:
    await filled.execute("UPDATE goal_hits_kept SET recorded_at = '2000-01-01' WHERE event_id LIKE 'h%777'")
    await filled.execute(
        "UPDATE goal_hits_kept SET kept_until = CASE WHEN event_id LIKE 'h%778' THEN '2000-01-01'::timestamptz"
        " ELSE '2100-01-01' END WHERE event_id LIKE 'h%8'"
    )
    await filled.execute(
        "UPDATE reversals SET recorded_at = '2000-01-01', contact_id = event_id WHERE event_id LIKE 'r%777'"
    )
    await filled.execute("UPDATE enrollments SET ended_at = '2000-01-01' WHERE enrollment_id LIKE 'e%775'")
    await filled.execute("UPDATE exits SET created_at = '2000-01-01' WHERE enrollment_id LIKE 'e%773'")
    await filled.execute("UPDATE outbox SET created_at = '2000-01-01' WHERE id % 1000 = 0")

    async def sweep() -> None:
        assert await retention.sweep_hits(pool, WEEK) == 40
        assert await retention.sweep_reversals(pool) == 20
        assert await retention.sweep_enrollments(pool, YEARS) == 40
        assert await outbox.sweep(pool, world.Broker(), world.TOPICS.model_dump()) == 20

    assert _assert_by_index(await _plans(sweep())) >= {
        "goal_hits_kept_by_recorded_at",
        "goal_hits_kept_by_kept_until",
        "reversals_by_recorded_at",
        "enrollments_by_contact",
        "enrollments_by_end",
        "exits_by_created_at",
        "outbox_pkey",
    }


async def test_changed_goals_are_found_by_their_revision(filled: connections.Connection) -> None:
    await filled.execute("UPDATE goals SET revision = 20001 WHERE tenant_id = 'north' AND workflow_id = 'w1'")
    explained = await filled.fetchval(f"EXPLAIN (FORMAT JSON) {loading._GOALS_CHANGED}", 20000)
    assert "goals_by_revision" in _assert_by_index({"goals changed": [_plan(explained)]})


async def test_statistics_find_payments_by_indexes(pool: sa_async.AsyncEngine, filled: connections.Connection) -> None:
    await filled.execute("UPDATE goals SET goal_type = 'purchase_made' WHERE workflow_id = 'w3'")
    queries = await _queries_of_statistics(pool, "w3")
    plans = {sql: [_plan(await filled.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *values))] for sql, values in queries}
    assert sum("payments_apart" in sql for sql in plans) == 1
    assert _assert_by_index(plans) >= {"enrollments_by_start", "achievements_by_workflow", "enrollments_by_payments"}


async def test_statistics_without_purchase_goals_look_for_no_payments(
    pool: sa_async.AsyncEngine, filled: connections.Connection
) -> None:
    assert not any("payments" in sql for sql, _ in await _queries_of_statistics(pool, "w3"))


async def _queries_of_statistics(pool: sa_async.AsyncEngine, workflow_id: str) -> list[tuple[str, Sequence[Any]]]:
    queries: list[tuple[str, Sequence[Any]]] = []

    @sa.event.listens_for(pool.sync_engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, sql: str, values: Sequence[Any], *_: Any) -> None:
        if sql.strip().startswith(("SELECT count", "WITH")):
            queries.append((sql, values))

    async with connections.tenant_transaction(pool, "north", "stats") as connection:
        await stats.workflow_stats(connection, "north", workflow_id, None, None, tracking=True)
    return queries
