-- The statements of a worker whose newest migration is 0004; test_schema.py runs them on the newest schema.

-- record enrollments
INSERT INTO enrollments AS known (tenant_id, enrollment_id, workflow_id, contact_id, enrolled_at, ended_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
ON CONFLICT (tenant_id, enrollment_id) DO UPDATE
    SET enrolled_at = least(known.enrolled_at, excluded.enrolled_at),
        ended_at = least(known.ended_at, excluded.ended_at)
    WHERE known.workflow_id = excluded.workflow_id AND known.contact_id = excluded.contact_id
        AND (least(known.enrolled_at, excluded.enrolled_at) IS DISTINCT FROM known.enrolled_at
            OR least(known.ended_at, excluded.ended_at) IS DISTINCT FROM known.ended_at)
RETURNING tenant_id, enrollment_id

-- find owners
SELECT e.tenant_id, e.enrollment_id, e.workflow_id, e.contact_id
FROM unnest($1::text[], $2::text[]) AS wanted (tenant_id, enrollment_id)
JOIN enrollments e USING (tenant_id, enrollment_id)

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

-- record states
INSERT INTO workflow_states AS known (tenant_id, workflow_id, since, active)
SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::bool[])
ON CONFLICT (tenant_id, workflow_id, since) DO UPDATE
    SET active = false WHERE known.active AND NOT excluded.active
RETURNING tenant_id, workflow_id, since

-- lock enrollments
SELECT e.tenant_id, e.enrollment_id, e.workflow_id, e.contact_id, e.enrolled_at, e.ended_at, e.satisfied_at, e.converted_at, e.exited_at
FROM unnest(string_to_array((SELECT $1), E'\x1f'), string_to_array((SELECT $2), E'\x1f'), string_to_array((SELECT $3), E'\x1f')) AS wanted (tenant_id, workflow_id, contact_id)
JOIN enrollments e USING (tenant_id, workflow_id, contact_id)
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e

-- read facts
SELECT 'goals', NULL, NULL, NULL, NULL::uuid, NULL::int, NULL, NULL, NULL::timestamptz, NULL, NULL, NULL, NULL::timestamptz, revision, NULL::bool
FROM goal_revision
UNION ALL
SELECT 'hit', h.tenant_id, h.workflow_id, h.contact_id, h.goal_id, h.goal_version, h.event_source, h.event_id, h.event_time, h.data::text, h.traceparent, h.tracestate, NULL, NULL, NULL
FROM unnest(string_to_array((SELECT $1), E'\x1f'), string_to_array((SELECT $2), E'\x1f'), string_to_array((SELECT $3), E'\x1f')) AS wanted (tenant_id, workflow_id, contact_id)
JOIN goal_hits h USING (tenant_id, workflow_id, contact_id)
UNION ALL
SELECT 'state', s.tenant_id, s.workflow_id, NULL, NULL, NULL, NULL, NULL, s.since, NULL, NULL, NULL, NULL, NULL, s.active
FROM unnest(string_to_array((SELECT $4), E'\x1f'), string_to_array((SELECT $5), E'\x1f')) AS wanted (tenant_id, workflow_id)
JOIN workflow_states s USING (tenant_id, workflow_id)
UNION ALL
SELECT 'achievement', a.tenant_id, a.enrollment_id, NULL, a.goal_id, a.goal_version, a.event_source, a.event_id, a.achieved_at, a.data::text, a.traceparent, a.tracestate, a.enrolled_at, a.revision, a.revoked_at IS NOT NULL
FROM unnest(string_to_array((SELECT $6), E'\x1f'), string_to_array((SELECT $7), E'\x1f')) AS wanted (tenant_id, enrollment_id)
JOIN achievements a USING (tenant_id, enrollment_id)

-- find contacts of a state
SELECT contact_id FROM goal_hits
WHERE tenant_id = $1 AND workflow_id = $2 AND contact_id > $4 AND event_time >= $3
UNION
SELECT contact_id FROM achievements
WHERE tenant_id = $1 AND workflow_id = $2 AND contact_id > $4 AND achieved_at >= $3
ORDER BY contact_id LIMIT $5

-- write verdicts
WITH judged AS (
    SELECT * FROM unnest(string_to_array((SELECT $1), E'\x1f'), string_to_array((SELECT $2), E'\x1f'), string_to_array((SELECT $3), E'\x1f'), string_to_array((SELECT $4), E'\x1f'), (SELECT $5::text)::timestamptz[], (SELECT $6::text)::timestamptz[], (SELECT $7::text)::uuid[], (SELECT $8::text)::text[], (SELECT $9::text)::text[], (SELECT $10::text)::text[]) AS judged (tenant_id, enrollment_id, workflow_id, contact_id, satisfied_at, converted_at, goal_id, goal_type, logic, goal_ids)
), achieved AS (
    INSERT INTO achievements (tenant_id, enrollment_id, workflow_id, contact_id, goal_type, event_source, event_id, data, goal_id, goal_version, enrolled_at, achieved_at, traceparent, tracestate, revision, revoked_at)
    SELECT tenant_id, enrollment_id, workflow_id, contact_id, goal_type, event_source, event_id, data::json, goal_id, goal_version, enrolled_at, achieved_at, traceparent, tracestate, revision, revoked_at
    FROM unnest(string_to_array((SELECT $11), E'\x1f'), string_to_array((SELECT $12), E'\x1f'), string_to_array((SELECT $13), E'\x1f'), string_to_array((SELECT $14), E'\x1f'), string_to_array((SELECT $15), E'\x1f'), string_to_array((SELECT $16), E'\x1f'), string_to_array((SELECT $17), E'\x1f'), string_to_array((SELECT $18), E'\x1f'), $19::text::uuid[], $20::text::int[], $21::text::timestamptz[], $22::text::timestamptz[], $23::text::text[], $24::text::text[], $25::text::int[], $26::text::timestamptz[]) AS achieved (tenant_id, enrollment_id, workflow_id, contact_id, goal_type, event_source, event_id, data, goal_id, goal_version, enrolled_at, achieved_at, traceparent, tracestate, revision, revoked_at)
    ON CONFLICT (tenant_id, enrollment_id, goal_id) DO UPDATE
        SET goal_version = excluded.goal_version, enrolled_at = excluded.enrolled_at, achieved_at = excluded.achieved_at, event_source = excluded.event_source, event_id = excluded.event_id, data = excluded.data, traceparent = excluded.traceparent, tracestate = excluded.tracestate, revision = excluded.revision, revoked_at = excluded.revoked_at
), exited AS (
    INSERT INTO exits (tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, logic, goal_ids,
        achieved_at)
    SELECT tenant_id, enrollment_id, workflow_id, contact_id, goal_id, goal_type, logic,
        string_to_array(goal_ids, ',')::uuid[], satisfied_at
    FROM judged WHERE goal_id IS NOT NULL
)
UPDATE enrollments e
SET satisfied_at = judged.satisfied_at, converted_at = judged.converted_at,
    exited_at = CASE WHEN judged.goal_id IS NULL THEN e.exited_at ELSE judged.satisfied_at END
FROM judged
WHERE e.tenant_id = judged.tenant_id AND e.enrollment_id = judged.enrollment_id
    AND (judged.goal_id IS NOT NULL
        OR (e.satisfied_at, e.converted_at) IS DISTINCT FROM (judged.satisfied_at, judged.converted_at))

-- sweep hits
DELETE FROM goal_hits WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM goal_hits WHERE recorded_at < clock_timestamp() - $1::interval ORDER BY recorded_at LIMIT $2))

-- find old enrollments
(SELECT e.tenant_id, e.enrollment_id FROM enrollments e
 WHERE e.ended_at < clock_timestamp() - $1::interval ORDER BY e.ended_at LIMIT $2)
UNION
(SELECT x.tenant_id, x.enrollment_id FROM exits x JOIN enrollments e USING (tenant_id, enrollment_id)
 WHERE x.created_at < clock_timestamp() - $1::interval AND e.ended_at IS NULL ORDER BY x.created_at LIMIT $2)
ORDER BY tenant_id, enrollment_id

-- lock old enrollments
SELECT e.tenant_id, e.enrollment_id
FROM unnest($1::text[], $2::text[]) AS old (tenant_id, enrollment_id)
JOIN enrollments e USING (tenant_id, enrollment_id)
WHERE e.ended_at IS NULL OR e.ended_at < clock_timestamp() - $3::interval
ORDER BY e.tenant_id, e.enrollment_id
FOR UPDATE OF e SKIP LOCKED

-- delete achievements
DELETE FROM achievements t USING unnest($1::text[], $2::text[]) AS old (tenant_id, enrollment_id)
WHERE t.tenant_id = old.tenant_id AND t.enrollment_id = old.enrollment_id

-- delete exits
DELETE FROM exits t USING unnest($1::text[], $2::text[]) AS old (tenant_id, enrollment_id)
WHERE t.tenant_id = old.tenant_id AND t.enrollment_id = old.enrollment_id

-- delete enrollments
DELETE FROM enrollments t USING unnest($1::text[], $2::text[]) AS old (tenant_id, enrollment_id)
WHERE t.tenant_id = old.tenant_id AND t.enrollment_id = old.enrollment_id
