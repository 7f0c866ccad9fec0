"""Plans and backfills: enrollments judged in a second of a processor, and what a backfill takes from the worker."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.bench import api, figures, latency, limits, rows, seed, usage
from tests.kit import support, worker_process

ENROLLMENTS, SAMPLE, SAMPLES = 200_000, 10_000, 5
EVENTS_PER_SECOND, LATENCY_SECONDS = 2_000, 30
WORKFLOW = "planned"
WORKFLOW_PATH = f"/api/v1/workflows/{WORKFLOW}"
FOLLOWING = {"HISTORY__DELAY_SECONDS": 1}
HISTORY_PARTITIONS = 7 * support.PARTITIONS  # of five goal topics, redrive and exits
POLL_SECONDS, DONE_SECONDS = 0.05, 300.0

# One payment in thirteen meets it, and the others miss it by their amount alone.
PLANNED = {"goal_type": "purchase_made", "criteria": {"min_amount": "90", "currency": "EUR"}}
# Every payment meets it: the backfill has to judge and write as much as any can.
BACKFILLED = {"goal_type": "purchase_made", "criteria": {"any_purchase": True}}

_Job = dict[str, Any]
"""Answer about a job, from the API."""


async def measured(bench: limits.Bench) -> dict[str, Any]:
    """Measure plans of a workflow and of a sample of it, and the worker's latency beside a backfill."""
    enrollments = bench.extent.of(ENROLLMENTS, 6 * SAMPLE)
    with support.fresh_database(bench.pair.database_url, f"TEMPLATE {bench.database} STRATEGY FILE_COPY") as database:
        await seed.planned(support.with_database(bench.pair.database_url, database), rows.TENANT, WORKFLOW, enrollments)
        return {
            "enrollments": enrollments,
            **await _plans(bench, database, enrollments),
            "backfill": await _backfill(bench, database),
        }


# --- plans ---


async def _plans(bench: limits.Bench, database: str, enrollments: int) -> dict[str, Any]:
    per_cpu_second, per_second, sample_ms = [], [], []
    with worker_process.installation(
        bench.pair.bootstrap_servers, bench.pair.database_url, database, bench.folder
    ) as there:
        # A worker, which any installation has, analyzes what nobody has.
        async with there.worker(), _insight(there) as process, api.api(there.database_url, there.folder) as (client, _):
            for _ in range(bench.extent.rounds):
                cpu, began = usage.of(process.process.pid).cpu_seconds, time.monotonic()
                await _planned(client, enrollments)
                per_second.append(enrollments / (time.monotonic() - began))
                per_cpu_second.append(enrollments / (usage.of(process.process.pid).cpu_seconds - cpu))
                print(f"  plan: {per_cpu_second[-1]:,.0f} enrollments a second of CPU", flush=True)
            for _ in range(SAMPLES):
                began = time.monotonic()
                await _planned(client, SAMPLE, sample=SAMPLE)
                sample_ms.append((time.monotonic() - began) * 1000)
        await bench.scans.note(there.database_url)
    return {
        "enrollments_per_cpu_second": figures.spread(per_cpu_second),
        "enrollments_per_second": figures.spread(per_second),
        "sample": SAMPLE,
        "sample_ms": figures.spread(sample_ms),
    }


async def _planned(client: httpx.AsyncClient, enrollments: int, **options: int) -> None:
    """Ask for a plan, wait for its result, and check it."""
    path = await _asked(client, f"{WORKFLOW_PATH}/plans", {"goals": [PLANNED], **options})
    result = (await _until(client, path, lambda job: job["state"] == "done"))["result"]
    assert result["enrollments"] == result["events"] == enrollments, result
    assert 0.06 < result["would_exit"] / enrollments < 0.1, result


async def _asked(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> str:
    answer = await client.post(path, json=body)
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text
    return answer.headers["Location"]


async def _until(client: httpx.AsyncClient, path: str, condition: Callable[[_Job], bool]) -> _Job:
    """Return a job once it is as wanted."""
    async with asyncio.timeout(DONE_SECONDS):
        while True:
            job: _Job = (await client.get(path)).json()
            assert job["state"] not in ("failed", "cancelled"), job
            if condition(job):
                return job
            await asyncio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def _insight(there: worker_process.Installation) -> AsyncIterator[worker_process.Worker]:
    """Run insight, whose history reaches back to what was seeded."""
    async with worker_process.stopping(there.launch("insight", **FOLLOWING)) as process:
        await process.said("insight_ready")
        await support.until(partial(seed.backdate_history, there.database_url, HISTORY_PARTITIONS))
        yield process


# --- a backfill ---


async def _backfill(bench: limits.Bench, database: str) -> dict[str, Any]:
    """Measure the time to the exit while insight backfills a goal of another workflow."""
    seconds, contacts = bench.extent.of(LATENCY_SECONDS, 10), list[float]()
    measured = await latency.measured(
        bench.pair,
        database,
        bench.folder,
        EVENTS_PER_SECOND,
        seconds,
        beside=partial(_backfilling, contacts, bench.folder),
        scans=bench.scans,
    )
    return measured | {"contacts_per_second": round(contacts[0])}


@contextlib.asynccontextmanager
async def _backfilling(contacts: list[float], folder: Path, there: worker_process.Installation) -> AsyncIterator[None]:
    """Backfill a goal during the block, and append the contacts a second; the block has to end first."""
    async with _insight(there), api.api(there.database_url, folder) as (client, _):
        made = await client.post(f"{WORKFLOW_PATH}/goals", json=BACKFILLED)
        goal = f"{WORKFLOW_PATH}/goals/{made.json()['id']}"
        path = await _asked(client, f"{goal}/backfills", {"from": seed.PLANNED_SINCE})
        before = await _until(client, path, lambda job: job["progress"]["done"] > 0)
        began = time.monotonic()
        yield
        after = (await client.delete(path)).json()
        assert after["state"] == "running", f"the backfill ended before the load did: {after}"
        judged = after["progress"]["done"] - before["progress"]["done"]
        contacts.append(judged / (time.monotonic() - began))
