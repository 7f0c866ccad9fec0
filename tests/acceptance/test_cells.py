"""Two cells on the same topics: every effect once, and the messages of one installation (contract section 10)."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

import asyncpg
import pytest

from goalworker.domain.cells import ALL_BUCKETS, bucket_of, format_buckets
from goalworker.pipeline.dead_letters import ORIGINAL_GROUP
from goalworker.stores import goal_store
from goalworker.stores.goal_store import StoredGoal
from tests.kit import clients, messages_in
from tests.kit.cells import Cell, cell_of, two_databases
from tests.kit.worker_process import Installation

TENANTS: Final = ("acme", "delta", "east", "north", "south", "west")
WORKFLOW: Final = "onboarding"
LOWER, UPPER = "0-511", "512-1023"


@pytest.fixture
def databases(postgres_url: str, template_database: str) -> Iterator[tuple[str, str]]:
    """Two more databases."""
    with two_databases(postgres_url, template_database) as urls:
        yield urls


def owner(cells: Iterable[Cell], tenant_id: str) -> Cell:
    lower, upper = cells
    return lower if bucket_of(tenant_id) < 512 else upper


async def create_goal(client: clients.Client, tenant_id: str) -> StoredGoal:
    draft = goal_store.parse_draft({"goal_type": "form_submitted", "criteria": {"form_id": "f"}})
    return await goal_store.create(client.pool, tenant_id, WORKFLOW, draft, actor="test", maximum=3)


def story(tenant_id: str, goal: StoredGoal) -> list[messages_in.Record]:
    """Return the records of a contact who achieves a goal, one of them twice, and one that is malformed."""
    at = messages_in.later(goal.created_at, 1)
    enrollment = messages_in.Enrollment(WORKFLOW, f"run-of-{tenant_id}", "contact")
    started = messages_in.event("workflow.enrollment.started", enrollment.ids, at, tenantid=tenant_id)
    form = enrollment.submits("f", at + timedelta(seconds=1), tenantid=tenant_id)
    malformed = messages_in.event("form.submitted", {}, at, tenantid=tenant_id)
    return [started, form, form, malformed]


async def copy_goals(sources: Iterable[Installation], target: Installation) -> None:
    """Copy all goals into the database of a single installation."""
    into = await asyncpg.connect(target.database_url)
    for source in sources:
        there = await asyncpg.connect(source.database_url)
        for table in ("goals", "goal_versions"):
            rows = await there.fetch(f"SELECT * FROM {table}")
            await into.copy_records_to_table(table, records=[tuple(row) for row in rows], columns=[*rows[0].keys()])
        await there.close()
    await into.execute("UPDATE goal_revision SET revision = 1000000")
    await into.close()


async def everything_out(client: clients.Client) -> Counter[tuple[object, ...]]:
    """Count the records that came out, by all that a consumer sees of one."""
    topics = ("goal_achieved", "workflow_exit", "dead_letters")
    found: list[tuple[object, ...]] = [
        # A dead letter names the consumer group, of which each cell has its own.
        (topic, record.key, record.value, *(header for header in record.headers if header[0] != ORIGINAL_GROUP))
        for topic in topics
        for record in await client.records(topic)
    ]
    return Counter(found)


async def test_two_cells_have_every_effect_once_and_say_what_one_installation_would(
    installation: Installation, databases: tuple[str, str]
) -> None:
    cells = (
        cell_of(installation, "lower", databases[0], LOWER),
        cell_of(installation, "upper", databases[1], UPPER),
    )
    assert {owner(cells, tenant_id).name for tenant_id in TENANTS} == {"lower", "upper"}
    async with AsyncExitStack() as stack:
        lower, upper = [await stack.enter_async_context(clients.connect(cell)) for cell in cells]
        client_of = {cell.name: client for cell, client in zip(cells, (lower, upper), strict=True)}
        records = [messages_in.Record("form_submitted", b"{"), messages_in.Record("redrive", b"nobody's")]
        for tenant_id in TENANTS:
            records += story(tenant_id, await create_goal(client_of[owner(cells, tenant_id).name], tenant_id))
        workers = [await stack.enter_async_context(cell.worker()) for cell in cells]
        await lower.send(*records)
        await lower.settle()
        await upper.settle()

        achieved, exits = await lower.messages("goal_achieved"), await lower.messages("workflow_exit")
        assert sorted(message.body["tenantid"] for message in achieved) == [*TENANTS]
        assert sorted(message.body["tenantid"] for message in exits) == [*TENANTS]
        letters = Counter(letter.value for letter in await lower.dead_letters())
        assert set(letters.values()) == {1}
        assert len(letters) == len(TENANTS) + 2
        for client, worker in zip((lower, upper), workers, strict=True):
            own = [tenant_id for tenant_id in TENANTS if client_of[owner(cells, tenant_id).name] is client]
            assert await client.sql("SELECT array_agg(tenant_id ORDER BY tenant_id) FROM enrollments") == own
            assert await client.sql("SELECT count(*) FROM exits") == len(own)
            foreign = (len(TENANTS) - len(own)) * 4 + (2 if client is upper else 0)
            assert worker.metric("events_total", outcome="foreign_tenant") == foreign

        checked = cells[0].call("cells", "check", "--database", databases[1])
        assert (checked.code, "2 own every bucket once" in checked.out) == (0, True), checked
        checked = cells[0].call("cells", "check")
        assert (checked.code, "nobody owns 512-1023" in checked.out) == (1, True), checked
        of_cells = await everything_out(lower)
        # One installation that reads the same topics says the same, byte for byte.
        await copy_goals(cells, installation)
        async with installation.worker(), clients.connect(installation) as alone:
            await alone.settle()
            assert await everything_out(alone) == of_cells + of_cells


async def test_a_group_that_two_cells_share_is_reported_by_both_the_worker_and_doctor(
    installation: Installation, databases: tuple[str, str]
) -> None:
    other = dataclasses.replace(installation, database_url=databases[0])
    async with installation.worker(), clients.connect(installation) as client:
        await client.process(messages_in.Record("form_submitted", None, b"key", partition=0))
    async with other.worker() as worker:
        await worker.said("group_of_another_cell")
    found = json.loads(other.call("doctor", "--json").out)
    (problem,) = [finding for finding in found if finding["check"] == "cell" and finding["state"] == "problem"]
    assert "two cells share the consumer group" in problem["detail"]


async def test_a_worker_that_trusts_keys_skips_foreign_ones_undecoded(installation: Installation) -> None:
    foreign = next(tenant_id for tenant_id in TENANTS if bucket_of(tenant_id) >= 512)
    undecodable = messages_in.Record("form_submitted", b"{", f"{foreign}:c".encode())
    async with (
        installation.worker(CELL__BUCKETS=LOWER, CELL__TRUST_KEYS="true") as worker,
        clients.connect(installation) as client,
    ):
        await client.process(undecodable, messages_in.Record("form_submitted", b"{", b"c"))
        assert worker.metric("events_total", outcome="foreign_tenant") == 1
        assert len(await client.dead_letters()) == 1


async def test_commands_refuse_a_tenant_of_another_cell(installation: Installation) -> None:
    tenant_id = next(tenant_id for tenant_id in TENANTS if bucket_of(tenant_id) >= 512)
    new = ("w", "--tenant", tenant_id, "--type", "form_submitted", "--criteria", "form_id=f")
    for words in (("goals", "create", *new), ("goals", "list", "--tenant", tenant_id)):
        refused = installation.call(*words, CELL__BUCKETS=LOWER)
        assert (refused.code, refused.out) == (1, "")
        assert f"The tenant {tenant_id} belongs to another cell" in refused.err


async def test_cells_shows_the_buckets_and_the_tenants_that_were_moved(installation: Installation) -> None:
    async with clients.connect(installation) as client:
        for tenant_id in ("acme", "went"):
            await create_goal(client, tenant_id)
        move = "INSERT INTO moved_tenants VALUES ($1, $2, '00000000-0000-0000-0000-000000000007', now())"
        for tenant_id, state in (("went", "away"), ("came", "here")):
            await client.sql(move, tenant_id, state)
    others = format_buckets(ALL_BUCKETS - {bucket_of("acme")})
    async with installation.worker():
        shown = json.loads(installation.call("cells", "--json", CELL__BUCKETS=others).out)
    assert (shown["buckets"], shown["workers_buckets"], shown["foreign_tenants"]) == (others, "0-1023", ["acme"])
    assert [(moved["tenant_id"], moved["state"]) for moved in shown["moved_tenants"]] == [
        ("came", "here"),
        ("went", "away"),
    ]
    told = installation.call("cells", CELL__BUCKETS=others).out
    assert told.splitlines()[:3] == [
        f"this cell owns the buckets {others}",
        "its workers were last started with 0-1023: give all of it one setting",
        "1 tenant with goals here, but of another cell: acme",
    ]
    assert "came" in told.splitlines()[-2]
