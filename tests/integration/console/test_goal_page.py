"""Pages of goals without scripts: read, created, edited, planned, saved, paused, deleted and backfilled."""

import html
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from goalworker.console import addresses
from goalworker.postgres import connections
from goalworker.stores import goal_store, jobs
from tests.integration import goal_steps, job_runs, kept_events
from tests.integration.goal_steps import TENANT, WORKFLOW
from tests.kit import console, forms, running_api

APRIL = datetime(2026, 4, 1, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script>\u202e{{7*7}}'
PURCHASE = {"goal_type": "purchase_made", "criteria": {"min_amount": "50", "currency": "EUR"}, "name": "Paid"}


def path_of(goal: goal_store.StoredGoal) -> str:
    return f"/console/workflows/{addresses.segment(goal.workflow_id)}/goals/{goal.id}"


def text_of(page: httpx.Response) -> str:
    return html.unescape(page.text)


async def stored(api: running_api.Api, goal_id: UUID) -> goal_store.StoredGoal:
    return await goal_store.get(api.pool, TENANT, goal_id)


async def only_goal(api: running_api.Api) -> goal_store.StoredGoal:
    (goal,) = (await goal_store.list_goals(api.pool, TENANT, WORKFLOW)).goals
    return goal


async def run(api: running_api.Api, kind: str) -> None:
    """Run the next job, as `goalworker insight` does."""
    assert await job_runs.runner(api.pool).run_next(kind)


async def opened(client: httpx.AsyncClient, path: str) -> httpx.Response:
    page = await client.get(path)
    assert page.status_code == 200, page.text
    return page


async def edited(client: httpx.AsyncClient, goal: goal_store.StoredGoal, button: str, **typed: Any) -> httpx.Response:
    """Open a goal, press Edit, type, and press a button."""
    form = await forms.send(client, await opened(client, path_of(goal)), "Edit")
    return await forms.send(client, form, button, **typed)


# --- the page ---


async def test_a_goal_is_shown_with_its_criteria_versions_and_numbers(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    goal = await goal_steps.create(api.pool, given=PURCHASE)
    await goal_steps.update(api.pool, goal, criteria={"min_amount": "60", "currency": "EUR"})
    page = await opened(client, f"{path_of(goal)}?whole=1")
    shown = text_of(page)
    for words in ("A contact pays at least 60 EUR.", "min_amount", "bob", "Created.", "Changed.", "version 2"):
        assert words in shown
    rows = f"/console/workflows/{WORKFLOW}/achievements?goal_id={goal.id}"
    assert f'<a href="{rows}">0</a>' in page.text
    await opened(client, rows)
    assert f"GET /api/v1/workflows/{WORKFLOW}/goals/{goal.id}" in page.text
    assert forms.buttons_of(page) >= {"Edit", "Pause", "Delete", "Set logic"}
    assert "Resume" not in forms.buttons_of(page)


async def test_the_numbers_are_a_part_that_scripts_fetch(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool)
    page = await opened(client, path_of(goal))
    assert f'hx-get="{path_of(goal)}/numbers"' in page.text
    part = await opened(client, f"{path_of(goal)}/numbers")
    assert "<html" not in part.text
    assert f"achievements?goal_id={goal.id}" in part.text


async def test_of_many_changes_the_latest_are_shown(
    api: running_api.Api, client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = await goal_steps.create(api.pool)
    await administrator.execute(
        "INSERT INTO audit_log (tenant_id, workflow_id, goal_id, version, at, actor, action, before, after)"
        " SELECT tenant_id, workflow_id, goal_id, version, at, 'actor-' || number, action, before, after"
        " FROM audit_log CROSS JOIN generate_series(1, 102) AS number"
    )
    page = (await opened(client, path_of(goal))).text
    assert "actor-102<" in page
    assert "actor-2<" not in page
    assert "3 older changes are in the API's answer." in page


async def test_hostile_names_and_ids_are_shown_as_text(api: running_api.Api, client: httpx.AsyncClient) -> None:
    given = {"goal_type": "tag_added", "criteria": {"tag_id": HOSTILE}, "name": HOSTILE}
    goal = await goal_steps.create(api.pool, workflow_id=f"a/b?{HOSTILE}", given=given)
    for path in (path_of(goal), f"{path_of(goal)}/edit", f"{path_of(goal)}?whole=1"):
        page = await opened(client, path)
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text
        assert "{{7*7}}" in page.text
    same = await edited(client, goal, "Save")
    assert "nothing was changed" in same.text
    assert (await stored(api, goal.id)) == goal


async def test_goals_of_other_tenants_and_workflows_are_not_there(
    api: running_api.Api, client: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    goal = await goal_steps.create(api.pool)
    token = console.csrf_of(await opened(other, "/console"))
    page = path_of(goal)
    for answer in (
        await other.get(page),
        await other.get(f"{page}/edit"),
        await other.get(f"{page}/numbers"),
        await other.post(f"{page}/edit", data={"csrf": token, "tag_id": "t2", "do": "save"}),
        await other.post(f"{page}/pause", data={"csrf": token}),
        await other.post(f"{page}/delete", data={"csrf": token}),
        await other.post(f"{page}/logic", data={"csrf": token, "logic": "all"}),
        await other.post(f"{page}/backfills", data={"csrf": token, "from": "2026-05-01"}),
        await client.get(f"/console/workflows/w2/goals/{goal.id}"),
        await client.get("/console/workflows/unheard/goals/new"),
        await client.get(f"/console/workflows/{WORKFLOW}/goals/{running_api.UNKNOWN}"),
    ):
        assert answer.status_code == 404, answer.text
    assert (await stored(api, goal.id)) == goal


# --- editing ---


async def test_a_plan_of_an_edit_is_run_and_saved_exactly(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool, given=PURCHASE)
    waiting = await edited(client, goal, "Plan", min_amount="70", name="Paid more")
    assert 'http-equiv="refresh"' in waiting.text
    assert "waiting" in waiting.text
    assert forms.buttons_of(waiting) >= {"Cancel"}
    assert "Save" not in forms.buttons_of(waiting)
    assert (await stored(api, goal.id)) == goal
    await run(api, jobs.PLAN)
    done = await client.get(str(waiting.url.path))
    assert "A contact pays at least 70 EUR." in text_of(done)
    assert "Would achieve" in done.text
    assert "no history" in done.text
    saved = await forms.send(client, done, "Save")
    assert "Saved exactly as it was planned." in saved.text
    after = await stored(api, goal.id)
    assert (after.name, after.criteria, after.version) == ("Paid more", {"min_amount": "70", "currency": "EUR"}, 2)
    assert (await goal_store.get_audit(api.pool, TENANT, goal.id))[-1].actor == "ann"


async def test_a_plan_is_not_saved_once_the_goals_have_changed(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool, given=PURCHASE)
    waiting = await edited(client, goal, "Plan", min_amount="70")
    await run(api, jobs.PLAN)
    done = await client.get(str(waiting.url.path))
    await goal_steps.update(api.pool, goal, name="Theirs")
    refused = await forms.send(client, done, "Save")
    assert refused.status_code == 412
    assert "Nothing was saved." in refused.text
    assert "Theirs" in refused.text
    assert "Save" not in forms.buttons_of(refused)
    assert (await stored(api, goal.id)).criteria == goal.criteria
    again = await client.get(f"{path_of(goal)}/edit?plan={waiting.url.path.rpartition('/')[2]}")
    fields = dict(forms.form_of(again, "Plan").fields)
    assert (fields["min_amount"], fields["version"]) == ("70", "2")


async def test_a_plan_that_nobody_runs_says_so(
    api: running_api.Api, client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = await goal_steps.create(api.pool)
    waiting = await edited(client, goal, "Plan")
    assert "No insight process" not in waiting.text
    await administrator.execute("UPDATE jobs SET created_at = created_at - interval '1 minute'")
    part = await client.get(f"{waiting.url.path}/progress")
    assert "No insight process has taken this yet." in part.text
    assert 'hx-trigger="every 1s"' in part.text
    cancelled = await forms.send(client, waiting, "Cancel")
    assert "cancelled" in cancelled.text
    assert "every 1s" not in cancelled.text


async def test_near_misses_name_contacts_by_masked_links(
    api: running_api.Api, client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    goal = await goal_steps.create(api.pool, given=PURCHASE)
    waiting = await edited(client, goal, "Plan", min_amount="70")
    await run(api, jobs.PLAN)
    near = {"pointer": "/min_amount", "count": 812, "example": {"actual": "49.90", "contact_ids": ["contact_42"]}}
    revenue = {"EUR": {"gross": "3999", "reversed": "129", "net": "3870"}}
    await administrator.execute(
        "UPDATE jobs SET result = jsonb_set(jsonb_set(result, '{per_goal,0,near_misses}', $1::text::jsonb),"
        " '{revenue}', $2::text::jsonb)",
        json.dumps([near]),
        json.dumps(revenue),
    )
    page = await opened(client, waiting.url.path)
    assert "812 payments missed `min_amount`, nearest 49.90." in page.text
    assert "contact_42" not in page.text
    assert "/console/contacts/" in page.text.partition("Near misses")[2]
    assert "3,999.00 EUR" in page.text


async def test_a_save_without_a_plan_says_that_nothing_was_planned(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    goal = await goal_steps.create(api.pool)
    saved = await edited(client, goal, "Save", tag_id=["t2", "t1", ""], times="3", within="36", within_unit="hours")
    assert "Nothing was planned" in saved.text
    after = await stored(api, goal.id)
    assert after.criteria == {"tag_id": ["t1", "t2"], "times": 3, "within": "P1DT12H"}
    assert (after.version, after.updated_by) == (2, "ann")
    form = dict(forms.form_of(await opened(client, f"{path_of(goal)}/edit"), "Save").fields)
    assert (form["within"], form["within_unit"], form["times"]) == ("36", "hours", "3")


async def test_each_problem_stands_beside_its_field_and_nothing_is_lost(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    goal = await goal_steps.create(api.pool, given=PURCHASE)
    for button in ("Save", "Plan"):
        typed = {"min_amount": "4,9", "currency": "EURO", "times": "many", "name": "n" * 300, "product_id": ["a", "b"]}
        page = await edited(client, goal, button, **typed)
        assert page.status_code == 400
        for name, words in (
            ("min_amount", "must be a JSON number or plain decimal string"),
            ("currency", "must be three ASCII letters"),
            ("times", "must be a whole number from 2 to 1,000"),
            ("name", "must be text of 1 to 255 bytes"),
        ):
            sentence = page.text.partition(f'id="problem-{name}"')[2].partition("</p>")[0]
            assert words in sentence
        fields = forms.form_of(page, "Save").fields
        for name, value in typed.items():
            given = [found for field, found in fields if field == name and found]
            assert given == (value if isinstance(value, list) else [value])
    assert (await stored(api, goal.id)) == goal


async def test_more_values_are_asked_for_without_losing_any(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool)
    page = await edited(client, goal, "More values", tag_id=["t1", "t2"])
    fields = [value for name, value in forms.form_of(page, "Save").fields if name == "tag_id"]
    assert fields == ["t1", "t2", "", "", "", "", ""]


async def test_the_same_goal_again_is_refused_with_a_link(api: running_api.Api, client: httpx.AsyncClient) -> None:
    first, second = await goal_steps.create(api.pool, "t1"), await goal_steps.create(api.pool, "t2")
    for button in ("Save", "Plan"):
        page = await edited(client, second, button, tag_id="t1")
        assert page.status_code == 409
        assert f'href="{path_of(first)}"' in page.text


async def test_values_that_events_had_are_suggested(
    api: running_api.Api, client: httpx.AsyncClient, administrator: connections.Connection
) -> None:
    await administrator.execute(
        "INSERT INTO seen_values (tenant_id, type, field, value, day, count, label, first_seen, last_seen)"
        " SELECT $1, 'contact.tag.added', 'tag_id', 'seen-tag', now()::date, 7, 'Customer', now(), now()",
        TENANT,
    )
    goal = await goal_steps.create(api.pool)
    page = await opened(client, f"{path_of(goal)}/edit")
    assert '<option value="seen-tag">Customer, seen 7 times</option>' in page.text


async def test_a_goal_that_somebody_else_changed_shows_both_versions(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    goal = await goal_steps.create(api.pool, given=PURCHASE)
    form = await opened(client, f"{path_of(goal)}/edit")
    await goal_steps.update(api.pool, goal, criteria={"min_amount": "60", "currency": "EUR"})
    page = await forms.send(client, form, "Save", min_amount="80")
    assert page.status_code == 412
    for words in ("Somebody changed this goal", "at least 60 EUR", "bob", "<bdi>80</bdi>"):
        assert words in page.text
    assert (await stored(api, goal.id)).criteria["min_amount"] == "60"
    saved = await forms.send(client, page, "Save")
    assert "Saved." in saved.text
    after = await stored(api, goal.id)
    assert (after.criteria["min_amount"], after.version) == ("80", 3)


# --- new goals ---


@pytest.mark.parametrize(
    ("goal_type", "typed", "criteria"),
    [
        ("tag_added", {"tag_name": "VIP"}, {"tag_name": "VIP"}),
        (
            "purchase_made",
            {"total_amount": "500", "currency": "eur", "deadline": "14", "reversals": "keep"},
            {"currency": "EUR", "total_amount": "500", "deadline": "P14D", "reversals": "keep"},
        ),
        ("purchase_made", {"any_purchase": "yes"}, {"any_purchase": True}),
        ("appointment_booked", {"calendar_id": "c1"}, {"calendar_id": "c1"}),
        ("form_submitted", {"form_id": ["f1", "f2"]}, {"form_id": ["f1", "f2"]}),
        (
            "pipeline_stage_reached",
            {"pipeline_id": "sales", "stage_id": "won", "correlate_by": "deal_id"},
            {"pipeline_id": "sales", "stage_id": "won", "correlate_by": "deal_id"},
        ),
    ],
)
async def test_a_goal_of_each_type_is_created(
    api: running_api.Api, client: httpx.AsyncClient, goal_type: str, typed: dict[str, Any], criteria: dict[str, Any]
) -> None:
    await goal_store.set_logic(api.pool, TENANT, WORKFLOW, "all", actor="ann")
    new = f"/console/workflows/{WORKFLOW}/goals/new"
    assert f'href="{new}?goal_type={goal_type}"' in (await opened(client, new)).text
    page = await forms.send(client, await opened(client, f"{new}?goal_type={goal_type}"), "Save", **typed)
    assert "Created." in page.text
    goal = await only_goal(api)
    assert (goal.goal_type, goal.criteria, goal.created_by) == (goal_type, criteria, "ann")
    saved = await edited(client, goal, "Save")
    assert "nothing was changed" in saved.text


async def test_a_new_goal_is_planned_and_then_saved(api: running_api.Api, client: httpx.AsyncClient) -> None:
    await goal_store.set_logic(api.pool, TENANT, WORKFLOW, "all", actor="ann")
    form = await opened(client, f"/console/workflows/{WORKFLOW}/goals/new?goal_type=form_submitted")
    empty = await forms.send(client, form, "Plan")
    assert (empty.status_code, "Goal criteria cannot be empty" in empty.text) == (400, True)
    waiting = await forms.send(client, empty, "Plan", form_id="f1", name="Signed up")
    await run(api, jobs.PLAN)
    saved = await forms.send(client, await client.get(waiting.url.path), "Save")
    assert "Saved exactly as it was planned." in saved.text
    goal = await only_goal(api)
    assert (goal.criteria, goal.name) == ({"form_id": "f1"}, "Signed up")


async def test_more_goals_than_the_maximum_are_refused_in_words(
    api: running_api.Api, client: httpx.AsyncClient
) -> None:
    for tag_id in ("t1", "t2", "t3"):
        await goal_steps.create(api.pool, tag_id)
    form = await opened(client, f"/console/workflows/{WORKFLOW}/goals/new?goal_type=form_submitted")
    page = await forms.send(client, form, "Save", form_id="f1")
    assert page.status_code == 400
    assert "Maximum of 3 goals per workflow exceeded" in page.text


# --- the other controls ---


async def test_a_goal_is_paused_and_resumed(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool)
    page = await forms.send(client, await opened(client, path_of(goal)), "Pause")
    assert "Paused." in page.text
    assert "Pause" not in forms.buttons_of(page)
    assert not (await stored(api, goal.id)).is_active
    page = await forms.send(client, page, "Resume")
    assert "Resumed." in page.text
    after = await stored(api, goal.id)
    assert (after.is_active, after.version, after.updated_by) == (True, 3, "ann")


@pytest.mark.parametrize("button", ["Pause", "Delete"])
async def test_a_page_of_an_older_version_changes_nothing(
    api: running_api.Api, client: httpx.AsyncClient, button: str
) -> None:
    goal = await goal_steps.create(api.pool)
    page = await opened(client, path_of(goal))
    changed = await goal_steps.update(api.pool, goal, criteria={"tag_id": "t7"})
    refused = await forms.send(client, page, button)
    assert refused.status_code == 412
    for words in ("Somebody changed this goal", "gets the tag t1.", "gets the tag t7.", "bob"):
        assert words in refused.text
    assert (await stored(api, goal.id)) == changed


async def test_a_deleted_goal_is_gone(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool)
    form = forms.form_of(await opened(client, path_of(goal)), "Delete")
    answer = await client.post(form.action, data=dict(form.fields))
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/workflows/{WORKFLOW}")
    assert (await client.get(path_of(goal))).status_code == 404


async def test_the_logic_of_the_workflow_is_set(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool)
    page = await forms.send(client, await opened(client, path_of(goal)), "Set logic", logic="all")
    assert "The workflow's logic is set" in text_of(page)
    assert await goal_store.get_logic(api.pool, TENANT, WORKFLOW) == "all"
    form = forms.form_of(page, "Set logic")
    assert (await client.post(form.action, data=dict(form.fields) | {"logic": "some"})).status_code == 400


async def test_a_backfill_is_begun_run_and_shown(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool)
    assert "Backfill" not in forms.buttons_of(await opened(client, path_of(goal)))
    await kept_events.cover(api.pool, APRIL)
    page = await opened(client, path_of(goal))
    assert dict(forms.form_of(page, "Backfill").fields)["from"] == "2026-04-01T00:00:00"
    refused = await forms.send(client, page, "Backfill", **{"from": "2026-03-01", "exits": "yes"})
    assert refused.status_code == 409
    assert "History reaches back to 2026-04-01T00:00:00Z only" in refused.text
    assert dict(forms.form_of(refused, "Backfill").fields) | {"csrf": ""} == {
        "csrf": "",
        "from": "2026-03-01",
        "exits": "yes",
    }
    waiting = await forms.send(client, refused, "Backfill", **{"from": "2026-04-02T10:30", "exits": "yes"})
    assert "is told to stop the enrollments" in waiting.text
    await run(api, jobs.BACKFILL)
    done = await client.get(waiting.url.path)
    assert "Achievements more" in done.text
    assert f'href="{waiting.url.path}"' in (await opened(client, path_of(goal))).text
    entry = (await goal_store.get_audit(api.pool, TENANT, goal.id))[-1]
    assert (entry.action, entry.actor) == ("backfilled", "ann")
    assert entry.after == {"from": "2026-04-02T10:30:00+00:00", "exits": True}


async def test_a_backfill_is_cancelled(api: running_api.Api, client: httpx.AsyncClient) -> None:
    await kept_events.cover(api.pool, APRIL)
    goal = await goal_steps.create(api.pool)
    waiting = await forms.send(client, await opened(client, path_of(goal)), "Backfill")
    cancelled = await forms.send(client, waiting, "Cancel")
    assert "cancelled" in cancelled.text


# --- rights ---


async def test_a_form_of_another_session_changes_nothing(api: running_api.Api, client: httpx.AsyncClient) -> None:
    goal = await goal_steps.create(api.pool)
    page = path_of(goal)
    workflow = f"/console/workflows/{WORKFLOW}"
    for path in (
        *(f"{page}/{act}" for act in ("edit", "pause", "resume", "delete", "logic", "backfills")),
        f"{page}/backfills/{running_api.UNKNOWN}/cancel",
        f"{workflow}/goals/new",
        *(f"{workflow}/plans/{running_api.UNKNOWN}/{act}" for act in ("save", "cancel")),
    ):
        for fields in ({}, {"csrf": "0" * 64}):
            answer = await client.post(path, data={"tag_id": "t2", "do": "save", "logic": "all", **fields})
            assert answer.status_code == 403, path
    assert (await stored(api, goal.id)) == goal


async def test_who_may_only_read_sees_no_control_and_changes_nothing(
    api: running_api.Api, client: httpx.AsyncClient, reader: httpx.AsyncClient
) -> None:
    await kept_events.cover(api.pool, APRIL)
    goal = await goal_steps.create(api.pool)
    plan = await edited(client, goal, "Plan", tag_id="t2")
    await run(api, jobs.PLAN)
    backfill = await forms.send(client, await opened(client, path_of(goal)), "Backfill")
    of_all_pages = {"Find", "Log out"}
    for path in (path_of(goal), plan.url.path, backfill.url.path):
        page = await opened(reader, path)
        assert forms.buttons_of(page) == of_all_pages
        assert "/edit" not in page.text
    token = console.csrf_of(page)
    for path in (f"{path_of(goal)}/pause", f"{path_of(goal)}/edit", f"{plan.url.path}/save"):
        assert (await reader.post(path, data={"csrf": token, "do": "save"})).status_code == 403
    for path in (f"{path_of(goal)}/edit", f"/console/workflows/{WORKFLOW}/goals/new"):
        assert (await reader.get(path)).status_code == 403
    assert (await stored(api, goal.id)) == goal
