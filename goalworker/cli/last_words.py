"""Last words of a process: why it ends, as a sentence for a person or as a line of JSON for a program.

`goalworker.logs` is imported late, so that a command that ends well, such as `--help`, starts at once.
"""

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Final

import goalworker

# Commands that run until a signal stops them, and whose stderr is a log.
SERVICES: Final = ("run", "api", "insight")


def say(sentence: str, exit_code: int) -> None:
    """Write why this process ends."""
    from goalworker import logs

    if _are_json():
        logs.get("main").error("ended", error=sentence, exit_code=exit_code)
    else:
        sys.stderr.write(f"goalworker: {sentence}\n")


def report_bug(_kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
    """Write a bug's traceback, as `sys.excepthook`, without the rows that messages of the database quote."""
    from goalworker import logs

    if _are_json():
        logs.get("main").critical("ended", error="this is a bug, please report it", exit_code=1, exc_info=error)
    else:
        sys.stderr.write(f"goalworker: this is a bug, please report it:\n{logs.format_error(error)}\n")


def is_log_json(words: Sequence[str]) -> bool:
    """Guess whether this process logs JSON, from its words and environment, as the settings are not read yet."""
    chosen = os.environ.get("GOALWORKER_LOG__FORMAT", "").lower()
    return chosen == "json" or (_is_service(words) and chosen != "console" and not sys.stderr.isatty())


def _is_service(words: Sequence[str]) -> bool:
    return next(iter(words), None) in SERVICES


def _are_json() -> bool:
    from goalworker import logs

    words = sys.argv[1:]
    if not logs.is_configured() and is_log_json(words):
        logs.configure("info", "json", goalworker.__version__)
    # A person reads how a command ends, also off a terminal: that is JSON only if the settings say so.
    return logs.is_json(asked_for=not _is_service(words))
