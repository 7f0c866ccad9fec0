"""Workers and insight whose clock is ten minutes off: the database's clock decides which events are from the future."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from goalworker.embedded import machine
from tests.kit import clients, messages_in, support, worker_process

pytestmark = pytest.mark.unmeasured

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
OFF_SECONDS = 600
RUNS = 100


def _faked(off_seconds: int) -> dict[str, str]:
    """Return the environment of a process whose clock is ahead by this many seconds."""
    return {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME": f"{off_seconds:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@contextlib.contextmanager
def _clock_off_by(seconds: int) -> Iterator[None]:
    """Give the processes that are started in the block a clock that is ahead by this many seconds."""
    if not LIBRARIES:
        pytest.skip("no libfaketime is here (Debian's package `faketime` brings it)")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _faked(seconds).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module", params=[-OFF_SECONDS, OFF_SECONDS], ids=["slow", "fast"])
def off_seconds(request: pytest.FixtureRequest) -> int:
    """Return how many seconds the worker's clock is ahead."""
    return int(request.param)


@pytest.fixture(scope="module")
def worker(shared: worker_process.Installation, off_seconds: int) -> Iterator[worker_process.Worker]:
    with _clock_off_by(off_seconds):
        started = shared.start(DEAD_LETTERS__MAX_RATIO=1)
    try:
        support.run(started.ready())
        yield started
        started.stop()
    finally:
        started.kill()


@pytest.mark.real_world(
    "a host without NTP", "the worker's clock is ten minutes slow or fast: no event is refused for it"
)
async def test_only_events_in_the_future_of_the_database_clock_are_dead_lettered(
    client: clients.Client, worker: worker_process.Worker, off_seconds: int
) -> None:
    workflow_id = f"clock {machine.free_port()}"
    goal = await client.create_goal(workflow_id, "form_submitted", form_id="f")
    enrollments = [messages_in.new_enrollment(workflow_id) for _ in range(RUNS)]
    await client.send(*(enrollment.started(goal.created_at) for enrollment in enrollments))
    await client.send(*(enrollment.submits("f", messages_in.later(goal.created_at, 1)) for enrollment in enrollments))
    late = await client.send(
        messages_in.new_enrollment(workflow_id).submits("f", datetime.now(UTC) + timedelta(seconds=450))
    )
    await client.settle()
    await client.wait_until_published()
    achieved = [each for each in await client.messages("goal_achieved") if each.data["workflow_id"] == workflow_id]
    assert {each.data["enrollment_id"] for each in achieved} == {enrollment.enrollment_id for enrollment in enrollments}
    letters = [dict(letter.headers) for letter in await client.dead_letters()]
    ours = [each for each in letters if each["x-original-offset"] == str(late[0].offset).encode()]
    assert [each["x-error-reason"] for each in letters if each in ours] == [b"future_time"]
    assert {each["x-error-reason"] for each in letters} == {b"future_time"}


async def test_clock_skew_is_logged_once_and_exposed_as_a_metric(
    worker: worker_process.Worker, off_seconds: int
) -> None:
    assert worker.metric("clock_skew_seconds", of="database") == pytest.approx(-off_seconds, abs=5)
    (line,) = worker.lines("clock_skew")
    assert line["level"] == "warning"
    assert line["database_ahead_seconds"] == pytest.approx(-off_seconds, abs=5)


async def test_history_keeps_and_counts_events_by_the_database_clock(
    client: clients.Client, worker: worker_process.Worker, off_seconds: int
) -> None:
    workflow_id, form_id = (f"{name} {machine.free_port()}" for name in ("clock", "form"))
    goal = await client.create_goal(workflow_id, "form_submitted", form_id=form_id)
    enrollments = [messages_in.new_enrollment(workflow_id) for _ in range(RUNS)]
    contact_ids = [enrollment.contact_id for enrollment in enrollments]
    count = "SELECT count(*) FROM history_events WHERE contact_id = ANY($1)"

    async def are_kept() -> bool:
        return bool(await client.sql(count, contact_ids) == RUNS)

    with _clock_off_by(off_seconds):
        process = client.installation.launch("insight")
    async with worker_process.stopping(process):
        await process.said("insight_ready")
        await client.send(*(enrollment.started(goal.created_at) for enrollment in enrollments))
        at = messages_in.later(goal.created_at, 1)
        await client.send(*(enrollment.submits(form_id, at) for enrollment in enrollments))
        await support.until(are_kept)
    seen = "SELECT count FROM seen_values WHERE value = $1 AND clock_timestamp() - last_seen < interval '1 min'"
    assert await client.sql(seen, form_id) == RUNS


def test_doctor_reports_the_clock_skew(
    shared: worker_process.Installation, worker: worker_process.Worker, off_seconds: int
) -> None:
    ended = subprocess.run(  # in a new process, since the library cannot be preloaded into a forked one
        [sys.executable, "-m", "goalworker", "doctor"],
        cwd=shared.folder,
        env=shared.environment() | _faked(off_seconds),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (line,) = [line for line in ended.stdout.splitlines() if "the database's clock is" in line]
    assert line.startswith("warn ")
