"""Enrollments over HTTP: the state of one, and the import of those that began earlier."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from goalworker.decoding import decoder
from goalworker.decoding.limits import Limits
from goalworker.domain import events, facts, ids, messages
from goalworker.postgres import connections
from tests.kit import running_api, support
from tests.kit.running_api import PATH, TENANT, pointers, problem

ENROLLMENTS = f"{PATH}/enrollments"
ENROLLMENT = {"enrollment_id": "e1", "contact_id": "c/1", "enrolled_at": "2026-05-01T14:00:00+02:00"}
GOAL, ANOTHER_GOAL = UUID(int=1), UUID(int=2)
DECODER = decoder.Decoder({"lifecycle": events.LIFECYCLE_TYPES}, Limits())


async def enrolled(administrator: connections.Connection, **columns: object) -> None:
    row = {"tenant_id": TENANT, "enrollment_id": "e1", "workflow_id": "onboarding", "contact_id": "c1", **columns}
    marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await administrator.execute(f"INSERT INTO enrollments ({', '.join(row)}) VALUES ({marks})", *row.values())


def at(hour: int) -> datetime:
    return datetime(2026, 5, 1, hour, tzinfo=UTC)


async def achieved(
    administrator: connections.Connection, goal_id: UUID, hour: int, revoked_at: datetime | None = None
) -> None:
    await administrator.execute(
        """INSERT INTO achievements VALUES ($1, 'e1', $2, 'onboarding', 'c1', 3, 'form_submitted', $3, $4,
            '/forms', 'evt', '{"contact_id":"c1","form_id":"f1"}', NULL, NULL, 2, $5)""",
        TENANT,
        goal_id,
        at(12),
        at(hour),
        revoked_at,
    )


# --- one enrollment ---


async def test_the_status_is_active_completed_or_ended(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    for number, (columns, status) in enumerate(
        (
            ({"enrolled_at": at(12)}, "active"),
            ({}, "active"),
            ({"enrolled_at": at(12), "ended_at": at(13)}, "ended"),
            ({"enrolled_at": at(12), "satisfied_at": at(13)}, "completed_goal"),
            ({"enrolled_at": at(12), "satisfied_at": at(13), "ended_at": at(14)}, "completed_goal"),
            ({"enrolled_at": at(12), "converted_at": at(13)}, "active"),
        )
    ):
        await enrolled(administrator, enrollment_id=str(number), **columns)
        found = (await client.get(f"/api/v1/enrollments/{number}")).json()
        assert found == {
            "status": status,
            "workflow_id": "onboarding",
            "contact_id": "c1",
            "enrolled_at": "2026-05-01T12:00:00Z" if "enrolled_at" in columns else None,
            "ended_at": columns["ended_at"].isoformat().replace("+00:00", "Z") if "ended_at" in columns else None,
            "achievements": [],
            "exit": None,
            "fresh_as_of": None,
        }


async def test_achievements_and_the_exit_are_shown_as_they_were_sent(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await enrolled(administrator, enrolled_at=at(12), satisfied_at=at(14))
    await achieved(administrator, GOAL, 14)
    await achieved(administrator, ANOTHER_GOAL, 13)
    await achieved(administrator, UUID(int=3), 13, revoked_at=at(15))
    await exited(administrator)
    found = (await client.get("/api/v1/enrollments/e1")).json()
    enrollment = facts.Enrollment(TENANT, "e1", "onboarding", "c1", at(12))
    trigger = facts.Trigger("/forms", "evt", at(14), b'{"contact_id":"c1","form_id":"f1"}')
    sent = messages.achieved(enrollment, "form_submitted", facts.Achievement(GOAL, 3, at(12), trigger, 2))
    assert [achievement["goal_id"] for achievement in found["achievements"]] == [str(ANOTHER_GOAL), str(GOAL)]
    assert found["achievements"][1] == json.loads(sent.value)["data"]
    exit_sent = messages.exit_goal(enrollment, "form_submitted", facts.Exit(GOAL, "all", at(14), (ANOTHER_GOAL, GOAL)))
    assert found["exit"] == json.loads(exit_sent.value)["data"]
    assert found["status"] == "completed_goal"


async def exited(administrator: connections.Connection) -> None:
    await administrator.execute(
        "INSERT INTO exits VALUES ($1, 'e1', 'onboarding', 'c1', $2, 'form_submitted', 'all', $3, $4)",
        TENANT,
        GOAL,
        [ANOTHER_GOAL, GOAL],
        at(14),
    )


async def test_an_exit_completes_an_enrollment_also_once_its_goals_are_revoked(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await enrolled(administrator, enrolled_at=at(12), ended_at=at(15), exited_at=at(14))
    await achieved(administrator, GOAL, 14, revoked_at=at(15))
    await exited(administrator)
    found = (await client.get("/api/v1/enrollments/e1")).json()
    assert (found["status"], found["achievements"]) == ("completed_goal", [])
    assert found["exit"]["goal_id"] == str(GOAL)


async def test_an_unknown_enrollment_is_not_found(client: httpx.AsyncClient) -> None:
    detail = "Unknown enrollment"
    body = problem(await client.get("/api/v1/enrollments/e%25:%20x"), 404, "not-found", detail)
    assert body["fresh_as_of"] is None


async def test_the_answer_is_as_fresh_as_the_partition_that_lags_most(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await enrolled(administrator, enrolled_at=at(12))
    await achieved(administrator, GOAL, 14)
    await achieved(administrator, ANOTHER_GOAL, 13)

    async def fresh() -> tuple[str | None, str | None]:
        known, unknown = [await client.get(f"/api/v1/enrollments/{enrollment_id}") for enrollment_id in ("e1", "e2")]
        assert (known.status_code, unknown.status_code) == (200, 404)
        assert len(known.json()["achievements"]) == 2
        return known.json()["fresh_as_of"], unknown.json()["fresh_as_of"]

    await administrator.execute(
        "INSERT INTO progress VALUES ('tag-added', 0, $1, $1), ('tag-added', 1, $2, $1)", at(15), at(14)
    )
    assert await fresh() == ("2026-05-01T14:00:00Z",) * 2
    await administrator.execute("INSERT INTO progress VALUES ('form-submitted', 0, NULL, $1)", at(15))
    assert await fresh() == (None, None)


# --- the import ---


async def sent(administrator: connections.Connection) -> list[tuple[str, str, Any]]:
    rows = await administrator.fetch("SELECT topic, key, value, batch_id FROM outbox ORDER BY id")
    assert all(row["batch_id"] is None for row in rows)
    return [(row["topic"], row["key"].decode(), row["value"]) for row in rows]


async def import_(client: httpx.AsyncClient, *enrollments: object) -> httpx.Response:
    return await client.post(ENROLLMENTS, json={"enrollments": list(enrollments)})


async def test_each_enrollment_becomes_the_messages_of_an_engine(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    answer = await import_(
        client, {**ENROLLMENT, "ended_at": "2026-05-02T00:00:00.5Z"}, {**ENROLLMENT, "enrollment_id": "e2"}
    )
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    written = await sent(administrator)
    assert {(topic, key) for topic, key, _ in written} == {("workflow_lifecycle", "acme:c%2F1")}
    decoded = [DECODER.decode("lifecycle", value, [], 0, datetime.now(UTC)) for _, _, value in written]
    begun, ended, second = (event for event in decoded if isinstance(event, events.Event))
    assert [event.type for event in (begun, ended, second)] == [
        events.ENROLLMENT_STARTED,
        events.ENROLLMENT_ENDED,
        events.ENROLLMENT_STARTED,
    ]
    assert (begun.tenant_id, begun.source, begun.time) == (TENANT, "/goalworker/api", at(12))
    assert begun.data == events.EnrollmentChanged("onboarding", "e1", "c/1")
    assert ended.time == datetime(2026, 5, 2, 0, 0, 0, 500_000, UTC)
    assert begun.id == str(ids.lifecycle_message_id("started", TENANT, "onboarding", "e1", "c/1", at(12).isoformat()))
    assert len({begun.id, ended.id, second.id}) == 3


async def test_an_enrollment_imported_twice_becomes_the_same_bytes(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    for entry in (ENROLLMENT, {**ENROLLMENT, "enrolled_at": "2026-05-01T12:00:00Z", "ended_at": None}):
        assert (await import_(client, entry, entry)).json() == {"accepted": 2}
    once, again = (value for _, _, value in await sent(administrator))
    assert once == again
    await import_(client, {**ENROLLMENT, "enrolled_at": "2026-05-01T12:00:00.000001Z"})
    assert json.loads((await sent(administrator))[-1][2])["id"] != json.loads(once)["id"]


async def test_a_thousand_enrollments_are_accepted_and_one_more_is_too_many(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    entries = [
        {**ENROLLMENT, "enrollment_id": f"e{number}", "ended_at": ENROLLMENT["enrolled_at"]} for number in range(1_001)
    ]
    assert (await import_(client, *entries[:1_000])).json() == {"accepted": 1_000}
    assert len(await sent(administrator)) == 2_000
    assert pointers(problem(await import_(client, *entries), 400, "invalid-request")) == ["/enrollments"]
    assert (await import_(client)).json() == {"accepted": 0}


async def test_an_id_of_another_workflow_or_contact_is_a_conflict(
    client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await enrolled(administrator, enrolled_at=at(12))
    await enrolled(administrator, enrollment_id="e2", workflow_id="another")
    good = {**ENROLLMENT, "enrollment_id": "e3"}
    cases: Sequence[tuple[list[dict[str, str]], list[str]]] = (
        ([good, {**ENROLLMENT, "contact_id": "c2"}], ["/enrollments/1/enrollment_id"]),
        ([good, {**ENROLLMENT, "contact_id": "c1", "enrollment_id": "e2"}], ["/enrollments/1/enrollment_id"]),
        ([good, {**good, "contact_id": "c9"}], ["/enrollments/0/enrollment_id", "/enrollments/1/enrollment_id"]),
    )
    for entries, where in cases:
        assert pointers(problem(await import_(client, *entries), 409, "conflicting-enrollment")) == where
    assert await sent(administrator) == []
    assert (await import_(client, good, {**ENROLLMENT, "contact_id": "c1"})).status_code == 202


async def test_every_fault_of_every_enrollment_is_named(client: httpx.AsyncClient) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    found = problem(
        await import_(
            client,
            ENROLLMENT,
            7,
            {},
            {**ENROLLMENT, "contact_id": "a\u0000", "enrolled_at": "2026-05-01", "state": 1},
            {**ENROLLMENT, "enrolled_at": soon},
            {**ENROLLMENT, "ended_at": "2026-05-01T11:59:59Z"},
            {**ENROLLMENT, "enrolled_at": 1777636800},
            {**ENROLLMENT, "contact_id": None, "ended_at": "2026-05-01T11:59:59Z"},
        ),
        400,
        "invalid-request",
    )
    assert pointers(found) == [
        "/enrollments/1",
        "/enrollments/2/enrollment_id",
        "/enrollments/2/contact_id",
        "/enrollments/2/enrolled_at",
        "/enrollments/3/contact_id",
        "/enrollments/3/enrolled_at",
        "/enrollments/3/state",
        "/enrollments/4/enrolled_at",
        "/enrollments/5/ended_at",
        "/enrollments/6/enrolled_at",
        "/enrollments/7/contact_id",
        "/enrollments/7/ended_at",
    ]
    details = [error["detail"] for error in found["errors"]]
    assert details[0] == "Entry 1 must be an object"
    assert details[4] == '`contact_id` must be text of 1 to 255 bytes without control characters; got "a\\x00"'
    assert details[6] == "`state` is unknown; there are enrollment_id, contact_id, enrolled_at, ended_at"
    assert "GOALWORKER_EVENTS__MAX_FUTURE_SECONDS" in details[7]
    assert details[11] == '`ended_at` must not be before `enrolled_at`; got "2026-05-01T11:59:59Z"'
    for body, where in (
        ({}, ["/enrollments"]),
        ({"enrollments": {}, "x": 1}, ["/enrollments", "/x"]),
        ({"enrollments": [{**ENROLLMENT, "\ud800": 1}], "x": 1}, ["/enrollments/0", "/x"]),
        ({"\ud800": 1}, [""]),
    ):
        answer = await client.post(ENROLLMENTS, content=json.dumps(body), headers={"content-type": "application/json"})
        assert pointers(problem(answer, 400, "invalid-request")) == where


@pytest.mark.parametrize("ahead_seconds", [3600, -3600])
async def test_the_clock_of_the_database_decides_what_is_in_the_future(database_url: str, ahead_seconds: int) -> None:
    await support.set_clock_ahead(database_url, ahead_seconds)
    database_time = datetime.now(UTC) + timedelta(seconds=ahead_seconds)
    async with running_api.running(database_url) as api, api.holder() as client:
        soon = {**ENROLLMENT, "enrolled_at": (database_time + timedelta(seconds=240)).isoformat()}
        assert (await import_(client, soon)).status_code == 202
        late = {**ENROLLMENT, "enrolled_at": (database_time + timedelta(seconds=420)).isoformat()}
        assert pointers(problem(await import_(client, late), 400, "invalid-request")) == ["/enrollments/0/enrolled_at"]


async def test_imports_are_refused_without_tracking(database_url: str) -> None:
    variables = {**running_api.TOKENS, "GOALWORKER_ENROLLMENTS__TRACKING": "false"}
    async with running_api.running(database_url, variables) as api, api.holder() as client:
        problem(await import_(client, ENROLLMENT), 409, "enrollment-tracking-off")
