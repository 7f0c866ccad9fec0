"""Run `goalworker` as a shell does, in a process of its own, with real streams and exit codes."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiokafka
from aiokafka.admin import NewTopic

from tests.kit import support
from tests.kit.forker import Forker, Outcome, inherited

NOWHERE = {
    "GOALWORKER_DATABASE__URL": "postgresql://nobody:secret@127.0.0.1:1/none",
    "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
}


class Shell:
    """Folder and settings with which to run `goalworker` commands; no other settings apply."""

    def __init__(self, folder: Path, variables: Mapping[str, str], forker: Forker) -> None:
        self.folder = folder
        self.settings = dict(variables)
        self._forker = forker

    def __call__(self, *words: object, stdin: bytes = b"", **variables: str) -> Outcome:
        return self._forker([*map(str, words)], {**self.settings, **variables}, stdin, self.folder)

    def at_terminal(self, typed: str, *words: object) -> Outcome:
        """Run a command whose stdin is a terminal on which this was typed."""
        ours, its = os.openpty()
        try:
            os.write(ours, typed.encode())
            with self._started(words, {}, its) as process:
                out, err = process.communicate(timeout=60)
        finally:
            os.close(ours)
            os.close(its)
        return Outcome(process.returncode, out.decode(), err.decode())

    def started(self, *words: object, **variables: str) -> subprocess.Popen[bytes]:
        return self._started(words, variables, subprocess.PIPE)

    def _started(self, words: Sequence[object], variables: Mapping[str, str], stdin: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "goalworker", *map(str, words)],
            cwd=self.folder,
            env={**inherited(), **self.settings, **variables},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def set(self, variables: Mapping[str, str]) -> "Shell":
        """Return a shell with more settings."""
        return Shell(self.folder, {**self.settings, **variables}, self._forker)


def variables_of(bootstrap_servers: str, topics: Mapping[str, str]) -> dict[str, str]:
    """Return the settings for a broker with these topics and a consumer group of their own."""
    return {
        **{f"GOALWORKER_TOPICS__{logical.upper()}": name for logical, name in topics.items()},
        "GOALWORKER_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        "GOALWORKER_KAFKA__GROUP_ID": f"{topics['tag_added']}-group",
    }


def last_words(outcome: Outcome) -> str:
    """Return the sentence that a command ended with, from its JSON log or from its plain text."""
    last = outcome.err.splitlines()[-1]
    if last.startswith("{"):
        line = json.loads(last)
        assert (line["event"], line["level"], line["exit_code"]) == ("ended", "error", outcome.code)
        return str(line["error"])
    assert last.startswith("goalworker: "), outcome
    return last.removeprefix("goalworker: ")


def assert_one_sentence(outcome: Outcome, code: int, *parts: str) -> None:
    """Assert that a command printed nothing but one line on stderr, with all of these parts, and its exit code."""
    assert (outcome.code, outcome.out) == (code, ""), outcome
    assert outcome.err.count("\n") == 1
    for part in parts:
        assert part in last_words(outcome)


async def create_topic(bootstrap_servers: str, name: str, **configuration: str) -> None:
    options = {key.replace("_", "."): value for key, value in configuration.items()}
    await support.make_topics(bootstrap_servers, [NewTopic(name, 1, 1, topic_configs=options)])


@contextlib.asynccontextmanager
async def producing(bootstrap_servers: str, **options: Any) -> AsyncIterator[aiokafka.AIOKafkaProducer]:
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=bootstrap_servers, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()
