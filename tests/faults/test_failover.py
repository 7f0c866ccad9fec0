"""A standby takes over that had not got everything yet: what it lacks is read again, on demand (hazard 18)."""

from datetime import UTC, datetime

import pytest

from tests.faults import faulty_servers, workers
from tests.faults.traffic import Traffic, does_half, is_counted, signs_up, stranger, too_early
from tests.kit import clients, support, worker_process

RUNS = 200
# What comes of these is the same message by message, in whatever order they are read. Of others a correction was
# perhaps published before, and is not needed, or is another, when their messages are read together.
UNCORRECTED = (signs_up, does_half, is_counted, stranger, too_early)
COPY = "standby"


@pytest.mark.fault
async def test_a_standby_that_lacks_what_was_committed_is_made_whole_by_rewinding_to_a_time(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "failover")
        traffic.plan(RUNS, malformed=10)
        await traffic.send()
        async with workers.worker(installation):
            await workers.check(traffic)
        lags_since = datetime.now(UTC)
        await _copy(servers, installation)
        _plan_uncorrected(traffic)
        await traffic.send()
        async with workers.worker(installation, BATCH__MAX_RECORDS=50) as worker:
            await workers.check(traffic)
            await _fail_over(servers, installation)
            # It does not know, and goes on: what is committed now is missing in the database.
            traffic.plan(RUNS, malformed=10)
            await traffic.send()
            await workers.settle(client)
            assert worker.is_running
            with pytest.raises(AssertionError, match=r"lost: .* is committed and its fact is not stored"):
                await workers.check_so_far(traffic)
        async with workers.worker(installation, "nothing", "--reset-offsets", lags_since.isoformat()) as worker:
            assert sum(line["from_offset"] - line["to_offset"] for line in worker.lines("offset_reset")) > RUNS
            await workers.check(traffic)
            assert worker.metric("achievements_total") > 0


def _plan_uncorrected(traffic: Traffic) -> None:
    for _ in range(RUNS // len(UNCORRECTED)):
        for scene in UNCORRECTED:
            scene(traffic)
    for _ in range(10):
        traffic.malformed()
    traffic.chance.shuffle(traffic.unsent)


def _name(installation: worker_process.Installation) -> str:
    return installation.database_url.rpartition("/")[2]


async def _copy(servers: faulty_servers.FaultyServers, installation: worker_process.Installation) -> None:
    """Keep the database as it is now."""
    name = _name(installation)
    await support.execute(
        servers.postgres.address,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        f"CREATE DATABASE {name}_{COPY} TEMPLATE {name}",
    )


async def _fail_over(servers: faulty_servers.FaultyServers, installation: worker_process.Installation) -> None:
    """From one moment to the next the database is as it was."""
    name = _name(installation)
    await support.execute(
        servers.postgres.address,
        f"DROP DATABASE {name} WITH (FORCE)",
        f"ALTER DATABASE {name}_{COPY} RENAME TO {name}",
    )
