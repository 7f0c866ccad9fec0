"""`goalworker cells`: the tenants that this cell owns, and what several cells own together (contract section 10)."""

from typing import Annotated, Any

import typer

from goalworker.admin import cell_report
from goalworker.admin.cell_report import NAMED_MAX
from goalworker.admin.findings import State
from goalworker.cli import common
from goalworker.domain.faults import printable
from goalworker.domain.phrases import counted

app = typer.Typer(
    help="Show this cell's tenants, or check that every tenant belongs to exactly one cell.", add_completion=False
)

Databases = Annotated[
    list[str] | None, typer.Option("--database", metavar="URL", help="The database of another cell; may be repeated.")
]


@app.callback(invoke_without_command=True)
def cells(context: typer.Context, as_json: common.Json = False) -> None:
    """Show the buckets that this cell owns, and the tenants that were moved here or away."""
    if context.invoked_subcommand is not None:
        return
    found = common.run(cell_report.own(common.load()))
    if as_json:
        common.show_json(found)
        return
    for sentence in _sentences(found):
        common.say(sentence)
    rows = [
        {"tenant": moved.tenant_id, "state": moved.state, "other_cell": moved.other_cell, "since": moved.changed_at}
        for moved in found["moved_tenants"]
    ]
    common.show(rows, as_json=False, empty="no tenant was moved")


@app.command()
def check(database: Databases = None, as_json: common.Json = False) -> None:
    """Find buckets and tenants that no cell owns, or two do; exit with 1 if there is a problem.

    Name the database of every cell that shares the topics. That of the settings is one of them.
    """
    found = common.run(cell_report.compare(common.load(), database or ()))
    if as_json:
        common.show_json(found)
    else:
        for finding in found:
            common.say(f"{finding.state:<7}  {finding.check:<8}  {printable(finding.detail)}")
    raise typer.Exit(int(any(finding.state is State.PROBLEM for finding in found)))


def _sentences(found: dict[str, Any]) -> list[str]:
    sentences = [f"this cell owns the buckets {found['buckets']}"]
    if found["workers_buckets"] is None:
        sentences.append("no worker was ever started on its database")
    elif found["workers_buckets"] != found["buckets"]:
        sentences.append(f"its workers were last started with {found['workers_buckets']}: give all of it one setting")
    if foreign := found["foreign_tenants"]:
        named = ", ".join(map(printable, foreign[:NAMED_MAX]))
        more = "" if len(foreign) <= NAMED_MAX else ", ..."
        sentences.append(f"{counted(len(foreign), 'tenant')} with goals here, but of another cell: {named}{more}")
    return sentences
