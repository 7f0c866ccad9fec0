"""Share of the worker's time in each part of the code, sampled by py-spy while it works off a backlog."""

import asyncio
import contextlib
import functools
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.bench import drains, limits, scale
from tests.kit import worker_process

PYTHON = Path(".venv/bench/bin")
SECONDS, SAMPLES_A_SECOND = 6, 200
# Rows whose rounds take long enough, and whose targets differ.
ROWS = tuple(row for row in limits.ROWS if not row.settings)

# A sample counts for the first of these that is found from the innermost frame outwards.
PARTS: Mapping[str, tuple[str, ...]] = {
    "sockets and event loop": ("asyncio/", "selectors.py", "aiokafka/conn.py", "aiokafka/client.py"),
    "records out of bytes, and away": (
        *("goalworker/kafka/fast_fetch/", "aiokafka/consumer/", "aiokafka/protocol/", "aiokafka/record/"),
        "Batch.forget_records",
    ),
    "decoding": ("goalworker/decoding/", "goalworker/domain/events.py"),
    "goals not asked for lately": (
        "goalworker/goal_index/codec.py",
        "Index._goal_at",
        "TypeIndex._look_up",
        "TypeIndex._recall_older",
        "Multimap.",
    ),
    "matching, counting": (
        *("goalworker/goal_index/", "goalworker/domain/goals.py"),
        *("goalworker/pipeline/batches.py", "goalworker/pipeline/outcomes.py"),
    ),
    "judging": (
        *("goalworker/domain/judging.py", "goalworker/domain/occurrences.py", "goalworker/domain/evidence.py"),
        *("goalworker/domain/verdicts.py", "goalworker/pipeline/judgements.py"),
    ),
    "messages and ids": ("goalworker/domain/messages.py", "goalworker/domain/ids.py"),
    "PostgreSQL's driver": ("asyncpg/", "sqlalchemy/", "goalworker/postgres/", "goalworker/pipeline/recording.py"),
    "sending": ("goalworker/kafka/", "goalworker/pipeline/outbox.py", "aiokafka/producer/"),
    "other": ("goalworker/",),
}


async def measured(bench: limits.Bench) -> list[dict[str, Any]]:
    """Return the percentage of each part, by row; an empty result if py-spy is missing."""
    if not (PYTHON / "py-spy").exists():
        return []
    found = []
    for row in ROWS:
        async with bench.stage(bench.part(row.mix)) as stage:
            found.append({"name": row.name, "percent": await _of(stage)})
    async with scale.most_goals(bench) as stage:
        found.append({"name": f"{stage.mix.goals:,} goals, 10 % and 1 %", "percent": await _of(stage)})
    return found


async def _of(stage: drains.Stage) -> dict[str, float]:
    samples = stage.folder / "samples.txt"
    await drains.product(stage, meanwhile=functools.partial(_sampled, to=samples))
    return shares(samples.read_text().splitlines())


@contextlib.asynccontextmanager
async def _sampled(worker: worker_process.Worker, *, to: Path) -> AsyncIterator[None]:
    words = ("record", "--pid", worker.process.pid, "--duration", SECONDS, "--rate", SAMPLES_A_SECOND)
    process = await asyncio.create_subprocess_exec(
        PYTHON / "py-spy",
        *map(str, (*words, "--format", "raw", "--output", to)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    await process.wait()


def shares(stacks: Iterable[str]) -> dict[str, float]:
    """Return the percentage of each part among stacks, `outer (file:line);...;inner (file:line) count`."""
    counts: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        if "Worker.run" in frames or "_run_once" in frames:
            counts[_part(frames.split(";"))] += int(count)
    return {part: round(100 * counts[part] / counts.total(), 1) for part in PARTS if counts.total()}


def _part(frames: list[str]) -> str:
    for frame in reversed(frames):
        for part, files in PARTS.items():
            if any(file in frame for file in files):
                return part
    return "other"
