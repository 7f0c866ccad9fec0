"""A tenant moves to another cell while its events come: nothing is lost or doubled (contract section 10)."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import pytest

from goalworker.postgres import connections
from goalworker.stores import history
from goalworker.stores.cell_store import ForeignTenantError
from tests.kit import clients, messages_in, support, worker_process
from tests.kit.cells import Cell, cell_of, two_databases
from tests.kit.messages_in import TENANT
from tests.kit.worker_process import Installation

WORKFLOW: Final = "onboarding"
MOVE_SECONDS: Final = 120.0
STEPS: Final = ("announced", "copied", "fenced", "drained", "caught up", "switched", "replayed")


@dataclass(slots=True)
class Pair:
    """Two cells, the first of which owns every bucket, and contacts who achieve a goal."""

    cells: tuple[Cell, Cell]
    talking: tuple[clients.Client, clients.Client]
    since: datetime
    enrollments: list[messages_in.Enrollment] = field(default_factory=list)
    malformed: int = 0

    async def enroll(self, number: int) -> list[messages_in.Enrollment]:
        new = [messages_in.new_enrollment(WORKFLOW) for _ in range(number)]
        self.enrollments += new
        malformed = messages_in.event("form.submitted", {}, self.since)
        await self.talking[0].send(*(one.started(messages_in.later(self.since, 1)) for one in new), malformed)
        self.malformed += 1
        return new

    async def achieve(self, enrollments: list[messages_in.Enrollment]) -> None:
        await self.talking[0].send(*(one.submits("f", messages_in.later(self.since, 2)) for one in enrollments))

    async def settle(self) -> None:
        for client in self.talking:
            await client.settle()

    async def move(self, source: int, kill_after: str = "") -> None:
        """Move the tenant from one cell to the other, or kill the mover once it has said a step."""
        mover = self.cells[source].launch("tenants", "move", TENANT, "--to", self.cells[1 - source].database_url)
        if kill_after:
            await support.until(lambda: kill_after in mover.log.read_text() or not mover.is_running)
            mover.kill()
        else:
            assert await asyncio.to_thread(mover.process.wait, MOVE_SECONDS) == 0, mover.log.read_text()

    def assert_owned_at_most_once(self) -> list[str]:
        """Assert that no two cells own the tenant, by what their databases say, and return what is unfinished."""
        checked = self.cells[0].call("cells", "check", "--database", self.cells[1].database_url, "--json")
        details = [finding["detail"] for finding in json.loads(checked.out)]
        assert not any("own it" in detail for detail in details), details
        return [detail for detail in details if detail.startswith(f"nobody owns {TENANT}")]

    async def assert_once(self) -> None:
        """Assert that each contact has one achievement and one exit, and each malformed record one dead letter."""
        wanted = Counter(one.enrollment_id for one in self.enrollments)
        for topic in ("goal_achieved", "workflow_exit"):
            assert Counter(message.body["subject"] for message in await self.talking[0].messages(topic)) == wanted
        letters = Counter(letter.value for letter in await self.talking[0].dead_letters())
        assert (set(letters.values()), len(letters)) == ({1}, self.malformed)


@pytest.fixture
def databases(postgres_url: str, template_database: str) -> Iterator[tuple[str, str]]:
    with two_databases(postgres_url, template_database) as urls:
        yield urls


@pytest.fixture
async def pair(installation: Installation, databases: tuple[str, str]) -> AsyncIterator[Pair]:
    """Two cells with a worker each, and a goal of the tenant in the first one."""
    cells = (
        cell_of(installation, "first", databases[0], "0-1023"),
        cell_of(installation, "second", databases[1], "none"),
    )
    async with AsyncExitStack() as stack:
        first, second = [await stack.enter_async_context(clients.connect(cell)) for cell in cells]
        goal = await first.create_goal(WORKFLOW, "form_submitted", form_id="f")
        for cell in cells:
            await stack.enter_async_context(cell.worker())
        yield Pair(cells, (first, second), goal.created_at)


async def test_a_tenant_moves_and_nothing_is_lost_wherever_the_mover_crashes(pair: Pair) -> None:
    source = 0
    for step in STEPS:
        before = await pair.enroll(3)
        await pair.achieve(before[:1])
        await pair.move(source, kill_after=step)
        pair.assert_owned_at_most_once()
        await pair.achieve(before[1:2])
        during = await pair.enroll(2)
        await pair.settle()  # between fence and switch, no worker takes these
        await pair.achieve([*before[2:], *during])
        await pair.move(source)
        assert pair.assert_owned_at_most_once() == []
        with pytest.raises(ForeignTenantError):
            await pair.talking[source].create_goal(f"late-{step}", "form_submitted", form_id="g")
        source = 1 - source
        await pair.talking[source].create_goal(f"late-{step}", "form_submitted", form_id="g")
        await pair.settle()
        await pair.assert_once()
        assert await pair.talking[source].sql("SELECT count(*) FROM exits") == len(pair.enrollments)


async def test_a_tenant_moves_while_events_come(pair: Pair) -> None:
    is_moved = asyncio.Event()

    async def send() -> None:
        last: list[messages_in.Enrollment] = []
        while not is_moved.is_set():
            new = await pair.enroll(5)
            await pair.achieve(last)
            last = new
            # Ten times a second: a flood of dead letters would outrun the workers, and no backlog would end.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_moved.wait(), 0.1)
        await pair.achieve(last)

    sending = asyncio.create_task(send())
    for source in (0, 1, 0):
        await pair.move(source)
    is_moved.set()
    await sending
    await pair.settle()
    await pair.assert_once()
    assert len(pair.enrollments) > 5


async def test_a_dry_run_says_how_much_there_is_and_changes_nothing(pair: Pair) -> None:
    await pair.achieve(await pair.enroll(4))
    await pair.settle()
    words = ("tenants", "move", TENANT, "--to", pair.cells[1].database_url, "--dry-run")
    asked = pair.cells[0].call(*words, "--json")
    assert asked.code == 0, asked
    found = json.loads(asked.out)
    rows = {table["table"]: table["rows"] for table in found["tables"]}
    assert (rows["enrollments"], rows["achievements"], rows["exits"]) == (4, 4, 4)
    assert found["bytes"] > 0
    assert found["seconds"] >= 0
    assert found["waiting_seconds"] > 0
    for client in pair.talking:
        assert await client.sql("SELECT count(*) FROM moved_tenants") == 0
    assert await pair.talking[1].sql("SELECT count(*) FROM enrollments") == 0
    moved = pair.cells[0].call(*words[:-1])
    assert (moved.code, moved.out) == (0, f"moved {TENANT}\n"), moved
    refused = pair.cells[0].call("goals", "list", "--tenant", TENANT)
    assert (refused.code, f"The tenant {TENANT} belongs to another cell" in refused.err) == (1, True)


async def test_history_goes_along_to_a_cell_that_keeps_events_only_since_later(pair: Pair) -> None:
    async with AsyncExitStack() as stack:

        async def keep_events(number: int) -> None:
            insight = await stack.enter_async_context(worker_process.stopping(pair.cells[number].launch("insight")))
            await insight.said("insight_ready")

        async def kept(number: int) -> tuple[datetime, int]:
            count = await pair.talking[number].sql("SELECT count(DISTINCT event_id) FROM history_events")
            pool = pair.talking[number].pool
            async with connections.tenant_transaction(pool, TENANT, "test") as connection:
                covered = await history.coverage(await connections.driver_of(connection), TENANT)
            assert covered.history_from is not None
            return covered.history_from, count

        async def until_kept(number: int, count: int) -> None:
            await support.until(lambda: pair.talking[number].sql(f"SELECT count(*) >= {count} FROM history_events"))

        await keep_events(0)
        await pair.achieve(await pair.enroll(3))
        await until_kept(0, 3)
        began = await kept(0)
        await keep_events(1)
        await support.until(lambda: pair.talking[1].sql("SELECT count(*) > 0 FROM history_positions"))
        await pair.talking[1].sql("UPDATE history_positions SET history_from = now() WHERE isfinite(history_from)")
        await pair.move(0)
        assert await kept(1) == began
        await pair.achieve(await pair.enroll(2))
        await until_kept(1, 5)
        await pair.move(1)
        assert await kept(0) == (began[0], 5)
