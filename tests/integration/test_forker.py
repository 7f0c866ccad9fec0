"""Processes that are forked end, log and are measured as processes of their own do."""

import os
import signal
from pathlib import Path

import pytest

from tests.kit import measuring
from tests.kit.forker import Forker, inherited


def _script(folder: Path, code: str) -> str:
    file = folder / "script.py"
    file.write_text(code)
    return str(file)


def test_a_forked_command_logs_in_its_file_and_ends_with_its_code(forker: Forker, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    assert forker.start(["docotr"], inherited(), tmp_path, log).wait(60) == 2
    assert log.read_text().startswith("before\n")
    assert "docotr" in log.read_text()


def test_a_forked_process_can_be_killed_while_another_one_runs(forker: Forker, tmp_path: Path) -> None:
    script = _script(tmp_path, "import signal\nsignal.pause()")
    one, two = (forker.start([], inherited(), tmp_path, tmp_path / "log", script) for _ in range(2))
    one.kill()
    assert one.wait(60) == -signal.SIGKILL
    assert two.poll() is None
    with pytest.raises(TimeoutError):
        two.wait(0.01)
    assert forker(["--version"], {}).code == 0
    two.send_signal(signal.SIGTERM)
    assert two.wait(60) == -signal.SIGTERM


def test_a_forked_process_is_measured_only_if_the_test_is(forker: Forker, tmp_path: Path) -> None:
    script = _script(tmp_path, "import sys\nprint(sys.gettrace())\nsys.exit(0)")
    log = tmp_path / "log"
    with measuring.switched_off():
        assert measuring.VARIABLE not in inherited()
        assert forker.start([], inherited(), tmp_path, log, script).wait(60) == 0
    assert log.read_text() == "None\n"
    assert (measuring.VARIABLE in inherited()) is (measuring.VARIABLE in os.environ)
