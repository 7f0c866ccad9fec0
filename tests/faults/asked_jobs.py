"""Plans and backfills asked at random while everything fails, and what is wrong about them in the end."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from goalworker.postgres import connections, database_errors
from goalworker.stores import goal_store, history, jobs, plan_requests
from tests.faults import kept
from tests.kit import clients, support
from tests.kit.messages_in import TENANT

INTERVAL_SECONDS: Final = (0.5, 2.5)
RETRY_SECONDS: Final = 0.5
BACKFILL_SHARE, CANCELLED_SHARE = 0.25, 0.2
ENDED_SECONDS: Final = 120.0
PLANNED_WORKFLOWS: Final = 300
"""Workflows that are planned in the end, drawn at random."""
BACKFILLED_GOALS: Final = 5
"""Goals that are backfilled in the end, drawn at random."""

_NONE: Final = ("only_planned", "only_live", "earlier", "later")
_AS_IT_IS: Final[dict[str, Any]] = dict.fromkeys(plan_requests.FIELDS) | {"goals": [], "delete": []}
_WORKFLOWS: Final = "SELECT DISTINCT tenant_id, workflow_id FROM enrollments"
_STATES: Final = "SELECT kind, state, count(*) FROM jobs GROUP BY 1, 2"
_FAILED: Final = f"SELECT kind, workflow_id, request, error FROM jobs WHERE state = '{jobs.FAILED}'"
_UNFINISHED: Final = f"SELECT count(*) FROM jobs WHERE state IN ('{jobs.QUEUED}', '{jobs.RUNNING}')"

T = TypeVar("T")


async def retried(work: Callable[[], Awaitable[T]]) -> T:
    """Do work again while a paused worker holds the lock of goals, or the connection is from before a restart."""
    while True:
        try:
            return await work()
        except Exception as error:
            if not (isinstance(error, goal_store.LockBusyError) or database_errors.is_transient(error)):
                raise
            await asyncio.sleep(RETRY_SECONDS)


class AskedJobs:
    """Jobs of workflows whose goals are never changed; the workers count these goals themselves."""

    def __init__(self, client: clients.Client, goals: Iterable[goal_store.StoredGoal], chance: random.Random) -> None:
        self._client, self._goals, self._chance = client, list(goals), chance
        self._cancelling = set[asyncio.Task[None]]()
        self.states: Counter[str] = Counter()

    async def run(self, seconds: float, database_up: asyncio.Lock) -> None:
        """Ask for one job after the other for this long, and cancel some of them."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            await asyncio.sleep(self._chance.uniform(*INTERVAL_SECONDS))
            async with database_up:
                asked = await retried(self._ask)
            if asked is not None and self._chance.random() < CANCELLED_SHARE:
                task = asyncio.create_task(self._cancel(asked))
                self._cancelling.add(task)
        await asyncio.gather(*self._cancelling)

    async def _ask(self) -> jobs.JobKey | None:
        """Ask for a job; return None where one may not be asked for now."""
        goal = self._chance.choice(self._goals)
        try:
            if self._chance.random() < BACKFILL_SHARE:
                return await self._ask_backfill(goal)
            return await self._insert_plan(TENANT, goal.workflow_id, self._request(goal))
        except (jobs.TooManyJobsError, goal_store.BackfillRefusedError):  # one runs already, or history has not begun
            return None

    def _request(self, goal: goal_store.StoredGoal) -> dict[str, Any]:
        draft = {"goal_type": goal.goal_type, "criteria": {**goal.criteria, "reversals": "keep"}}
        change = {"goal_id": str(goal.id), "changes": {"is_active": False}}
        asked: dict[str, Any] = self._chance.choice(
            (
                {},
                {"goals": [draft]},
                {"goals": [change]},
                {"delete": [str(goal.id)]},
                {"logic": self._chance.choice(("any", "all", "never"))},
                {"sample": self._chance.randrange(1, 50)},
                {"from": datetime.now(UTC).isoformat()},
            )
        )
        return {**_AS_IT_IS, **plan_requests.parse(asked, [goal], 3)}

    async def _insert_plan(self, tenant_id: str, workflow_id: str, request: dict[str, Any]) -> jobs.JobKey:
        async with connections.tenant_transaction(self._client.pool, tenant_id, "jobs") as connection:
            plan_id = await plan_requests.insert(connection, tenant_id, workflow_id, request, actor="soak")
        return jobs.JobKey(tenant_id, jobs.PLAN, workflow_id, plan_id)

    async def _ask_backfill(self, goal: goal_store.StoredGoal) -> jobs.JobKey:
        pool = self._client.pool
        async with connections.tenant_transaction(pool, TENANT, "jobs") as connection:
            began = (await history.coverage(await connections.driver_of(connection), TENANT)).history_from
        since = goal.created_at if began is None else max(began, goal.created_at)
        key = (TENANT, goal.workflow_id, goal.id)
        job_id = await goal_store.begin_backfill(pool, *key, since, exits=self._chance.random() < 0.5, actor="soak")
        return jobs.JobKey(TENANT, jobs.BACKFILL, goal.workflow_id, job_id)

    async def _cancel(self, asked: jobs.JobKey) -> None:
        await asyncio.sleep(self._chance.uniform(0, 3))

        async def cancel() -> None:
            async with connections.tenant_transaction(self._client.pool, asked.tenant_id, "jobs") as connection:
                await jobs.cancel(connection, asked)

        await retried(cancel)

    # --- in the end, while nothing fails and insight runs ---

    async def problems(self) -> list[str]:
        """Return what is wrong about jobs asked before, and about new ones that must not find anything."""
        try:
            found = await self._problems()
        except AssertionError:  # jobs did not end
            found = []
        for kind, state, count in await kept.read(self._client.installation, _STATES):
            self.states[f"{kind}s {state}"] = count
            if state in (jobs.QUEUED, jobs.RUNNING):
                found.append(f"unfinished: {count} {kind}s are {state}")
        failed = await kept.read(self._client.installation, _FAILED)
        return [*found, *(f"failed: a {row[0]} of {row[1]}: {row[3]} ({row[2]})" for row in failed)]

    async def _problems(self) -> list[str]:
        await self._all_ended()
        workflows = sorted(tuple(row) for row in await kept.read(self._client.installation, _WORKFLOWS))
        drawn = self._chance.sample(workflows, min(PLANNED_WORKFLOWS, len(workflows)))
        found = [wrong for start in range(0, len(drawn), 10) for wrong in await self._plans(drawn[start : start + 10])]
        counted = self._chance.sample(self._goals, BACKFILLED_GOALS)
        return [*found, *[wrong for goal in counted for wrong in await self._backfill(goal)]]

    async def _all_ended(self) -> None:
        async def have_ended() -> bool:
            ((unfinished,),) = await kept.read(self._client.installation, _UNFINISHED)
            return not unfinished

        await support.until(have_ended, ENDED_SECONDS)

    async def _plans(self, workflows: Sequence[tuple[str, str]]) -> list[str]:
        """Plan workflows as they are, and return where that differs from what the workers have judged."""
        asked = [await self._insert_plan(*workflow, {**_AS_IT_IS}) for workflow in workflows]
        await self._all_ended()
        found = []
        for one in asked:
            compared = (await self._result(one)).get("compared", {})
            if compared.keys() != {"both", *_NONE} or any(compared[name] for name in _NONE):
                found.append(f"altered: a plan of {one.workflow_id} of {one.tenant_id} as it is says {compared}")
        return found

    async def _backfill(self, goal: goal_store.StoredGoal) -> list[str]:
        asked = await self._ask_backfill(goal)
        await self._all_ended()
        result = await self._result(asked)
        if result.get("achieved") == result.get("exits") == 0:
            return []
        return [f"too much: a backfill of what the workers have counted in {goal.workflow_id} says {result}"]

    async def _result(self, asked: jobs.JobKey) -> dict[str, Any]:
        async with connections.tenant_transaction(self._client.pool, asked.tenant_id, "jobs") as connection:
            return (await jobs.find(connection, asked)).result or {}
