"""The command line: the list of commands, and an exit code for every end.

A command's module is imported only when the command is run, so that `--help` is instant.
"""

import importlib
import signal
import sys
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

import typer
from typer import core

import goalworker
from goalworker import errors
from goalworker.cli import last_words, streams

COMMANDS: Final = {
    "run": "Run the worker.",
    "api": "Serve the HTTP API.",
    "insight": "Keep events and count values, for explanations and plans.",
    "demo": "Run a complete demo on this machine and check its results.",
    "doctor": "Find configuration problems and show how to fix them.",
    "db": "Upgrade or inspect the database schema.",
    "topics": "Create and look at the topics; resume one that was paused; skip a record.",
    "cells": "Show this cell's tenants, or check that every tenant belongs to exactly one cell.",
    "tenants": "Move a tenant to another cell without stopping its events.",
    "goals": "Work with goals from the shell.",
    "keys": "Create, list and revoke API keys.",
    "check-event": "Decode a message and show its faults or matching goals.",
    "dlq": "Look at dead letters, send them again, delete them.",
    "lag": "Show the consumer lag of each partition.",
    "outbox": "Look at the messages that are still to be published.",
    "config": "Show the settings.",
    "schema": "Export JSON Schemas, AsyncAPI and OpenAPI to a folder.",
}


class _LateGroup(core.TyperGroup):
    """Group of commands, each of which is imported when it is run."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        # A service that gets SIGTERM while its module is imported ends with exit code 0.
        if name in last_words.SERVICES:
            signal.signal(signal.SIGTERM, _stopped_early)
        return name, command and load(command.name or ""), rest


def load(name: str) -> Any:
    """Import a command's module and return what it defines."""
    module = importlib.import_module(f"goalworker.cli.{name.replace('-', '_')}")
    return typer.main.get_command(module.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(goalworker.__version__)
        raise typer.Exit


def _command_line() -> Any:
    line = typer.Typer(
        cls=_LateGroup,
        help="Notices when an enrolled contact meets a workflow's goal, and tells the engine to stop.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @line.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
        ] = False,
    ) -> None: ...

    for name, summary in COMMANDS.items():
        line.command(name, help=summary)(_listed)
    return typer.main.get_command(line)


def _listed() -> None:
    """Represent a command in `--help` without importing its module."""


def main() -> NoReturn:
    """Run the command line and exit as the contract says (section 6, exit codes)."""
    sys.excepthook = last_words.report_bug
    streams.guard()
    sys.exit(_exit_code(sys.argv[1:]))


def _exit_code(words: list[str]) -> int:
    """Run the command line, say why it failed if it did, and return the exit code."""
    try:
        return _run(words)
    except errors.GoalworkerError as error:
        sentence, exit_code = str(error), error.exit_code
    except _WordsError as error:
        sentence, exit_code = error.format_message(), error.exit_code
    except typer.Abort:
        sentence, exit_code = "aborted, nothing was changed", 1
    except KeyboardInterrupt:
        sentence, exit_code = "", 130
    if sentence:
        last_words.say(sentence, exit_code)
    return exit_code


def _run(words: list[str]) -> int:
    try:
        # In its standalone mode, typer ends the process itself, and frames what is wrong with the words.
        return _command_line()(prog_name="goalworker", standalone_mode=not last_words.is_log_json(words)) or 0
    finally:
        sys.stdout.flush()


# Any mistake in the words of a command, such as a file that cannot be read. typer keeps this class in a private module.
_WordsError: Final[Any] = typer.BadParameter.__mro__[2]


def _stopped_early(_number: int, _frame: FrameType | None) -> NoReturn:
    """End while modules are still being imported; later SIGTERM is the event loop's."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main()
