"""Rigged workers, and waiting until all that was told is judged."""

import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib import parse

from aiokafka import errors as kafka_errors

from tests.faults import evidence, history, rigged, story
from tests.kit import conversation, support, worker_process

SETTLED_SECONDS: Final = 90.0
# A dead member is missed sooner.
SESSION_TIMEOUT_SECONDS: Final = 6
SHOWN: Final = 10


def start(
    there: worker_process.Installation, rig: str = "nothing", *words: str, **settings: object
) -> worker_process.Worker:
    """Start a rigged worker, with words after `run`; the caller stops it."""
    settings = {"KAFKA__SESSION_TIMEOUT_SECONDS": SESSION_TIMEOUT_SECONDS, **settings}
    return there.launch(rigged.__file__, rig, "run", *words, **settings)


@contextlib.asynccontextmanager
async def worker(
    there: worker_process.Installation, rig: str = "nothing", *words: str, **settings: object
) -> AsyncIterator[worker_process.Worker]:
    """Run a worker that is ready, and stop it in good order unless the test ended it."""
    async with worker_process.stopping(start(there, rig, *words, **settings)) as started:
        await started.ready()
        yield started


@contextlib.asynccontextmanager
async def paused(worker: worker_process.Worker) -> AsyncIterator[None]:
    """The process stands still meanwhile."""
    worker.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.process.send_signal(signal.SIGCONT)


async def died_of_its_rig(worker: worker_process.Worker) -> None:
    """Wait until a worker has killed itself."""
    await support.until(lambda: not worker.is_running, SETTLED_SECONDS)
    assert worker.wait() == -signal.SIGKILL, worker.log.read_text()


async def settled(talk: conversation.Talk, timeout_seconds: float = SETTLED_SECONDS) -> None:
    """Wait until all is committed and nothing waits in the outbox, whatever is away meanwhile."""

    async def is_settled() -> bool:
        try:
            return not await evidence.lag(talk) and await talk.sql("SELECT count(*) FROM outbox") == 0
        except (kafka_errors.KafkaError, OSError):
            return False

    await support.until(is_settled, timeout_seconds)


async def check(told: story.Story, timeout_seconds: float = SETTLED_SECONDS) -> history.Found:
    """Wait for the end and look at everything that happened."""
    await settled(told.talk, timeout_seconds)
    found = await evidence.gather(told.talk)
    problems = history.problems(told.tellings, told.expected, found)
    assert not problems, f"{len(problems)} problems, such as\n" + "\n".join(problems[:SHOWN])
    return found


async def check_so_far(told: story.Story) -> None:
    """Look at what happened until now."""
    found = await evidence.gather(told.talk)
    problems = history.problems_so_far(told.tellings, found)
    assert not problems, f"{len(problems)} problems, such as\n" + "\n".join(problems[:SHOWN])


async def is_judged(told: story.Story, share: float) -> bool:
    """Say whether so much of what is expected is there."""
    achieved: int = await told.talk.sql("SELECT count(*) FROM achievements")
    return achieved >= share * len(told.expected.achieved)


async def wait_for_share(told: story.Story, share: float) -> None:
    async def is_there() -> bool:
        return await is_judged(told, share)

    await support.until(is_there, SETTLED_SECONDS)


SECRETS: Final = {
    "API__JWT_SECRET": f"{story.PLANTED}-a-secret-that-is-long-enough",
    "API__JWT_ISSUER": "issuer",
    "API__JWT_AUDIENCE": "audience",
    "REFERENCES__URL": f"http://ann:{story.PLANTED}@crm/{{kind}}/{{id}}?api_key={story.PLANTED}",
}


def leaks(there: worker_process.Installation) -> list[str]:
    """The lines of all logs that say what was planted, or the password of the database."""
    marks = (story.PLANTED, parse.urlsplit(there.database_url).password or story.PLANTED)
    lines = [line for log in there.folder.glob("*.log") for line in log.read_text(errors="replace").splitlines()]
    return [line for line in lines if any(mark in line for mark in marks)]


def resident_bytes(worker: worker_process.Worker) -> int:
    """How much memory a worker has now."""
    shown = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(worker.process.pid)], capture_output=True, text=True, check=True
    )
    return int(shown.stdout) * 1024


def open_files(worker: worker_process.Worker) -> int:
    """How many files and connections a worker has open now."""
    folder = Path(f"/proc/{worker.process.pid}/fd")
    if folder.is_dir():
        return len(list(folder.iterdir()))
    shown = subprocess.run(["lsof", "-p", str(worker.process.pid)], capture_output=True, text=True, check=True)
    return len(shown.stdout.splitlines())
