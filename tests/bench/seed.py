"""Goals, and enrollments of the contacts that achieve them; nobody analyzes them, as in a new installation."""

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg

FILL_SECONDS = 1_800.0
APPLICATION = "bench"
"""Name by which the server knows our own connections."""

# Tenant, workflow, type and criteria of goal n follow from n as in load.py. A workflow has up to three goals.
_GOALS = """
INSERT INTO goals
SELECT 'tenant-' || lpad((n % $2)::text, 6, '0'), md5('goal ' || n)::uuid, 'workflow-' || n / (3 * $2),
    (ARRAY['tag_added', 'purchase_made', 'appointment_booked', 'form_submitted', 'pipeline_stage_reached'])[n % 5 + 1],
    NULL, 1, '2024-12-01', 'ann', '2024-12-01', 'ann', NULL, 1
FROM generate_series(0::bigint, $1::bigint - 1) AS n
"""

_VERSIONS = """
INSERT INTO goal_versions
SELECT 'tenant-' || lpad((n % $2)::text, 6, '0'), md5('goal ' || n)::uuid, 1,
    CASE n % 5
        WHEN 0 THEN jsonb_build_object('tag_id', wanted)
        WHEN 1 THEN jsonb_build_object('product_id', wanted)
        WHEN 2 THEN jsonb_build_object('calendar_id', wanted)
        WHEN 3 THEN jsonb_build_object('form_id', wanted)
        ELSE jsonb_build_object('pipeline_id', 'pipeline-1', 'stage_id', wanted)
    END, true, '2024-12-01', NULL
FROM (
    SELECT n, 'wanted-' || lpad(n::text, 9, '0') AS wanted FROM generate_series(0::bigint, $1::bigint - 1) AS n
) AS goal
"""

# Enrollment k has goal k % goals: its contact's event hits this goal (load.py).
_ENROLLMENTS = """
INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)
SELECT 'tenant-' || lpad((k % $1 % $2)::text, 6, '0'), md5('run ' || k)::uuid::text,
    'workflow-' || k % $1 / (3 * $2), 'contact-' || lpad(k::text, 9, '0'), '2025-01-01'
FROM generate_series($3::bigint, $4::bigint - 1) AS k
"""

_INDEXES = """
SELECT indexdef, 'DROP INDEX ' || indexrelid::regclass FROM pg_index JOIN pg_class c ON c.oid = indexrelid
JOIN pg_indexes ON indexname = c.relname WHERE indrelid = $1::regclass AND NOT indisprimary
"""
_PRIMARY_KEY = """
SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)),
    format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'p'
"""

_PUT_BACK = """
UPDATE enrollments e SET satisfied_at = NULL, converted_at = NULL, exited_at = NULL FROM exits x
WHERE e.tenant_id = x.tenant_id AND e.enrollment_id = x.enrollment_id
"""

# A payment of each contact, kept today: half a year after its enrollment, of an amount up to 99.
PLANNED_SINCE = "2025-01-01T00:00:00Z"
_PLANNED = """
INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at)
SELECT $1::text, md5('planned ' || n)::uuid::text, $2::text, md5('planned contact ' || n)::uuid::text, $3::timestamptz
FROM generate_series(1, $4::int) AS n
"""
_MAKE_TODAY = "SELECT goalworker_make_history_days(current_date, current_date)"
_KEPT = """
INSERT INTO history_events (tenant_id, contact_id, event_source, event_id, type, event_time, data, topic, partition,
    "offset", recorded_on)
SELECT tenant_id, contact_id, '/shop', md5(contact_id), 'payment.completed', enrolled_at + interval '180 days',
    json_build_object('contact_id', contact_id, 'payment_id', md5(enrollment_id),
        'amount', (get_byte(decode(left(enrollment_id, 2), 'hex'), 0) % 100)::text, 'currency', 'EUR',
        'product_ids', ARRAY['p1', 'p2'])::text, 'payment-completed', 0, row_number() OVER (), current_date
FROM enrollments WHERE tenant_id = $1 AND workflow_id = $2
"""
_BACKDATE = "UPDATE history_positions SET history_from = $1"


async def planned(url: str, tenant_id: str, workflow_id: str, count: int) -> None:
    """Write enrollments of a workflow, and a kept payment of each contact."""
    async with Connection(url) as connection:
        await connection.execute(_PLANNED, tenant_id, workflow_id, datetime.fromisoformat(PLANNED_SINCE), count)
        await connection.execute(_MAKE_TODAY)
        await connection.execute(_KEPT, tenant_id, workflow_id)


async def backdate_history(url: str, partitions: int) -> bool:
    """Let history begin before what was written; return False while fewer partitions than these have begun."""
    async with Connection(url) as connection:
        if await connection.fetchval("SELECT count(*) FROM history_positions") < partitions:
            return False
        await connection.execute(_BACKDATE, datetime.fromisoformat(PLANNED_SINCE))
        return True


async def goals(url: str, count: int, tenants: int) -> None:
    """Write goals 0 to count - 1."""
    async with Connection(url) as connection:
        await connection.execute("UPDATE goal_revision SET revision = 1")
        await connection.execute(_GOALS, count, tenants)
        await connection.execute(_VERSIONS, count, tenants)


async def enrollments(url: str, goals: int, tenants: int, first: int, end: int) -> None:
    """Write enrollments first to end - 1, and create the indexes afterwards, which takes a fraction of the time."""
    async with Connection(url) as connection, without_indexes(connection, "enrollments"):
        await connection.execute(_ENROLLMENTS, goals, tenants, first, end)


@contextlib.asynccontextmanager
async def without_indexes(connection: asyncpg.Connection, table: str) -> AsyncIterator[None]:
    """Drop the indexes of a table for the block, and create them again afterwards."""
    aside = [*await connection.fetch(_INDEXES, table), *await connection.fetch(_PRIMARY_KEY, table)]
    for _, drop in aside:
        await connection.execute(drop)
    yield
    await connection.execute("SET maintenance_work_mem = '512MB'")
    for make, _ in aside:
        await connection.execute(make)


async def settled(*urls: str) -> None:
    """Vacuum databases, as autovacuum does while they grow, and let the server finish its writes."""
    for url in urls:
        async with Connection(url) as connection:
            await connection.execute("VACUUM")
            await connection.execute("CHECKPOINT")


async def put_back(url: str, *, hits: bool = True) -> None:
    """Undo the changes of a load; without hits, these are left."""
    async with Connection(url) as connection:
        # By index, whatever the server believes: it would read all enrollments for few exits.
        await connection.execute("SET enable_hashjoin = off; SET enable_mergejoin = off")
        await connection.execute(_PUT_BACK)
        await connection.execute(f"TRUNCATE {'goal_hits, ' if hits else ''}achievements, exits, outbox")


class Connection:
    """Connection to a database, for statements that take long."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await asyncpg.connect(
            self._url, command_timeout=FILL_SECONDS, server_settings={"application_name": APPLICATION}
        )
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()
