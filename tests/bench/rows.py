"""A database after a few years: one large workflow, many ordinary ones, and their goals."""

import asyncpg

TENANT, LARGE = "acme", "welcome"
ORDINARY_WORKFLOWS = 400

ENROLLMENTS, LARGE_ENROLLMENTS, GOALS = 5_000_000, 1_000_000, 100_000
"""A quarter of the enrollments convert, a fifth of those with two goals: 300,000 achievements in the large workflow.

Of one conversion in fifty, the purchases were refunded.
"""

FILL_SECONDS = 900.0

# Workflow 0 is the large one; its goals are like all others.
_GOALS = """
INSERT INTO goals
SELECT 'acme', md5('goal ' || n)::uuid, CASE WHEN n < 3 THEN 'welcome' ELSE 'workflow-' || n / 3 END,
    CASE n % 3 WHEN 0 THEN 'tag_added' ELSE 'purchase_made' END, NULL, 1, '2024-12-01', 'ann', '2024-12-01', 'ann',
    NULL, 1
FROM generate_series(0, {goals} - 1) AS n
"""

_VERSIONS = """
INSERT INTO goal_versions
SELECT tenant_id, goal_id, 1,
    CASE goal_type WHEN 'tag_added' THEN jsonb_build_object('tag_id', goal_id) ELSE '{{"any_purchase": true}}' END,
    true, created_at, NULL
FROM goals
"""

_ENROLLMENTS = """
INSERT INTO enrollments (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at, ended_at, satisfied_at,
    converted_at, exited_at)
SELECT 'acme', md5('run ' || n)::uuid::text,
    CASE WHEN n < {large} THEN 'welcome' ELSE 'workflow-' || 1 + n % {workflows} END, md5('contact ' || n)::uuid::text,
    began, CASE n % 2 WHEN 0 THEN began + interval '30 days' END, achieved, achieved, achieved
FROM (
    SELECT n, began, CASE n % 4 WHEN 0 THEN began + random() ^ 3 * interval '20 days' END AS achieved
    FROM (
        SELECT n, '2025-01-01'::timestamptz + random() * interval '365 days' AS began
        FROM generate_series(0, {enrollments} - 1) AS n
    ) AS started
) AS run
"""

_ACHIEVEMENTS = """
INSERT INTO achievements (tenant_id, enrollment_id, goal_id, workflow_id, contact_id, goal_version, goal_type,
    enrolled_at, achieved_at, event_source, event_id, data, revision)
SELECT e.tenant_id, e.enrollment_id, g.goal_id, e.workflow_id, e.contact_id, 1, g.goal_type, e.enrolled_at,
    e.converted_at, '/shop', md5(e.enrollment_id || g.place),
    CASE g.goal_type
        WHEN 'tag_added' THEN json_build_object('contact_id', e.contact_id, 'tag_id', g.goal_id)
        ELSE json_build_object('contact_id', e.contact_id, 'payment_id', md5(e.enrollment_id),
            'amount', (random() * 500)::numeric(10, 2)::text, 'currency', 'EUR', 'product_ids', ARRAY['p1', 'p2'])
    END, 1
FROM (SELECT *, get_byte(decode(left(enrollment_id, 4), 'hex'), 0) AS byte FROM enrollments) AS e
JOIN (SELECT *, row_number() OVER (PARTITION BY workflow_id ORDER BY goal_id) - 1 AS place FROM goals) AS g
    USING (tenant_id, workflow_id)
WHERE e.converted_at IS NOT NULL
    AND (g.place = e.byte % 3 OR e.byte % 5 = 0 AND g.place = (e.byte + 1) % 3)
"""

_REFUNDS = """
WITH refunded AS (
    UPDATE enrollments AS e SET payments = (
        SELECT json_agg(json_build_object('goal_id', goal_id, 'goal_version', goal_version, 'source', event_source,
            'id', event_id, 'time', achieved_at, 'data', data, 'reversed', data ->> 'amount'))::text
        FROM achievements AS a
        WHERE a.tenant_id = e.tenant_id AND a.enrollment_id = e.enrollment_id AND goal_type = 'purchase_made'
    )
    WHERE converted_at IS NOT NULL AND get_byte(decode(left(enrollment_id, 8), 'hex'), 3) < 5
    RETURNING tenant_id, enrollment_id
)
UPDATE achievements AS a SET payments_apart = true, revoked_at = achieved_at
FROM refunded AS r
WHERE a.tenant_id = r.tenant_id AND a.enrollment_id = r.enrollment_id AND goal_type = 'purchase_made'
"""

_EXITS = """
INSERT INTO exits
SELECT DISTINCT ON (enrollment_id) tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, 'any',
    ARRAY[goal_id], achieved_at
FROM achievements
ORDER BY enrollment_id, goal_id
"""

# Of each of these contacts, 1,000 events are kept, over a month of days; half of them hit goals of the workflow.
KEPT_CONTACTS, KEPT_EVENTS = 1_000, 1_000
_KEPT_DAYS = "SELECT goalworker_make_history_days('2025-12-02', '2025-12-31')"
_COVERAGE = """
WITH positions AS (
    INSERT INTO history_positions
    VALUES ('payment-completed', 0, NULL, 0, 1, '2025-12-02', '2100-01-01T00:00:00Z') RETURNING 1
)
INSERT INTO history_coverage VALUES (1, 'enrolled', NULL, 2592000, NULL)
"""
_KEPT = """
INSERT INTO history_events
SELECT 'acme', contact_id, '/shop', md5(contact_id || n), type, '2025-12-02'::timestamptz + n * interval '40 minutes',
    CASE type
        WHEN 'payment.completed' THEN json_build_object('contact_id', contact_id, 'payment_id', md5(n::text),
            'amount', (n % 500)::text, 'currency', 'EUR', 'product_ids', ARRAY['p1', 'p2'])
        ELSE json_build_object('contact_id', contact_id, 'tag_id', 't' || n % 50)
    END::text,
    'payment-completed', 0, n, '2025-12-02'::date + n % 30
FROM (
    SELECT contact_id, n, CASE n % 2 WHEN 0 THEN 'payment.completed' ELSE 'contact.tag.added' END AS type
    FROM (SELECT contact_id FROM enrollments WHERE workflow_id = 'welcome' ORDER BY enrollment_id LIMIT {contacts}) AS c
    CROSS JOIN generate_series(1, {events}) AS n
) AS kept
"""
_CONTACTS_KEPT = "SELECT DISTINCT contact_id FROM history_events"


async def fill(url: str, share: int) -> tuple[list[str], list[str]]:
    """Write the rows, one nth of the whole; return some enrollment ids, and the contacts with kept events."""
    sizes = {"enrollments": ENROLLMENTS // share, "large": LARGE_ENROLLMENTS // share, "goals": GOALS // share}
    connection = await asyncpg.connect(url, command_timeout=FILL_SECONDS)
    try:
        await connection.execute("UPDATE goal_revision SET revision = 1")
        for statement in (_GOALS, _VERSIONS, _ENROLLMENTS, _ACHIEVEMENTS, _EXITS, _REFUNDS):
            await connection.execute(statement.format(workflows=ORDINARY_WORKFLOWS, **sizes))
        for statement in (_KEPT_DAYS, _COVERAGE, _KEPT):
            await connection.execute(statement.format(contacts=KEPT_CONTACTS // share, events=KEPT_EVENTS))
        await connection.execute("VACUUM ANALYZE")  # as autovacuum has done in all these years
        rows = await connection.fetch("SELECT enrollment_id FROM enrollments TABLESAMPLE SYSTEM (1) LIMIT 1000")
        return [row[0] for row in rows], [row[0] for row in await connection.fetch(_CONTACTS_KEPT)]
    finally:
        await connection.close()
