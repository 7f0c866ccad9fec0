"""`goalworker goals plan`: what a goal file would have changed, while a bar shows how far the plan is."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.admin import database_connection, goal_file, goal_plans, plan_sentences
from goalworker.cli import common
from goalworker.domain import planning
from goalworker.stores import jobs, operator_acts, plan_requests

# Seconds after which a plan that nobody has taken is remarked on.
_HINT_SECONDS: Final = 5.0
# Seconds between lines about the progress without a terminal to draw a bar on.
_LINE_SECONDS: Final = 5.0


def plan(
    tenant: common.Tenant,
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="JSON, as for `apply`; - reads standard input.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Plan the deletion of goals that the file lacks, too.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--from",
            parser=common.moment,
            metavar="TIME",
            help="As if the file had been applied then: a time, or a duration before now, such as P30D.",
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, max=plan_requests.SAMPLE_MAX, help="Judge a sample of at most this size.")
    ] = None,
    as_json: common.Json = False,
) -> None:
    """Show what would have been achieved and exited, had a file been applied; nothing is changed.

    `goalworker insight` judges over the events that it kept. `goals apply FILE --plan HASH` then applies exactly this.
    """
    settings = common.load()
    maximum = settings.goals.max_per_workflow
    workflows = goal_file.parse(file.read(), maximum)
    asked_since = None if since is None else since.isoformat()

    async def run(pool: sa_async.AsyncEngine) -> list[tuple[goal_plans.WorkflowPlan, jobs.Status]]:
        steps = await goal_file.plan(pool, tenant, workflows, maximum=maximum, prune=prune)
        plans = await goal_plans.workflow_plans(pool, tenant, steps, maximum=maximum, since=asked_since, sample=sample)
        with _watching() as watch:
            return [(one, await goal_plans.run(pool, tenant, one, watch, actor=operator_acts.actor())) for one in plans]

    done = database_connection.run(settings, run)
    for one, status in done:
        if status.result is None:
            raise errors.GoalworkerError(
                f"The plan of {one.workflow_id!r} {status.state}: {status.error or 'no result'}"
            )
    hash_ = planning.combined_hash([one.plan_hash for one, _ in done])
    if as_json:
        common.show_json({"plan_hash": hash_, "workflows": [_shown(one, status) for one, status in done]})
    elif not done:
        common.say("nothing to plan: the goals are as the file says")
    else:
        for one, status in done:
            common.say("\n".join(plan_sentences.lines(one.workflow_id, one.request, one.goals, status.result or {})))
        common.say(f"to apply exactly this: goalworker goals apply --tenant {tenant} {file.name} --plan {hash_}")


def _shown(one: goal_plans.WorkflowPlan, status: jobs.Status) -> dict[str, Any]:
    return {"workflow_id": one.workflow_id, "plan_id": status.job_id, "result": status.result}


@contextmanager
def _watching() -> Iterator[goal_plans.Watch]:
    """Yield what shows the progress of plans: a bar on a terminal, otherwise a line now and then."""
    hinted = _Hint()
    if not sys.stderr.isatty():
        yield _Lines(hinted)
        return
    from rich.console import Console  # only here, because importing rich takes longer than a command
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("enrollments"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(workflow_id: str, status: jobs.Status) -> None:
            if workflow_id not in tasks:
                tasks[workflow_id] = bars.add_task(workflow_id, total=None)
            hinted.look(status)
            bars.update(tasks[workflow_id], completed=status.progress.done, total=status.progress.of)

        yield show


class _Hint:
    """Remark on a plan that nobody takes."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._is_given = False

    def look(self, status: jobs.Status) -> None:
        """Remark once if the plan waits for long."""
        if status.state == jobs.QUEUED and not self._is_given and time.monotonic() - self._since > _HINT_SECONDS:
            self._is_given = True
            common.remark(
                "the plan waits for a process that runs it: start `goalworker insight`, or end this by Ctrl-C"
            )


class _Lines:
    """Lines about the progress, one every few seconds."""

    def __init__(self, hint: _Hint) -> None:
        self._hint = hint
        self._next = time.monotonic() + _LINE_SECONDS

    def __call__(self, workflow_id: str, status: jobs.Status) -> None:
        self._hint.look(status)
        if status.state == jobs.RUNNING and time.monotonic() > self._next:
            self._next = time.monotonic() + _LINE_SECONDS
            of = "" if status.progress.of is None else f" of {status.progress.of:,}"
            common.remark(f"{workflow_id}: {status.progress.done:,}{of} enrollments judged")
