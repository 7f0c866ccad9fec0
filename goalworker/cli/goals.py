"""`goalworker goals`: goals from the shell, on the same code as the API (contract section 6)."""

import re
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
import typer
from sqlalchemy.ext import asyncio as sa_async

from goalworker import config, errors
from goalworker.admin import database_connection, goal_file, goal_listing, goal_plans
from goalworker.cli import common
from goalworker.cli.goal_explanations import explain
from goalworker.cli.goal_plans import backfill, plan
from goalworker.domain import events, exact_json, goals
from goalworker.domain.criteria import criteria_of_json
from goalworker.domain.faults import Fault, printable
from goalworker.domain.phrases import counted
from goalworker.stores import goal_store, goal_warnings, operator_acts

T = TypeVar("T")

app = typer.Typer(help="Work with goals from the shell.", no_args_is_help=True, add_completion=False)


Tenant = common.Tenant
Workflow = common.Workflow
GoalId = Annotated[UUID, typer.Argument(help="The goal's id.")]
CRITERIA_HELP: Final = "As JSON, or as key=value, repeated for each key, and for each id of which any will do."
IfVersion = Annotated[int | None, typer.Option(min=1, help="Change nothing if the goal is at another version.")]


app.command("plan")(plan)
app.command("backfill")(backfill)
app.command("explain")(explain)


@app.command("list")
def list_(
    tenant: Tenant,
    workflow: Annotated[str | None, typer.Argument(help="Only goals of this workflow.")] = None,
    include_deleted: Annotated[bool, typer.Option("--include-deleted", help="Also show deleted goals.")] = False,
    as_json: common.Json = False,
) -> None:
    """Show the goals of a workflow, or of all workflows, oldest first."""
    found = _run(tenant, lambda pool: goal_listing.list_all(pool, tenant, workflow, include_deleted=include_deleted))
    if as_json:
        common.show_json(found)
    else:
        common.show([_row(goal) for goal in found], as_json=False, empty="no goals")


@app.command()
def get(tenant: Tenant, goal_id: GoalId, as_json: common.Json = False) -> None:
    """Show one goal."""
    _show(_run(tenant, lambda pool: goal_store.get(pool, tenant, goal_id)), as_json=as_json)


@app.command()
def create(
    tenant: Tenant,
    workflow: Workflow,
    goal_type: Annotated[str, typer.Option("--type", help=f"One of {', '.join(events.GOAL_TYPES)}.")],
    criteria: Annotated[list[str], typer.Option(help=CRITERIA_HELP)],
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    as_json: common.Json = False,
) -> None:
    """Create a goal, which counts for events from now on."""
    draft = goal_store.parse_draft({"goal_type": goal_type, "criteria": _criteria(criteria), "name": name})
    settings = common.load()
    maximum = settings.goals.max_per_workflow
    _change(
        settings,
        tenant,
        lambda pool: goal_store.create(pool, tenant, workflow, draft, actor=operator_acts.actor(), maximum=maximum),
        as_json=as_json,
    )


@app.command()
def update(
    tenant: Tenant,
    goal_id: GoalId,
    criteria: Annotated[
        list[str] | None, typer.Option(help=f"The new criteria, which replace all old ones. {CRITERIA_HELP}")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    no_name: Annotated[bool, typer.Option("--no-name", help="Remove the name.")] = False,
    if_version: IfVersion = None,
    as_json: common.Json = False,
) -> None:
    """Change a goal's criteria or name; new criteria count for events from now on."""
    given: dict[str, Any] = {"criteria": _criteria(criteria)} if criteria else {}
    if name is not None or no_name:
        given["name"] = name
    if not given or (no_name and name is not None):
        raise typer.BadParameter("give --criteria, --name or --no-name, but not both of the last two")
    _update(tenant, goal_id, given, if_version, as_json)


@app.command()
def pause(tenant: Tenant, goal_id: GoalId, if_version: IfVersion = None, as_json: common.Json = False) -> None:
    """Make a goal inactive, so that events from now on do not achieve it."""
    _update(tenant, goal_id, {"is_active": False}, if_version, as_json)


@app.command()
def resume(tenant: Tenant, goal_id: GoalId, if_version: IfVersion = None, as_json: common.Json = False) -> None:
    """Make a goal active again, for events from now on."""
    _update(tenant, goal_id, {"is_active": True}, if_version, as_json)


@app.command()
def delete(tenant: Tenant, goal_id: GoalId, if_version: IfVersion = None, as_json: common.Json = False) -> None:
    """Delete a goal; its achievements stay."""
    _run(
        tenant,
        lambda pool: goal_store.delete(pool, tenant, goal_id, actor=operator_acts.actor(), expected_version=if_version),
    )
    common.report({"id": goal_id, "deleted": True}, f"deleted {goal_id}", as_json=as_json)


@app.command()
def set_logic(
    tenant: Tenant,
    workflow: Workflow,
    logic: Annotated[str, typer.Argument(help=f"One of {', '.join(goals.LOGICS)}.")],
    as_json: common.Json = False,
) -> None:
    """Set when contacts leave a workflow: at any goal, at all goals, or never, which only measures."""
    is_new = _run(tenant, lambda pool: goal_store.set_logic(pool, tenant, workflow, logic, actor=operator_acts.actor()))
    sentence = f"{printable(workflow)}: {logic}{'' if is_new else ' already'}"
    common.report({"workflow_id": workflow, "logic": logic, "changed": is_new}, sentence, as_json=as_json)


@app.command()
def apply(
    tenant: Tenant,
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="JSON; - reads standard input.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete goals that the file lacks, in the workflows that it names.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    plan_hash: Annotated[
        str | None, typer.Option("--plan", metavar="HASH", help="Change nothing unless this is what was planned.")
    ] = None,
    as_json: common.Json = False,
) -> None:
    """Create and rename goals and set logics as a file says; applying it again changes nothing.

    With --prune it asks before it deletes goals. Without a terminal to ask at, give --yes.

    The file: {"workflows": [{"workflow_id", "logic"?, "goals": [{"goal_type", "criteria", "name"?}]}]}
    """
    settings = common.load()
    maximum = settings.goals.max_per_workflow
    workflows = goal_file.parse(file.read(), maximum)

    async def look(pool: sa_async.AsyncEngine) -> tuple[list[goal_file.Step], list[goal_plans.WorkflowPlan]]:
        steps = await goal_file.plan(pool, tenant, workflows, maximum=maximum, prune=prune)
        plans = [] if plan_hash is None else await goal_plans.workflow_plans(pool, tenant, steps, maximum=maximum)
        if plan_hash is not None:
            goal_plans.refuse_changed(plans, plan_hash)
        for workflow_id, warning in await goal_file.warnings(pool, tenant, steps):
            common.remark(f"warning: {printable(workflow_id)}: {warning.detail}")
        return steps, plans

    planned, plans = database_connection.run(settings, look, tenant=tenant)
    if dry_run:
        _show_steps(planned, as_json=as_json)
        if not as_json:
            common.say("nothing was changed: this was a dry run")
        return
    if not yes:
        _confirm_deletions(planned)
    taken: list[goal_file.Step] = []

    async def take_steps(pool: sa_async.AsyncEngine) -> None:
        actor = operator_acts.actor()
        async for step in goal_plans.apply(pool, tenant, planned, plans, actor=actor, maximum=maximum):
            taken.append(step)

    try:
        database_connection.run(settings, take_steps, tenant=tenant)
    except errors.GoalworkerError:
        if taken:  # An error in one workflow does not undo what was done to those before it.
            _show_steps(taken, as_json=as_json)
        raise
    _show_steps(taken, as_json=as_json)


def _confirm_deletions(planned: list[goal_file.Step]) -> None:
    """Ask before goals are deleted, and abort on a no; without a terminal, raise a usage error."""
    deletions = [step for step in planned if step.action == goal_file.DELETED]
    if not deletions:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"--prune would delete {counted(len(deletions), 'goal')}, and stdin is not a terminal to ask at. Nothing "
            "was changed: look with --dry-run, then give --yes"
        )
    for step in deletions:
        label = printable(f"{step.workflow_id}: {step.goal_type} {_compact(step.criteria)} {step.name or ''}")
        typer.echo(label.rstrip(), err=True)
    typer.confirm(f"Delete {counted(len(deletions), 'goal')} for good?", abort=True, err=True)


def _show_steps(steps: list[goal_file.Step], *, as_json: bool) -> None:
    rows = [msgspec.structs.asdict(step) for step in steps]
    if not as_json:
        rows = [row | {"criteria": _compact(row["criteria"])} for row in rows]
    common.show(rows, as_json=as_json, empty="nothing to do")


def _run(tenant: str, work: Callable[[sa_async.AsyncEngine], Awaitable[T]]) -> T:
    return database_connection.run(common.load(), work, tenant=tenant)


def _update(tenant: str, goal_id: UUID, given: dict[str, Any], if_version: int | None, as_json: bool) -> None:
    _change(
        common.load(),
        tenant,
        lambda pool: goal_store.update(
            pool, tenant, goal_id, given, actor=operator_acts.actor(), expected_version=if_version
        ),
        as_json=as_json,
    )


def _change(
    settings: config.Settings,
    tenant: str,
    change: Callable[[sa_async.AsyncEngine], Awaitable[goal_store.StoredGoal]],
    *,
    as_json: bool,
) -> None:
    """Make a change, and show the goal and the warnings about it."""

    async def run(pool: sa_async.AsyncEngine) -> tuple[goal_store.StoredGoal, list[Fault]]:
        goal = await change(pool)
        (warnings,) = await goal_warnings.about(pool, tenant, [(goal.goal_type, criteria_of_json(goal.criteria))])
        return goal, warnings

    goal, warnings = database_connection.run(settings, run, tenant=tenant)
    _show(goal, as_json=as_json)
    for warning in warnings:
        common.remark(f"warning: {warning.detail}")


def _criteria(values: list[str]) -> Any:
    """Return criteria from one JSON object or from key=value pairs; several of one key are a list.

    Only any_... and times are not texts.
    """
    if len(values) == 1 and values[0].lstrip().startswith("{"):
        try:
            return exact_json.decode(values[0])
        except ValueError as error:
            raise typer.BadParameter(f"--criteria is not JSON: {error}") from None
    pairs = [value.partition("=") for value in values]
    if not all(equals for _, equals, _ in pairs):
        raise typer.BadParameter('--criteria must be JSON, such as {"tag_id": "t1"}, or key=value, such as tag_id=t1')
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for key, _, text in pairs:
        texts[key].append(text)
    return {key: _criterion(key, *of_key) for key, of_key in texts.items()}


def _criterion(key: str, text: str, *more: str) -> str | bool | int | list[str]:
    if more:
        return [text, *more]
    if key == "times" and re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    return text == "true" if key.startswith("any_") else text


def _show(goal: goal_store.StoredGoal, *, as_json: bool) -> None:
    if as_json:
        common.show_json(goal)
    else:
        common.show([_row(goal)], as_json=False, empty="")


def _row(goal: goal_store.StoredGoal) -> dict[str, object]:
    return {
        "id": goal.id,
        "workflow_id": goal.workflow_id,
        "goal_type": goal.goal_type,
        "criteria": _compact(goal.criteria),
        "name": goal.name,
        "active": goal.is_active,
        "version": goal.version,
        "updated_at": goal.updated_at,
        "updated_by": goal.updated_by,
        "deleted_at": goal.deleted_at,
    }


def _compact(criteria: dict[str, Any] | None) -> str | None:
    return msgspec.json.encode(criteria).decode() if criteria else None
