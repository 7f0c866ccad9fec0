"""`goalworker goals plan` and `goals backfill`, which wait for jobs that `goalworker insight` runs."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy.ext import asyncio as sa_async

from goalworker import errors
from goalworker.admin import database_connection, goal_file, goal_jobs, goal_plans
from goalworker.cli import common, job_progress, plan_view
from goalworker.domain import planning
from goalworker.domain.faults import printable
from goalworker.domain.phrases import counted
from goalworker.stores import goal_store, jobs, operator_acts, plan_requests


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
        with job_progress.watching("enrollments") as watch:
            return [(one, await goal_plans.run(pool, tenant, one, watch, actor=operator_acts.actor())) for one in plans]

    done = database_connection.run(settings, run, tenant=tenant)
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
            common.say("\n".join(plan_view.lines(one.workflow_id, one.request, one.goals, status.result or {})))
        words = f"--tenant {printable(tenant)} {printable(file.name)}{' --prune' if prune else ''}"
        common.say(f"to apply exactly this:\n  goalworker goals apply {words} --plan {hash_}")


def _shown(one: goal_plans.WorkflowPlan, status: jobs.Status) -> dict[str, Any]:
    return {"workflow_id": one.workflow_id, "plan_id": status.job_id, "result": status.result}


def backfill(
    tenant: common.Tenant,
    goal_id: Annotated[UUID, typer.Argument(help="The goal's id.")],
    since: Annotated[
        datetime,
        typer.Option(
            "--from", parser=common.moment, metavar="TIME", help="Count from then on: a time, or a duration before now."
        ),
    ],
    exits: Annotated[
        bool, typer.Option("--exits", help="Also tell the engine to stop the enrollments that it satisfies.")
    ] = False,
    as_json: common.Json = False,
) -> None:
    """Let a goal count events from before it was made, as far as history goes.

    Ctrl-C ends it after its present slice; the same command again continues it.
    """

    async def run(pool: sa_async.AsyncEngine) -> jobs.Status:
        actor = operator_acts.actor()
        workflow_id = (await goal_store.get(pool, tenant, goal_id)).workflow_id
        job_id = await goal_store.begin_backfill(pool, tenant, workflow_id, goal_id, since, exits=exits, actor=actor)
        with job_progress.watching("contacts") as watch:
            return await goal_jobs.wait(pool, jobs.JobKey(tenant, jobs.BACKFILL, workflow_id, job_id, goal_id), watch)

    status = database_connection.run(common.load(), run, tenant=tenant)
    if status.result is None:
        raise errors.GoalworkerError(f"The backfill {status.state}: {status.error or 'no result'}")
    result = status.result
    looked_at = f"{counted(result['hits'], 'hit')} among {counted(result['contacts'], 'contact')}"
    sentence = f"{looked_at}: {counted(result['achieved'], 'achievement')} more, {counted(result['exits'], 'exit')}"
    common.report({"backfill_id": status.job_id, **result}, sentence, as_json=as_json)
