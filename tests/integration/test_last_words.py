"""Output of a process from its first to its last line: JSON throughout where it logs JSON, and sentences otherwise."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.kit import shells
from tests.kit.forker import Outcome, inherited
from tests.kit.shells import Shell

JSON = {"GOALWORKER_LOG__FORMAT": "json"}


def lines(outcome: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in outcome.err.splitlines()]


@pytest.mark.parametrize("words", [("run",), ("api",), ("insight",)], ids=" ".join)
@pytest.mark.parametrize(
    ("settings", "code"),
    [({"GOALWORKER_KAFKA__GRUOP_ID": "x"}, 3), (shells.NOWHERE, 4)],
    ids=["a wrong setting", "nothing answers"],
)
def test_a_service_that_cannot_start_ends_with_a_line_of_json(
    words: tuple[str, ...], settings: dict[str, str], code: int, shell: Shell
) -> None:
    outcome = shell.set({**settings, "GOALWORKER_OPS__PORT": "0"})(*words)
    last = lines(outcome)[-1]
    assert (outcome.code, outcome.out) == (code, ""), outcome
    assert (last["event"], last["level"], last["exit_code"]) == ("ended", "error", code)
    assert list(last)[:5] == ["timestamp", "level", "event", "logger", "version"]
    assert last["error"]


def test_several_wrong_settings_are_one_line(shell: Shell) -> None:
    outcome = shell("run", GOALWORKER_KAFKA__GROUP="x", GOALWORKER_BATCH__MAX_RECORDS="0")
    (last,) = lines(outcome)
    assert (last["exit_code"], last["error"].count("\n")) == (3, 2)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (("run", "--bogus"), {}),
        (("run", "--reset-offsets", "yesterday"), {}),
        (("api", "--port", "x"), {}),
        (("topics", "--bogus"), JSON),
        (("rnu",), JSON),
    ],
    ids=str,
)
def test_wrong_usage_is_a_line_of_json_too(words: tuple[str, ...], settings: dict[str, str], shell: Shell) -> None:
    (last,) = lines(shell.set(settings)(*words))
    assert (last["event"], last["exit_code"]) == ("ended", 2)


def test_a_command_ends_with_a_sentence_unless_json_is_configured(shell: Shell) -> None:
    nowhere = shell.set(shells.NOWHERE)
    assert nowhere("topics", "list").err.startswith("goalworker: Kafka at ")
    assert nowhere.set(JSON)("topics", "list").err.startswith('{"timestamp"')
    plain = nowhere("run", GOALWORKER_LOG__FORMAT="console", GOALWORKER_OPS__PORT="0")
    assert plain.err.splitlines()[-1].startswith("goalworker: ")


def test_off_a_terminal_a_command_logs_json_and_ends_with_a_sentence(shell: Shell) -> None:
    nowhere = shell.set({**shells.NOWHERE, "GOALWORKER_SERVICE_PORT": "80"})
    outcome = nowhere("topics", "list", GOALWORKER_SERVICE_HOST="10.0.0.1")
    *logged, last = outcome.err.splitlines()
    assert {json.loads(line)["event"] for line in logged} == {"setting_ignored"}
    assert last.startswith("goalworker: Kafka at ")
    (shell.folder / ".env").write_text("GOALWORKER_LOG__FORMAT=json\n")
    assert lines(nowhere("topics", "list", GOALWORKER_SERVICE_HOST="10.0.0.1"))[-1]["exit_code"] == 4


BUG = (
    "import sys; sys.argv = ['goalworker', 'run']; from goalworker import __main__; "
    "from goalworker.runtime import worker_service; worker_service.run_worker = {}; {}"
)


@pytest.mark.parametrize("fault", ["lambda *_, **__: 1 / 0"])
def test_a_bug_is_one_line_of_json_with_its_traceback(fault: str, shell: Shell) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", BUG.format(fault, "__main__.main()")],
        cwd=shell.folder,
        env={**inherited(), **JSON},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (last,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (ended.returncode, last["exit_code"], last["level"]) == (1, 1, "critical")
    assert last["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_port_chosen_by_the_system_is_logged(with_database: Shell) -> None:
    shell = with_database.set({"GOALWORKER_OPS__PORT": "0", "GOALWORKER_API__PORT": "0"})
    said: dict[str, dict[str, Any]] = {}
    with shell.started("api", "--insecure-tenant", "acme") as process:
        assert process.stderr is not None
        while "api_ready" not in said:
            line = json.loads(process.stderr.readline())
            said[line["event"]] = line
        for event, path in (("ops_listening", "/healthz/live"), ("api_ready", "/openapi.json")):
            url = f"http://{said[event]['host']}:{said[event]['port']}{path}"
            assert httpx.get(url, trust_env=False, timeout=20).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_at_a_terminal_the_first_line_names_the_sources_of_settings(shell: Shell) -> None:
    (shell.folder / ".env").write_text("GOALWORKER_LOG__LEVEL=info\n")
    ours, its = os.openpty()
    try:
        environment = {**inherited(), **shells.NOWHERE, "GOALWORKER_OPS__PORT": "0"}
        command = [sys.executable, "-m", "goalworker", "run"]
        with subprocess.Popen(command, cwd=shell.folder, env=environment, stderr=its, stdin=its) as process:
            assert process.wait(60) == 4
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(its)
    starting, *_, last = shown.splitlines()
    assert "3 from environment, 1 from .env, " in starting
    assert "goalworker config show" in starting
    assert "GOALWORKER_BATCH__MAX_RECORDS" not in shown
    assert last.startswith("goalworker: the database at ")
