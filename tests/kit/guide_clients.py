"""Run the clients of deploy/CLIENTS.md against a worker."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import aiokafka

from tests.kit import support, worker_process

CLIENTS: Final = Path(__file__).parents[2] / "deploy" / "CLIENTS.md"
_SERVERS: Final = "localhost:9092"
_GROUP: Final = '"engine"'


def program(language: str, installation: worker_process.Installation) -> str:
    """Return the guide's client in a language, with the server and topics of this installation."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", CLIENTS.read_text(), re.MULTILINE | re.DOTALL)
    named = {_SERVERS: installation.bootstrap_servers}
    named |= {
        default: installation.topics[logical]
        for logical, default in (
            ("workflow_lifecycle", "workflow-lifecycle"),
            ("payment_completed", "payment-completed"),
            ("workflow_exit", "workflow-exit"),
        )
    }
    for default, ours in named.items():
        assert default in found
        found = found.replace(default, ours)
    return str(found)


async def check(
    installation: worker_process.Installation,
    text: str,
    file: Path,
    *command: str | Path,
    recorded: Callable[[], Collection[str]],
) -> None:
    """Assert that a client obeys the exit after its payment, and every other exit once, also after a restart.

    The client is killed after it has recorded an exit, which it does after obeying it.
    """
    created = installation.call(
        *("goals", "create", "welcome", "--tenant", "acme", "--type", "purchase_made"),
        *("--criteria", "any_purchase=true"),
    )
    assert created.code == 0, created.err
    async with installation.worker(), _producer(installation) as producer:
        first = await _obeyed(installation, producer, text, file, command, recorded, ["run-1", "run-2"])
        # In another group it reads every exit again, as it would after a loss of its offsets.
        again = text.replace(_GROUP, '"another-engine"')
        assert again != text
        await _obeyed(installation, producer, again, file, command, recorded, ["run-3"], first=first)


async def _obeyed(
    installation: worker_process.Installation,
    producer: aiokafka.AIOKafkaProducer,
    text: str,
    file: Path,
    command: tuple[str | Path, ...],
    recorded: Callable[[], Collection[str]],
    expected: list[str],
    first: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the client until it has obeyed exactly these exits; the first is sent twice, and then the last."""
    _save(file, text)
    topic = installation.topics["workflow_exit"]
    async with _running(file, command) as said:
        exit_ = first or await _exit(installation)
        if first is None:
            await support.until(lambda: said() == expected[:1])
        another = {**exit_, "id": f"exit-of-{expected[-1]}", "data": {**exit_["data"], "enrollment_id": expected[-1]}}
        for message in (exit_, exit_, another):
            await producer.send_and_wait(topic, json.dumps(message).encode(), partition=0)
        await support.until(lambda: another["id"] in recorded())
        assert said() == expected
    return exit_


def _save(file: Path, text: str) -> None:
    file.write_text(text)


@contextlib.asynccontextmanager
async def _running(file: Path, command: tuple[str | Path, ...]) -> AsyncIterator[Any]:
    log = file.with_suffix(".log")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), str(file), cwd=file.parent, stdout=output, stderr=subprocess.STDOUT, env=_environment()
        )

    def said() -> list[str]:
        text = log.read_text()
        assert process.returncode is None, text
        return re.findall(r"^stop (\S+)$", text, re.MULTILINE)

    try:
        yield said
    finally:
        process.kill()
        await process.wait()


def _environment() -> Mapping[str, str]:
    return {**os.environ, "KAFKAJS_NO_PARTITIONER_WARNING": "1"}


@contextlib.asynccontextmanager
async def _producer(installation: worker_process.Installation) -> AsyncIterator[aiokafka.AIOKafkaProducer]:
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=installation.bootstrap_servers) as producer:
        yield producer


async def _exit(installation: worker_process.Installation) -> dict[str, Any]:
    """Return the exit that the worker sends."""
    async with aiokafka.AIOKafkaConsumer(
        installation.topics["workflow_exit"],
        bootstrap_servers=installation.bootstrap_servers,
        auto_offset_reset="earliest",
    ) as consumer:
        async with asyncio.timeout(60):
            record = await consumer.getone()
    found: dict[str, Any] = json.loads(record.value)
    return found
