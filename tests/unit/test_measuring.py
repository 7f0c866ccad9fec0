"""A test's share of coverage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import measuring

ROOT = Path(__file__).parents[2]
SCRIPT = f"""
import contextlib, os, sys
import coverage
from tests.kit import measuring

def before(): pass
def within(): pass
def after(): pass

os.environ["{measuring.VARIABLE}"] = "as it was"
found = coverage.Coverage(data_file=None, config_file=False, include=[__file__], messages=False)
found.set_option("run:disable_warnings", ["already-imported"])
found.start()
before()
with {{block}}:
    within()
    started = "{measuring.VARIABLE}" in os.environ
after()
found.stop()
lines = found.get_data().lines(__file__)
reached = [each.__name__ for each in (before, within, after) if each.__code__.co_firstlineno in lines]
print(*reached, started, os.environ["{measuring.VARIABLE}"])
"""


@pytest.mark.parametrize(
    ("block", "printed"),
    [
        ("contextlib.nullcontext()", "before within after True as it was"),
        ("measuring.paused()", "before after True as it was"),
        ("measuring.switched_off()", "before after False as it was"),
    ],
)
def test_a_test_and_its_processes_can_be_left_out(block: str, printed: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("{block}", block))
    others = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment = others | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == (f"{printed}\n", "")


def test_without_coverage_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(measuring.VARIABLE, raising=False)
    with measuring.switched_off():
        assert measuring.VARIABLE not in os.environ
    assert measuring.VARIABLE not in os.environ
