"""Rigged workers, and checks of everything that they have done."""

import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib import parse

from aiokafka import errors as kafka_errors

from tests.faults import evidence, history, outcomes, rigged
from tests.faults.sending import PLANTED
from tests.faults.traffic import Traffic
from tests.kit import clients, support, worker_process

SETTLED_SECONDS: Final = 90.0
# Short, so that the group removes a dead member sooner.
SESSION_TIMEOUT_SECONDS: Final = 6
SHOWN: Final = 10


def start(
    installation: worker_process.Installation, rig: str = "nothing", *words: str, **settings: object
) -> worker_process.Worker:
    """Start a rigged worker, with words after `run`; the caller stops it."""
    settings = {"KAFKA__SESSION_TIMEOUT_SECONDS": SESSION_TIMEOUT_SECONDS, **settings}
    return installation.launch_by(rigged.__file__, rig, "run", *words, **settings)


@contextlib.asynccontextmanager
async def worker(
    installation: worker_process.Installation, rig: str = "nothing", *words: str, **settings: object
) -> AsyncIterator[worker_process.Worker]:
    """Run a worker that is ready, and stop it in good order unless the test ended it."""
    async with worker_process.stopping(start(installation, rig, *words, **settings)) as started:
        await started.ready()
        yield started


@contextlib.asynccontextmanager
async def paused(worker: worker_process.Worker) -> AsyncIterator[None]:
    """Pause the process during the block."""
    worker.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.process.send_signal(signal.SIGCONT)


async def wait_until_killed(worker: worker_process.Worker) -> None:
    """Wait until a worker has killed itself."""
    await support.until(lambda: not worker.is_running, SETTLED_SECONDS)
    assert worker.wait() == -signal.SIGKILL, worker.log.read_text()


async def settle(client: clients.Client, timeout_seconds: float = SETTLED_SECONDS) -> None:
    """Wait until every record is committed and the outbox is empty, also while a server is away."""

    async def is_settled() -> bool:
        try:
            return not await evidence.lag(client) and await client.sql("SELECT count(*) FROM outbox") == 0
        except (kafka_errors.KafkaError, OSError):
            return False

    await support.until(is_settled, timeout_seconds)


async def rejoin(client: clients.Client, *expected: worker_process.Worker) -> None:
    """Return when the members of the group are these workers; one of them may have done all work before."""
    names = sorted(each.client_id for each in expected)

    async def are_members() -> bool:
        return sorted((await client.members()).values()) == names

    await support.until(are_members, 60)


async def check(traffic: Traffic, timeout_seconds: float = SETTLED_SECONDS) -> outcomes.Found:
    """Wait until everything is processed, then assert that the results are the expected ones."""
    await settle(traffic.client, timeout_seconds)
    found = await evidence.gather(traffic.client)
    problems = history.problems(traffic.sent, traffic.expected, found)
    assert not problems, f"{len(problems)} problems, such as\n" + "\n".join(problems[:SHOWN])
    return found


async def check_so_far(traffic: Traffic) -> None:
    """Assert that nothing is wrong so far."""
    found = await evidence.gather(traffic.client)
    problems = history.problems_so_far(traffic.sent, found)
    assert not problems, f"{len(problems)} problems, such as\n" + "\n".join(problems[:SHOWN])


async def is_judged(traffic: Traffic, share: float) -> bool:
    """Say whether this share of the expected achievements is stored."""
    achieved: int = await traffic.client.sql("SELECT count(*) FROM achievements WHERE revoked_at IS NULL")
    return achieved >= share * len(traffic.expected.achieved)


async def wait_for_share(traffic: Traffic, share: float) -> None:
    async def is_there() -> bool:
        return await is_judged(traffic, share)

    await support.until(is_there, SETTLED_SECONDS)


SECRETS: Final = {
    "API__JWT_SECRET": f"{PLANTED}-a-secret-that-is-long-enough",
    "API__JWT_ISSUER": "issuer",
    "API__JWT_AUDIENCE": "audience",
    "REFERENCES__URL": f"http://ann:{PLANTED}@crm/{{kind}}/{{id}}?api_key={PLANTED}",
}


def leaks(installation: worker_process.Installation) -> list[str]:
    """Return the log lines that contain a planted text or the password of the database."""
    marks = (PLANTED, parse.urlsplit(installation.database_url).password or PLANTED)
    lines = [line for log in installation.folder.glob("*.log") for line in log.read_text(errors="replace").splitlines()]
    return [line for line in lines if any(mark in line for mark in marks)]


def resident_bytes(worker: worker_process.Worker) -> int:
    """Return the resident memory of a worker."""
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(worker.process.pid)], capture_output=True, text=True, check=True
    )
    return int(shown.stdout) * 1024


def open_files(worker: worker_process.Worker) -> int:
    """Return the number of files and sockets that a worker has open."""
    folder = Path(f"/proc/{worker.process.pid}/fd")
    if folder.is_dir():
        return len(list(folder.iterdir()))
    shown = subprocess.run(["lsof", "-p", str(worker.process.pid)], capture_output=True, text=True, check=True)
    return len(shown.stdout.splitlines())
