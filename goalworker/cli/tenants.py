"""`goalworker tenants move`: moves a tenant to another cell while its events come (contract section 10)."""

from typing import Annotated

import typer
from msgspec import structs

from goalworker.admin import tenant_move
from goalworker.cli import common
from goalworker.domain.faults import printable

app = typer.Typer(
    help="Move a tenant to another cell without stopping its events.", no_args_is_help=True, add_completion=False
)


@app.callback()
def group() -> None:
    """Make `move` a command of its own, though it is the only one."""


@app.command()
def move(
    tenant: Annotated[str, typer.Argument(callback=common.text, help="The tenant.")],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="The database of the cell that it moves to.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be copied, and how long.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Give up a move that has not switched yet.")] = False,
    as_json: common.Json = False,
) -> None:
    """Move a tenant from the cell of the settings to another one; run it again to continue a move that was interrupted.

    The workers of both cells go on. For some seconds the tenant's new events wait; nothing is lost.
    """
    settings = common.load()
    if dry_run and undo:
        raise typer.BadParameter("--dry-run and --undo exclude each other")
    if dry_run:
        found = common.run(tenant_move.estimate(settings, to, tenant))
        if as_json:
            common.show_json(found)
            return
        common.show([structs.asdict(size) for size in found.tables if size.rows], as_json=False, empty="no rows")
        total = f"{found.rows:,} rows, {found.bytes:,} bytes, about {found.seconds:g} s to copy"
        waiting = f"new events would wait for about {found.waiting_seconds:g} s"
        common.say(f"{total}; {waiting}; nothing was changed: this was a dry run")
        return
    common.run(tenant_move.move(settings, to, tenant, common.remark, undo=undo))
    sentence = f"{printable(tenant)} stays where it was" if undo else f"moved {printable(tenant)}"
    common.report({"tenant_id": tenant, "moved": not undo}, sentence, as_json=as_json)
