"""Log lines on stderr, ours and those of libraries: one per occurrence, without payloads, secrets or rows."""

import logging
import os
import re
import sys
import textwrap
import threading
import traceback
from typing import Any, Final, Literal

import structlog
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor

from goalworker import log_repeats

FIRST_KEYS: Final = ("timestamp", "level", "event", "logger", "version")
# Below warning, these libraries repeat our own lines, or write one for every request.
QUIET_LOGGERS: Final = ("aiokafka", "alembic", "asyncio", "httpx", "httpcore", "sqlalchemy", "uvicorn")
# By the first part of a logger's name, the dependency whose outage the library reports again and again.
_FAMILIES: Final = {"aiokafka": "broker", "asyncpg": "database", "sqlalchemy": "database"}

REPEATS: Final = log_repeats.RepeatLimiter()


def configure(level: str, format: Literal["json", "console"] | None, version: str) -> None:
    """Render our lines and those of libraries alike; without a format, as JSON unless stderr is a terminal."""
    terminal = sys.stderr.isatty()
    console = format == "console" or (format is None and terminal)
    handler = logging.StreamHandler(sys.stderr)
    formatter = _formatter(version, console, colours=terminal and not os.environ.get("NO_COLOR"))
    if isinstance(formatter, _JsonFormatter):
        formatter.was_asked_for = format == "json"
    handler.setFormatter(formatter)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    if threshold > logging.DEBUG:
        handler.addFilter(_admit)
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    for name in QUIET_LOGGERS:
        quiet = logging.getLogger(name)
        quiet.setLevel(max(threshold, logging.WARNING))
        quiet.propagate = True  # one of our commands may have silenced it
    structlog.configure(
        processors=[*_common_processors(version), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def is_configured() -> bool:
    """Say whether configure() was called."""
    return any(
        isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter) for handler in logging.getLogger().handlers
    )


def is_json(*, asked_for: bool = False) -> bool:
    """Say whether our lines go to stderr as JSON; asked_for: because of the settings, not for want of a terminal."""
    return any(
        isinstance(handler, logging.StreamHandler)
        and handler.stream is sys.stderr
        and isinstance(handler.formatter, _JsonFormatter)
        and (handler.formatter.was_asked_for or not asked_for)
        for handler in logging.getLogger().handlers
    )


def take_over_interpreter() -> None:
    """Log what Python itself would print: warnings, and errors of threads and finalizers."""
    take_over_warnings()
    threading.excepthook = lambda args: _log_unhandled("thread_failed", args.exc_value)


def take_over_warnings() -> None:
    """Log Python's warnings, and errors of finalizers; errors of threads are left to their owner."""
    logging.captureWarnings(True)
    sys.unraisablehook = lambda args: _log_unhandled("error_ignored", args.exc_value)


def _log_unhandled(event: str, error: BaseException | None) -> None:
    get("python").error(event, exc_info=error or True)


def limit_repeats(family: str, shape: str) -> dict[str, int] | None:
    """Return the field with the number of lines like this one that were held back; None: hold this one back too."""
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        return {}
    held = REPEATS.admit(family, shape)
    return None if held is None else {"held_back": held} if held else {}


def get(name: str) -> FilteringBoundLogger:
    """Return the logger of a module; its lines include the variables bound by `structlog.contextvars`."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def _formatter(version: str, console: bool, colours: bool) -> logging.Formatter:
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=colours) if console else structlog.processors.JSONRenderer()
    )
    kind = structlog.stdlib.ProcessorFormatter if console else _JsonFormatter
    return kind(
        foreign_pre_chain=[*_common_processors(version), _adjust_library_line],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(_format_exception),
            _order_keys,
            renderer,
        ],
    )


class _JsonFormatter(structlog.stdlib.ProcessorFormatter):
    """Formatter of JSON lines; was_asked_for if the settings ask for JSON."""

    was_asked_for = False


def _admit(record: logging.LogRecord) -> bool:
    """Hold back a library's line that repeats one of the last minute, and count it (contract section 6)."""
    family = _family(record)
    if family is None:
        return True
    held = REPEATS.admit(family, f"{record.name} {_shape(str(record.msg))}")
    vars(record)[_HELD_BACK] = held
    return held is not None


def _family(record: logging.LogRecord) -> str | None:
    """Return the dependency that a library's line is about; for asyncio's, the library that raised the error counts."""
    origin = record.name.partition(".")[0]
    if origin == "asyncio" and record.exc_info and record.exc_info[2]:
        *_, (frame, _) = traceback.walk_tb(record.exc_info[2])
        origin = frame.f_globals.get("__name__", "").partition(".")[0]
    return _FAMILIES.get(origin)


_HELD_BACK: Final = "goalworker_held_back"


def _shape(message: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "#", message)


def _adjust_library_line(_logger: object, _method: str, event: EventDict) -> EventDict:
    record: Any = event["_record"]
    if held := vars(record).get(_HELD_BACK):
        event["held_back"] = held
    if event["level"] == "error" and _family(record) is not None:
        event["level"] = "warning"  # libraries retry; we log the error that matters
    return event


def _common_processors(version: str) -> list[Processor]:
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


def _order_keys(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {**{key: event[key] for key in FIRST_KEYS}, **event}


def _format_exception(exc_info: ExcInfo) -> str:
    return format_error(exc_info[1])


def summarize_error(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    return f"{_name(error)}: {_first_line(error)}"


def format_error(error: BaseException, seen: frozenset[int] = frozenset()) -> str:
    """Return a traceback without local variables, and with only the first line of each message.

    In the other lines PostgreSQL quotes rows.
    """
    seen |= {id(error)}
    parts = [*traceback.format_tb(error.__traceback__), summarize_error(error)]
    origin = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if origin is not None and id(origin) not in seen:
        parts = [format_error(origin, seen), "\n\nwhich led to\n\n", *parts]
    if isinstance(error, BaseExceptionGroup):
        parts += [f"\n{textwrap.indent(format_error(part, seen), '  | ')}" for part in error.exceptions]
    return "".join(parts)


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def _first_line(error: BaseException) -> str:
    # Errors of SQLSTATE class 22, from the driver or wrapped by SQLAlchemy, quote the refused value.
    sqlstate = getattr(getattr(error, "orig", None) or error, "sqlstate", None) or ""
    if sqlstate.startswith("22"):
        return f"a value was refused (SQLSTATE {sqlstate})"
    return str(error).strip().partition("\n")[0]
