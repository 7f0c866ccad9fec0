"""The command line without anything to talk to: what it lists, how it prints, what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import click
import pytest
import typer

from goalworker import __main__
from goalworker.admin import findings
from goalworker.cli import common
from tests.kit import every_command


@pytest.mark.parametrize("name", __main__.COMMANDS)
def test_every_command_that_is_listed_is_there_and_says_what_it_does(name: str) -> None:
    command = __main__.load(name)
    assert command.help
    for part in getattr(command, "commands", {}).values():
        assert part.help, part.name


def _leaves() -> Iterator[tuple[str, click.Command]]:
    for name in __main__.COMMANDS:
        command = __main__.load(name)
        parts = getattr(command, "commands", None)
        yield from ((f"{name} {part}", leaf) for part, leaf in parts.items()) if parts else [(name, command)]


# What these print is a log, or a picture that changes.
WITHOUT_JSON = {"run", "api", "insight", "demo"}


@pytest.mark.parametrize(("name", "command"), [leaf for leaf in _leaves() if leaf[0] not in WITHOUT_JSON])
def test_every_command_that_prints_an_answer_prints_it_as_json_too(name: str, command: click.Command) -> None:
    assert [option for option in command.params if "--json" in option.opts], f"{name} has no --json"


@pytest.mark.parametrize(
    ("words", "offered"),
    [("go", {"goals"}), ("goals se", {"set-logic"}), ("topics create --pa", {"--partitions"})],
)
def test_a_shell_completes_commands_and_options(words: str, offered: set[str]) -> None:
    variables = {"COMP_WORDS": f"goalworker {words}", "COMP_CWORD": str(words.count(" ") + 1)}
    asked = [sys.executable, "-c", "from goalworker import __main__; __main__.main()"]
    environment = {**os.environ, **variables, "_GOALWORKER_COMPLETE": "complete_bash"}
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered


def test_the_completion_of_a_shell_can_be_shown() -> None:
    asked = ["bash", "-c", f"{sys.executable} -m goalworker --show-completion; exit $?"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert "complete -o default -F" in done.stdout


def test_a_table_is_aligned_and_says_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 5, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    rows = [
        {"topic": "a", "is_paused": True, "paused_at": moment},
        {"topic": "longer", "is_paused": False, "paused_at": None},
    ]
    common.show(rows, as_json=False, empty="nothing")
    assert capsys.readouterr().out.splitlines() == [
        "TOPIC   IS PAUSED  PAUSED AT",
        "a       yes        2026-05-01T12:00:00Z",
        "longer  no         -",
    ]


def test_an_empty_table_is_a_sentence_and_empty_json_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    common.show([], as_json=False, empty="nothing is pending")
    common.show([], as_json=True, empty="nothing is pending")
    assert capsys.readouterr().out == "nothing is pending\n[]\n"


def test_json_keeps_what_a_table_spells_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"message": "bell \a, größer", "at": datetime(2026, 5, 1, tzinfo=UTC)}]
    common.show(rows, as_json=False, empty="")
    assert "bell \\x07, größer" in capsys.readouterr().out
    common.show(rows, as_json=True, empty="")
    assert json.loads(capsys.readouterr().out) == [{"message": "bell \a, größer", "at": "2026-05-01T00:00:00Z"}]


def test_of_an_error_only_the_first_line_is_shown() -> None:
    assert findings.first_line(ValueError("no such role.\nDETAIL: a row's content")) == "no such role"
    assert findings.first_line(TimeoutError()) == "TimeoutError"


def test_a_moment_is_a_time_with_an_offset_or_so_long_ago() -> None:
    assert common.moment("2026-05-01T12:00:00+02:00") == datetime(2026, 5, 1, 10, tzinfo=UTC)
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert abs(common.moment("PT1H") - an_hour_ago) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["2026-05-01T12:00:00", "yesterday", "P", "PT1X", ""])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="must be a time such as"):
        common.moment(text)


def test_every_command_has_a_use_with_which_refusals_are_tested() -> None:
    assert sorted(every_command.names()) == sorted(every_command.USES)
