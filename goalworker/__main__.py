"""The command line: which commands there are, and what becomes of errors.

A command's module is imported when it is run and not before, so that `--help` is instant.
"""

import importlib
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Annotated, Any, Final, NoReturn

import typer
from typer import core

import goalworker
from goalworker import errors
from goalworker.cli import streams

COMMANDS: Final = {
    "run": "Run the worker.",
    "api": "Serve the HTTP API.",
    "demo": "Show it at work: a real Kafka, a real PostgreSQL, traffic, and a check of the result.",
    "doctor": "Look at everything the worker needs, and say what to do where something is amiss.",
    "db": "Bring the database's schema up to date, or look at it.",
    "topics": "Create and look at the topics; resume one that was paused; skip a record.",
    "goals": "Work with goals from the shell.",
    "keys": "Make, list and revoke API keys.",
    "check-event": "Decode one message as the worker would: what is wrong with it, or which goals it hits.",
    "dlq": "Look at dead letters, send them again, delete them.",
    "lag": "How far the worker is behind, by topic and partition.",
    "outbox": "Look at the messages that are still to be published.",
    "config": "Show the settings.",
    "schema": "Write down what goes in and out, for others to build against.",
}


# They run until they are told to stop: that is no failure, from the moment at which they are known to be meant.
SERVICES: Final = ("run", "api")


class _LateGroup(core.TyperGroup):
    """Lists commands without importing them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name in SERVICES:
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
    """Stand in for a command in the list; the real one takes its place before it is run."""


def main() -> NoReturn:
    """Run the command line and exit as the contract says (section 6, exit codes)."""
    sys.excepthook = _unforeseen
    is_json = _logs_are_json(sys.argv[1:])
    exit_code = 0
    streams.guard()
    try:
        try:
            # Otherwise the library prints what is wrong with the words by itself, in a frame.
            exit_code = _command_line()(prog_name="goalworker", standalone_mode=not is_json) or 0
        finally:
            sys.stdout.flush()
    except errors.GoalworkerError as error:
        exit_code = error.exit_code
        if sentence := str(error):
            _end(sentence, exit_code)
    except _UsageError as error:
        exit_code = error.exit_code
        _end(error.format_message(), exit_code)
    except KeyboardInterrupt:
        exit_code = 130
    sys.exit(exit_code)


# typer keeps it in a module of its own that is private; the parent of what it does export has an exit code.
_UsageError: Final[Any] = typer.BadParameter.__mro__[2]


def _logs_are_json(words: list[str]) -> bool:
    """Say whether what this process logs is JSON, as far as that can be told before the settings are read."""
    chosen = os.environ.get("GOALWORKER_LOG__FORMAT", "").lower()
    return chosen == "json" or (_is_service(words) and chosen != "console" and not sys.stderr.isatty())


def _is_service(words: list[str]) -> bool:
    return next(iter(words), None) in SERVICES


def _end(sentence: str, exit_code: int) -> None:
    """Say why this process ends: as a line of the log where a program reads those, otherwise for a person."""
    from goalworker import logs

    if not _ends_in_json():
        sys.stderr.write(f"goalworker: {sentence}\n")
        return
    logs.get("main").error("ended", error=sentence, exit_code=exit_code)


def _ends_in_json() -> bool:
    from goalworker import logs

    if not logs.is_configured() and _logs_are_json(sys.argv[1:]):
        logs.configure("info", "json", goalworker.__version__)
    # Whoever types a command reads the sentence that it ends with, wherever that goes.
    return logs.is_json(asked_for=not _is_service(sys.argv[1:]))


def _stopped_early(_number: int, _frame: FrameType | None) -> NoReturn:
    """End while modules are still being imported; later SIGTERM is the event loop's."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def _unforeseen(_kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    """Print a bug's traceback, without the rows and values that messages of the database quote; Python exits with 1."""
    from goalworker import logs

    if _ends_in_json():
        logs.get("main").critical("ended", error="this is a bug, please report it", exit_code=1, exc_info=error)
    else:
        sys.stderr.write(f"goalworker: this is a bug, please report it:\n{logs.described(error)}\n")


if __name__ == "__main__":
    main()
