"""Workers stop in good order and share a group: one takes over what another leaves (contract section 6)."""

import asyncio
import signal
import socket
import subprocess
import sys
import time

import pytest

from goalworker.embedded import machine
from tests.kit import clients, flood, worker_process

RUNS = 600
# Less than the session timeout, 45 s, after which a group removes a member that has not left.
AT_ONCE_SECONDS = 10.0


async def test_sigterm_drains_leaves_the_group_and_the_next_worker_takes_over_at_once(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        stream = await flood.flood(client, "stopped", RUNS)
        half = len(stream.records) // 2
        await client.send(*stream.records[:half])
        async with installation.worker(BATCH__MAX_RECORDS=50) as first:
            await clients.until(lambda: stream.is_judged(client, 0.01))
            assert first.stop() < worker_process.STOP_SECONDS
            assert first.lines("stopped")
            assert await client.members() == {}
            # The worker finished its batch: everything that was judged is published.
            assert await client.sql("SELECT count(*) FROM outbox WHERE batch_id IS NOT NULL") == 0
        await client.send(*stream.records[half:])
        asked = time.monotonic()
        async with installation.worker() as second:
            assert time.monotonic() - asked < AT_ONCE_SECONDS
            await stream.check(client)
            assert second.metric("events_total", outcome="matched") > 0


@pytest.mark.parametrize("command", ["run", "api"])
def test_sigterm_during_imports_exits_with_0(command: str) -> None:
    code = f"""
import os, signal, sys
from goalworker import __main__

class Stops:
    def find_spec(self, name, *_):
        if name == "goalworker.runtime":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Stops())
sys.argv = ["goalworker", "{command}"]
__main__.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_signals_after_a_stop_do_not_change_the_exit_code() -> None:
    code = """
import asyncio, atexit, os, signal
from goalworker.runtime import service

def signalled():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(os.getpid(), number)

class Closing(asyncio.SelectorEventLoop):
    def close(self):
        super().close()
        signalled()

async def stops():
    asyncio.get_running_loop().call_soon(signalled)
    await service.wait_for_signal()

asyncio.events.new_event_loop = Closing
atexit.register(signalled)
service.run(stops())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("command", "away"),
    [("run", "DATABASE__URL"), ("run", "KAFKA__BOOTSTRAP_SERVERS"), ("api", "DATABASE__URL")],
)
def test_sigterm_while_a_service_connects_exits_at_once_with_0(
    command: str, away: str, installation: worker_process.Installation
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = {away: address if away.startswith("KAFKA") else f"postgresql://{address}/goalworker"}
        process = subprocess.Popen(
            [sys.executable, "-m", "goalworker", command],
            cwd=installation.folder,
            env=installation.environment(OPS__PORT=machine.free_port(), API__PORT=0, **settings),
            stderr=subprocess.PIPE,
            text=True,
        )
        with process, silent.accept()[0]:
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=worker_process.STOP_SECONDS)
        assert process.returncode == 0, said
        assert time.monotonic() - asked < 3
        assert '"stopped"' in said


async def test_a_second_worker_can_join_and_the_first_leave_under_load(
    installation: worker_process.Installation,
) -> None:
    async with clients.connect(installation) as client:
        stream = await flood.flood(client, "shared", RUNS)
        half = len(stream.records) // 2
        await client.send(*stream.records[:half])
        async with installation.worker(BATCH__MAX_RECORDS=100) as first:
            await clients.until(lambda: stream.is_judged(client, 0.01))
            async with installation.worker(BATCH__MAX_RECORDS=100) as second:
                assert len(await client.members()) == 2
                assert second.metric("consumer_assigned_partitions") == len(clients.INPUTS) * 4 / 2
                sending = asyncio.create_task(client.send(*stream.records[half:]))
                await clients.until(lambda: stream.is_judged(client, 0.4))
                first.stop()
                await sending
                await stream.check(client)
                assert second.metric("consumer_assigned_partitions") == len(clients.INPUTS) * 4
                assert second.metric("consumer_rebalances_total") >= 2
