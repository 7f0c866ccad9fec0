"""A standby takes over that had not got everything yet: what it lacks is read again, on demand (hazard 18)."""

from datetime import UTC, datetime

import pytest

from tests.faults import machines, story, workers
from tests.kit import conversation, support, worker_process

RUNS = 200
# What comes of these is the same message by message, in whatever order they are read. Of others a correction was
# perhaps published before, and is not needed, or is another, when their messages are read together.
UNCORRECTED = (story.signs_up, story.does_half, story.is_counted, story.stranger, story.too_early)
COPY = "standby"


@pytest.mark.fault
async def test_a_standby_that_lacks_what_was_committed_is_made_whole_by_rewinding_to_a_time(
    bad: machines.Machines, there: worker_process.Installation
) -> None:
    async with conversation.talk(there) as talk:
        told = await story.begin(talk, "failover")
        told.plan(RUNS, malformed=10)
        await told.tell()
        async with workers.worker(there):
            await workers.check(told)
        lags_since = datetime.now(UTC)
        await _copy(bad, there)
        _plan_uncorrected(told)
        await told.tell()
        async with workers.worker(there, BATCH__MAX_RECORDS=50) as worker:
            await workers.check(told)
            await _fail_over(bad, there)
            # It does not know, and goes on: what is committed now is missing in the database.
            told.plan(RUNS, malformed=10)
            await told.tell()
            await workers.settled(talk)
            assert worker.is_running
            with pytest.raises(AssertionError, match=r"lost: .* is committed and its fact is not stored"):
                await workers.check_so_far(told)
        async with workers.worker(there, "nothing", "--reset-offsets", lags_since.isoformat()) as worker:
            assert sum(line["from_offset"] - line["to_offset"] for line in worker.lines("offset_reset")) > RUNS
            await workers.check(told)
            assert worker.metric("achievements_total") > 0


def _plan_uncorrected(told: story.Story) -> None:
    for _ in range(RUNS // len(UNCORRECTED)):
        for scene in UNCORRECTED:
            scene(told)
    for _ in range(10):
        told.garbage()
    told.chance.shuffle(told.untold)


def _name(there: worker_process.Installation) -> str:
    return there.database_url.rpartition("/")[2]


async def _copy(bad: machines.Machines, there: worker_process.Installation) -> None:
    """Keep the database as it is now."""
    name = _name(there)
    await support.execute(
        bad.postgres.address,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        f"CREATE DATABASE {name}_{COPY} TEMPLATE {name}",
    )


async def _fail_over(bad: machines.Machines, there: worker_process.Installation) -> None:
    """From one moment to the next the database is as it was."""
    name = _name(there)
    await support.execute(
        bad.postgres.address,
        f"DROP DATABASE {name} WITH (FORCE)",
        f"ALTER DATABASE {name}_{COPY} RENAME TO {name}",
    )
