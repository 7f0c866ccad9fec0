"""A log line has the same keys whichever library writes it, and never contains a row."""

import contextlib
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
import structlog

from goalworker import log_repeats, logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.QUIET_LOGGERS}
    # Out of basicConfig's reach, which closes what it finds.
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name, former in levels.items():
        logging.getLogger(name).setLevel(former)
    structlog.reset_defaults()


def configured(level: str = "info", form: Any = None, stream: io.StringIO | None = None) -> io.StringIO:
    """Configure logging to a stream, by default to one that is not a terminal."""
    stream = stream or io.StringIO()
    with contextlib.redirect_stderr(stream):
        logs.configure(level, form, "1.2.3")
    return stream


def fail() -> None:
    payload = "the payload"
    raise ValueError(f"duplicate key\nDETAIL:  Key (contact_id)=({payload}) already exists")


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    fields: dict[str, Any] = json.loads(line)
    return fields


def test_off_a_terminal_a_line_is_json_with_the_five_keys_first() -> None:
    stderr = configured()
    logs.get("goalworker.worker").info("batch_done", records=2000, topic="tag-added")
    line = only_line(stderr)
    assert list(line) == ["timestamp", "level", "event", "logger", "version", "records", "topic"]
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() == timedelta(0)
    assert line == {
        "level": "info",
        "event": "batch_done",
        "logger": "goalworker.worker",
        "version": "1.2.3",
        "records": 2000,
        "topic": "tag-added",
    }


def test_what_the_libraries_log_looks_the_same() -> None:
    stderr = configured()
    logging.getLogger("multipart.runtime.migration").info("Running %s", "0001", extra={"color_message": "no"})
    line = only_line(stderr)
    assert (line["level"], line["event"], line["logger"]) == ("info", "Running 0001", "multipart.runtime.migration")
    assert list(line) == ["timestamp", "level", "event", "logger", "version"]


@pytest.mark.parametrize("name", ["aiokafka.consumer.fetcher", "uvicorn.error", "httpx", "sqlalchemy.engine"])
def test_chatty_libraries_are_heard_from_warning_on(name: str) -> None:
    stderr = configured("debug")
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("trouble")
    assert only_line(stderr)["event"] == "trouble"


def test_the_level_holds_for_everybody() -> None:
    stderr = configured("error")
    logs.get("goalworker").warning("ours")
    logging.getLogger("aiokafka").warning("theirs")
    assert stderr.getvalue() == ""


def test_what_is_bound_to_the_context_is_on_the_line() -> None:
    stderr = configured()
    with structlog.contextvars.bound_contextvars(tenant_id="acme"):
        logs.get("goalworker").bind(topic="tag-added").info("seen")
        logging.getLogger("multipart").info("seen too")
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert (lines[0]["tenant_id"], lines[0]["topic"], lines[1]["tenant_id"]) == ("acme", "tag-added", "acme")


def test_configuring_twice_says_everything_once() -> None:
    configured()
    stderr = configured()
    logs.get("goalworker").info("once")
    assert only_line(stderr)["event"] == "once"


@pytest.mark.parametrize("ours", [True, False])
def test_an_exception_has_its_traceback_but_no_variables_and_no_row(ours: bool) -> None:
    stderr = configured()
    try:
        fail()
    except ValueError:
        (logs.get("goalworker") if ours else logging.getLogger("multipart")).exception("failed")
    exception = only_line(stderr)["exception"]
    assert 'raise ValueError(f"duplicate key' in exception
    assert exception.endswith("ValueError: duplicate key")
    assert "the payload)" not in exception


def test_a_traceback_tells_what_led_to_what() -> None:
    try:
        try:
            fail()
        except ValueError as error:
            raise OSError("second") from error
    except OSError as error:
        told = logs.format_error(error)
    assert told.index("ValueError: duplicate key") < told.index("which led to") < told.index("OSError: second")


def test_an_error_that_leads_to_itself_is_told_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert logs.format_error(first) == "ValueError: second\n\nwhich led to\n\nValueError: first"


def test_of_a_group_each_error_is_told_without_its_rows() -> None:
    told = logs.format_error(ExceptionGroup("two", [ValueError("a\nrow"), OSError("b\nrow")]))
    assert told == "ExceptionGroup: two (2 sub-exceptions)\n  | ValueError: a\n  | OSError: b"


def test_on_a_terminal_lines_are_for_people_and_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = configured(stream=Terminal())
    logs.get("goalworker").info("hello")
    assert "\x1b[" in terminal.getvalue()
    assert "hello" in terminal.getvalue()


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = configured(stream=Terminal())
    try:
        fail()
    except ValueError:
        logs.get("goalworker").exception("hello")
    assert "\x1b[" not in terminal.getvalue()
    assert "ValueError: duplicate key\n" in terminal.getvalue()


@pytest.mark.parametrize(("form", "is_json"), [("json", True), ("console", False)])
def test_a_format_that_is_set_holds_on_a_terminal_and_off_one(form: str, is_json: bool) -> None:
    for stream in (io.StringIO(), Terminal()):
        configured(form=form, stream=stream)
        logs.get("goalworker").info("hello")
        assert stream.getvalue().startswith("{") is is_json


def test_nothing_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    stderr = configured()
    logs.get("goalworker").info("hello")
    assert capsys.readouterr().out == ""
    assert stderr.getvalue()


def test_a_value_that_the_database_refuses_is_not_quoted() -> None:
    refused = asyncpg.InvalidTextRepresentationError('invalid input syntax for type integer: "c-1"')
    assert logs.format_error(refused).endswith("InvalidTextRepresentationError: a value was refused (SQLSTATE 22P02)")


def test_an_error_in_brief_is_one_line_without_rows() -> None:
    assert (
        logs.summarize_error(ValueError("duplicate key\nDETAIL:  Key (contact_id)=(c-1)"))
        == "ValueError: duplicate key"
    )


# --- repeats of the libraries ---


@pytest.fixture
def _fresh_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "REPEATS", log_repeats.RepeatLimiter())


@pytest.mark.usefixtures("_fresh_repeats")
def test_what_a_client_says_again_and_again_is_one_line_whatever_numbers_are_in_it() -> None:
    stderr = configured()
    for node in range(5):
        logging.getLogger("aiokafka").error("Unable connect to node with id %s: %s", node, OSError(node))
        logging.getLogger("aiokafka").error(f"Heartbeat of 0x{node}f failed")
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["Unable connect to node with id 0: 0", "Heartbeat of 0x0f failed"]
    assert logs.REPEATS.held("broker") == 8


@pytest.mark.usefixtures("_fresh_repeats")
def test_what_a_client_tries_again_is_a_warning_and_not_an_error() -> None:
    stderr = configured()
    logging.getLogger("aiokafka").error("Unable to update metadata")
    assert only_line(stderr)["level"] == "warning"


@pytest.mark.usefixtures("_fresh_repeats")
def test_at_debug_a_client_says_it_all() -> None:
    stderr = configured("debug")
    for _ in range(3):
        logging.getLogger("aiokafka").error("Unable to update metadata")
        assert logs.limit_repeats("retry", "OSError") == {}
    assert len(stderr.getvalue().splitlines()) == 3


@pytest.mark.usefixtures("_fresh_repeats")
def test_a_line_of_ours_that_comes_again_says_how_many_were_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    configured()
    now = 0.0
    monkeypatch.setattr(logs, "REPEATS", log_repeats.RepeatLimiter(lambda: now))
    assert [logs.limit_repeats("retry", "OSError") for _ in range(3)] == [{}, None, None]
    now = log_repeats.WINDOW_SECONDS
    assert logs.limit_repeats("retry", "OSError") == {"held_back": 2}


# --- what Python itself would print ---


@pytest.fixture
def _interpreter() -> Iterator[None]:
    hooks = threading.excepthook, sys.unraisablehook
    logging.captureWarnings(False)  # an earlier test in this process may have run a command
    yield
    threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(False)


@pytest.mark.usefixtures("_interpreter")
def test_warnings_and_errors_of_threads_and_finalizers_are_lines_like_the_others() -> None:
    stderr = configured()
    logs.take_over_interpreter()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    sys.unraisablehook(SimpleNamespace(exc_value=OSError("finalizer")))
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["py.warnings", "python", "python"]
    assert [line["event"] for line in lines[1:]] == ["thread_failed", "error_ignored"]
    assert lines[1]["exception"].endswith("ValueError: duplicate key")
    assert lines[2]["exception"] == "OSError: finalizer"
