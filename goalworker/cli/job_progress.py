"""Progress of jobs on stderr, while a command waits for them."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from goalworker.admin import goal_jobs
from goalworker.cli import common
from goalworker.stores import jobs

# Seconds after which a job that no process has taken is remarked on.
_HINT_SECONDS: Final = 5.0
# Seconds between lines about the progress without a terminal to draw a bar on.
_LINE_SECONDS: Final = 5.0


@contextmanager
def watching(unit: str) -> Iterator[goal_jobs.Watch]:
    """Yield a display of jobs by workflow: a bar on a terminal, otherwise a line now and then."""
    hinted = _Hint()
    if not sys.stderr.isatty():
        yield _Lines(hinted, unit)
        return
    from rich.console import Console  # only here, because importing rich takes longer than a command
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(workflow_id: str, status: jobs.Status) -> None:
            if workflow_id not in tasks:
                tasks[workflow_id] = bars.add_task(workflow_id, total=None)
            hinted.look(status)
            bars.update(tasks[workflow_id], completed=status.progress.done, total=status.progress.of)

        yield show


class _Hint:
    """Remark on a job that nobody takes."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._is_given = False

    def look(self, status: jobs.Status) -> None:
        """Remark once if the job waits for long."""
        if status.state == jobs.QUEUED and not self._is_given and time.monotonic() - self._since > _HINT_SECONDS:
            self._is_given = True
            common.remark("this waits for a process that runs it: start `goalworker insight`, or end this by Ctrl-C")


class _Lines:
    """Lines about the progress, one every few seconds."""

    def __init__(self, hint: _Hint, unit: str) -> None:
        self._hint, self._unit = hint, unit
        self._next = time.monotonic() + _LINE_SECONDS

    def __call__(self, workflow_id: str, status: jobs.Status) -> None:
        self._hint.look(status)
        if status.state == jobs.RUNNING and time.monotonic() > self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            of = "" if status.progress.of is None else f" of {status.progress.of:,}"
            common.remark(f"{workflow_id}: {status.progress.done:,}{of} {self._unit}")
