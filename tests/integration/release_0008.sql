-- The statements on hits of a worker whose newest migration is 0008; test_hits_migration.py runs them on the newest schema.

-- record hits
WITH inserted AS (
    INSERT INTO goal_hits (tenant_id, workflow_id, contact_id, event_source, event_id, data, goal_id, goal_version, event_time, traceparent, tracestate)
    SELECT tenant_id, workflow_id, contact_id, event_source, event_id, data::json, goal_id, goal_version, event_time, traceparent, tracestate
    FROM unnest(string_to_array((SELECT $1), E'\x1f'), string_to_array((SELECT $2), E'\x1f'), string_to_array((SELECT $3), E'\x1f'), string_to_array((SELECT $4), E'\x1f'), string_to_array((SELECT $5), E'\x1f'), string_to_array((SELECT $6), E'\x1f'), $7::text::uuid[], $8::text::int[], $9::text::timestamptz[], $10::text::text[], $11::text::text[]) AS hit (tenant_id, workflow_id, contact_id, event_source, event_id, data, goal_id, goal_version, event_time, traceparent, tracestate)
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, event_source, event_id
)
SELECT CASE WHEN count(*) < $12 THEN
    (SELECT coalesce(json_agg(json_build_array(tenant_id, event_source, event_id)), '[]') FROM inserted)::text
END FROM inserted

-- record kept hits
WITH inserted AS (
    INSERT INTO goal_hits (tenant_id, workflow_id, contact_id, event_source, event_id, data, goal_id, goal_version, event_time, traceparent, tracestate, kept_until)
    SELECT tenant_id, workflow_id, contact_id, event_source, event_id, data::json, goal_id, goal_version, event_time, traceparent, tracestate,
        CASE WHEN kept_seconds IS NOT NULL
        THEN clock_timestamp() + greatest(make_interval(secs => kept_seconds), $14) END
    FROM unnest(string_to_array((SELECT $1), E'\x1f'), string_to_array((SELECT $2), E'\x1f'), string_to_array((SELECT $3), E'\x1f'), string_to_array((SELECT $4), E'\x1f'), string_to_array((SELECT $5), E'\x1f'), string_to_array((SELECT $6), E'\x1f'), $7::text::uuid[], $8::text::int[], $9::text::timestamptz[], $10::text::text[], $11::text::text[], $12::text::int[]) AS hit (tenant_id, workflow_id, contact_id, event_source, event_id, data, goal_id, goal_version, event_time, traceparent, tracestate, kept_seconds)
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, event_source, event_id
)
SELECT CASE WHEN count(*) < $13 THEN
    (SELECT coalesce(json_agg(json_build_array(tenant_id, event_source, event_id)), '[]') FROM inserted)::text
END FROM inserted

-- read facts
SELECT 'goals', NULL, NULL, NULL, NULL::uuid, NULL::int, NULL, NULL, NULL::timestamptz, NULL, NULL, NULL, NULL::timestamptz, revision, NULL::bool, NULL
FROM goal_revision
UNION ALL
SELECT 'hit', h.tenant_id, h.workflow_id, h.contact_id, h.goal_id, h.goal_version, h.event_source, h.event_id, h.event_time, h.data::text, h.traceparent, h.tracestate, NULL, NULL, NULL, NULL
FROM unnest(string_to_array((SELECT $1), E'\x1f'), string_to_array((SELECT $2), E'\x1f'), string_to_array((SELECT $3), E'\x1f')) AS wanted (tenant_id, workflow_id, contact_id)
JOIN goal_hits h USING (tenant_id, workflow_id, contact_id)
UNION ALL
SELECT 'state', s.tenant_id, s.workflow_id, NULL, NULL, NULL, NULL, NULL, s.since, NULL, NULL, NULL, NULL, NULL, s.active, NULL
FROM unnest(string_to_array((SELECT $4), E'\x1f'), string_to_array((SELECT $5), E'\x1f')) AS wanted (tenant_id, workflow_id)
JOIN workflow_states s USING (tenant_id, workflow_id)
UNION ALL
SELECT 'achievement', a.tenant_id, a.enrollment_id, NULL, a.goal_id, a.goal_version, a.event_source, a.event_id, a.achieved_at, a.data::text, a.traceparent, a.tracestate, a.enrolled_at, a.revision, a.revoked_at IS NOT NULL, a.counted
FROM unnest(string_to_array((SELECT $6), E'\x1f'), string_to_array((SELECT $7), E'\x1f')) AS wanted (tenant_id, enrollment_id)
JOIN achievements a USING (tenant_id, enrollment_id)
UNION ALL
SELECT 'reversal', r.tenant_id, NULL, r.contact_id, NULL, NULL, r.event_source, r.event_id, r.event_time, NULL, NULL, NULL, NULL, NULL, NULL, json_build_array(r.type, r.subject_id, r.refund_id, r.amount::text, r.currency)::text
FROM unnest(string_to_array((SELECT $8), E'\x1f'), string_to_array((SELECT $9), E'\x1f')) AS wanted (tenant_id, contact_id)
CROSS JOIN LATERAL (
    SELECT * FROM reversals r
    WHERE r.tenant_id = wanted.tenant_id AND r.contact_id = wanted.contact_id
    ORDER BY r.event_source, r.event_id LIMIT 101
) r

-- read the hits of a contact
SELECT goal_id, goal_version, event_source, event_id, event_time, data::text, traceparent, tracestate
FROM goal_hits WHERE tenant_id = $1 AND workflow_id = $2 AND contact_id = $3

-- sweep hits
WITH old AS MATERIALIZED (
    SELECT ctid, recorded_at, kept_until FROM goal_hits
    WHERE recorded_at >= $3 AND recorded_at < clock_timestamp() - $1::interval
    ORDER BY recorded_at LIMIT $2
), swept AS (
    DELETE FROM goal_hits WHERE ctid = ANY (ARRAY(SELECT old.ctid FROM old WHERE old.kept_until IS NULL)) RETURNING 1
)
SELECT (SELECT count(*) FROM swept) AS swept, count(*) AS seen, max(recorded_at) AS last FROM old

-- sweep kept hits
WITH old AS MATERIALIZED (
    SELECT ctid, tenant_id, goal_id, recorded_at FROM goal_hits
    WHERE kept_until < clock_timestamp()
    ORDER BY kept_until LIMIT $1
), goal AS MATERIALIZED (
    SELECT tenant_id, goal_id, (
        SELECT make_interval(secs => max(extract(epoch FROM greatest(
            (v.criteria ->> 'within')::interval, (v.criteria ->> 'deadline')::interval)))::float8)
        FROM goal_versions v
        WHERE v.tenant_id = of_old.tenant_id AND v.goal_id = of_old.goal_id
            AND v.criteria ?| ARRAY['times', 'total_amount']
    ) AS counts_for
    FROM (SELECT DISTINCT tenant_id, goal_id FROM old) AS of_old
), due AS MATERIALIZED (
    SELECT old.ctid, coalesce(recorded_at + counts_for > clock_timestamp(), false) AS counts
    FROM old LEFT JOIN goal USING (tenant_id, goal_id)
), extended AS (
    UPDATE goal_hits AS hit SET kept_until = recorded_at + (
        SELECT counts_for FROM goal WHERE goal.tenant_id = hit.tenant_id AND goal.goal_id = hit.goal_id)
    WHERE ctid = ANY (ARRAY(SELECT due.ctid FROM due WHERE counts))
), swept AS (
    DELETE FROM goal_hits WHERE ctid = ANY (ARRAY(SELECT due.ctid FROM due WHERE NOT counts)) RETURNING 1
)
SELECT (SELECT count(*) FROM swept) AS swept, count(*) AS seen FROM old

-- delete excess hits
DELETE FROM goal_hits WHERE ctid = ANY (ARRAY(
    SELECT h.ctid FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[]) AS excess (tenant_id, workflow_id, contact_id, goal_id, event_source, event_id)
    JOIN goal_hits h USING (tenant_id, workflow_id, contact_id, goal_id, event_source, event_id)
    FOR UPDATE OF h SKIP LOCKED))
