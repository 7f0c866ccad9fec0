"""Logs: one line per occurrence on stderr, whoever says it, never with a payload, a secret or a row's content."""

import logging
import os
import sys
import textwrap
import traceback
from typing import Final, Literal

import structlog
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor

FIRST_KEYS: Final = ("timestamp", "level", "event", "logger", "version")
# These say at info, or for every request, what our own lines already say.
QUIET_LOGGERS: Final = ("aiokafka", "alembic", "asyncio", "httpx", "httpcore", "sqlalchemy", "uvicorn")


def configure(level: str, format: Literal["json", "console"] | None, version: str) -> None:
    """Send our lines and the libraries' through one renderer; without a format, JSON off a terminal, console on one."""
    terminal = sys.stderr.isatty()
    console = format == "console" or (format is None and terminal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(version, console, colours=terminal and not os.environ.get("NO_COLOR")))
    threshold = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    for name in QUIET_LOGGERS:
        quiet = logging.getLogger(name)
        quiet.setLevel(max(threshold, logging.WARNING))
        quiet.propagate = True  # a command of ours may have silenced it
    structlog.configure(
        processors=[*_known_to_all(version), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def get(name: str) -> FilteringBoundLogger:
    """Return the logger of a module; what is bound by `structlog.contextvars` is on its lines too."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def _formatter(version: str, console: bool, colours: bool) -> logging.Formatter:
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=colours) if console else structlog.processors.JSONRenderer()
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_known_to_all(version),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(_described),
            _in_order,
            renderer,
        ],
    )


def _known_to_all(version: str) -> list[Processor]:
    def add_version(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["version"] = version
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_version,
    ]


def _in_order(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {**{key: event[key] for key in FIRST_KEYS}, **event}


def _described(exc_info: ExcInfo) -> str:
    return described(exc_info[1])


def brief(error: BaseException) -> str:
    """Return an error in a line: its type and the first line of its message."""
    return f"{_name(error)}: {_first_line(error)}"


def described(error: BaseException, seen: frozenset[int] = frozenset()) -> str:
    """Return the traceback, without local variables and with the first line of each message only.

    PostgreSQL names rows in the lines after the first.
    """
    seen |= {id(error)}
    parts = [*traceback.format_tb(error.__traceback__), brief(error)]
    origin = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if origin is not None and id(origin) not in seen:
        parts = [described(origin, seen), "\n\nwhich led to\n\n", *parts]
    if isinstance(error, BaseExceptionGroup):
        parts += [f"\n{textwrap.indent(described(each, seen), '  | ')}" for each in error.exceptions]
    return "".join(parts)


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def _first_line(error: BaseException) -> str:
    # Errors of SQLSTATE class 22, the driver's own and as SQLAlchemy wraps them, quote the value that is refused.
    sqlstate = getattr(getattr(error, "orig", None) or error, "sqlstate", None) or ""
    if sqlstate.startswith("22"):
        return f"a value was refused (SQLSTATE {sqlstate})"
    return str(error).strip().partition("\n")[0]
