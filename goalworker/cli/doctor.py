"""`goalworker doctor`: one line for each part that the worker needs, with a remedy where it fails."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final

import typer

from goalworker import config, errors
from goalworker.admin import doctor_cells, doctor_kafka, doctor_postgres, findings
from goalworker.admin.findings import State
from goalworker.cli import common
from goalworker.domain.faults import printable

app = typer.Typer(add_completion=False)

_COLOURS: Final = {State.OK: 32, State.WARN: 33, State.PROBLEM: 31}


@app.command()
def doctor(as_json: common.Json = False) -> None:
    """Check everything that the worker needs; exit with 1 if there is a problem."""
    found = common.run(_examine())
    if as_json:
        common.show_json(found)
    else:
        for finding in found:
            common.say(f"{_marked(finding.state)}  {finding.check:<10}  {printable(finding.detail)}")
    raise typer.Exit(int(any(finding.state is State.PROBLEM for finding in found)))


def _marked(state: State) -> str:
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{_COLOURS[state]}m{state:<7}\033[0m" if coloured else f"{state:<7}"


async def _examine() -> list[findings.Finding]:
    try:
        settings = common.load()
    except errors.SettingsError as error:
        lines = str(error).splitlines()
        return [findings.problem("settings", line.strip()) for line in (lines[1:] or lines)]
    return [
        *_settings(settings),
        *await _collected("broker", doctor_kafka.examine(settings)),
        *await _collected("database", doctor_postgres.examine(settings)),
        *await _of_both(doctor_cells.examine(settings)),
    ]


def _settings(settings: config.Settings) -> Iterator[findings.Finding]:
    for name in settings.ignored_names:
        yield findings.warn("settings", f"{name} is not a setting and is ignored: unset it if it is a typing error")
    yield findings.ok("settings", "valid; `goalworker config show` prints them")


async def _of_both(examined: findings.Findings) -> list[findings.Finding]:
    """Return the findings of an examination of broker and database; what cannot be reached is reported before."""
    found = []
    with contextlib.suppress(errors.GoalworkerError):
        async for finding in examined:
            found.append(finding)
    return found


async def _collected(check: str, examined: findings.Findings) -> list[findings.Finding]:
    """Return the findings of an examination; an error that ends it is the last finding."""
    found = []
    try:
        async for finding in examined:
            found.append(finding)
    except errors.GoalworkerError as error:
        found.append(findings.problem(check, error.sentence))
    return found
