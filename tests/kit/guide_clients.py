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


def program(language: str, there: worker_process.Installation) -> str:
    """Return the guide's client in a language, with this installation's server and topics for those that it names."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", CLIENTS.read_text(), re.MULTILINE | re.DOTALL)
    named = {_SERVERS: there.bootstrap_servers}
    named |= {
        default: there.topics[logical]
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
    there: worker_process.Installation,
    text: str,
    file: Path,
    *command: str | Path,
    remembered: Callable[[], Collection[str]],
) -> None:
    """Run a client: it obeys the exit that its payment brings, and each other one once, after a restart too.

    It is killed once it has remembered an exit, which is after it has obeyed it.
    """
    told = there.call(
        *("goals", "create", "welcome", "--tenant", "acme", "--type", "purchase_made"),
        *("--criteria", "any_purchase=true"),
    )
    assert told.code == 0, told.err
    async with there.worker(), _producer(there) as producer:
        first = await _obeyed(there, producer, text, file, command, remembered, ["run-1", "run-2"])
        # In a group of another name it reads every exit again, as after the loss of its offsets.
        again = text.replace(_GROUP, '"another-engine"')
        assert again != text
        await _obeyed(there, producer, again, file, command, remembered, ["run-3"], known=first)


async def _obeyed(
    there: worker_process.Installation,
    producer: aiokafka.AIOKafkaProducer,
    text: str,
    file: Path,
    command: tuple[str | Path, ...],
    remembered: Callable[[], Collection[str]],
    expected: list[str],
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the client until it has obeyed these exits and no other, the last of which is sent after the first twice."""
    _save(file, text)
    topic = there.topics["workflow_exit"]
    async with _running(file, command) as said:
        exit_ = known or await _exit(there)
        if known is None:
            await support.until(lambda: said() == expected[:1])
        another = {**exit_, "id": f"exit-of-{expected[-1]}", "data": {**exit_["data"], "enrollment_id": expected[-1]}}
        for sent in (exit_, exit_, another):
            await producer.send_and_wait(topic, json.dumps(sent).encode(), partition=0)
        await support.until(lambda: another["id"] in remembered())
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
async def _producer(there: worker_process.Installation) -> AsyncIterator[aiokafka.AIOKafkaProducer]:
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=there.bootstrap_servers) as producer:
        yield producer


async def _exit(there: worker_process.Installation) -> dict[str, Any]:
    """Return the exit that the worker sends."""
    async with aiokafka.AIOKafkaConsumer(
        there.topics["workflow_exit"], bootstrap_servers=there.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        async with asyncio.timeout(60):
            record = await consumer.getone()
    found: dict[str, Any] = json.loads(record.value)
    return found
