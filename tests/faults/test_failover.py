"""A standby that lacks the last transactions takes over: the lost events are read again on demand (hazard 18)."""

from datetime import UTC, datetime

import pytest

from tests.faults import faulty_servers, standby, workers
from tests.faults.scenes import does_half, is_counted, signs_up, stranger, too_early
from tests.faults.traffic import Traffic
from tests.kit import clients, worker_process

RUNS = 200
# Results of these scenes are the same messages in whatever order their records are read. For other scenes a correction
# may have been published that is unnecessary, or different, when the records are read again together.
UNCORRECTED = (signs_up, does_half, is_counted, stranger, too_early)


@pytest.mark.fault
async def test_rewinding_restores_what_a_standby_lacks_after_a_failover(
    servers: faulty_servers.FaultyServers, installation: worker_process.Installation
) -> None:
    async with clients.connect(installation) as client:
        traffic = await Traffic.begin(client, "failover")
        traffic.plan(RUNS, malformed=10)
        await traffic.send()
        async with workers.worker(installation):
            await workers.check(traffic)
        lags_since = datetime.now(UTC)
        await standby.copy(servers, installation)
        _plan_uncorrected(traffic)
        await traffic.send()
        async with workers.worker(installation, BATCH__MAX_RECORDS=50) as worker:
            await workers.check(traffic)
            await standby.take_over(servers, installation)
            # The worker does not notice the loss and goes on.
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
