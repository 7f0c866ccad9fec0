"""The systemd units are valid, hardened, and consistent with the rest of the repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from goalworker import errors
from tests.deploy import command_line, tools
from tests.kit import worker_process

pytestmark = pytest.mark.deploy

UNITS = sorted((tools.DEPLOY / "systemd").glob("*.service"))
COMMON = tools.DEPLOY / "systemd" / "goalworker-.service.d" / "common.conf"
INSTALLED = "/opt/goalworker/bin"
EXPOSURE_MAX = 15  # of 100; a unit that needs the network can hardly score below 12

each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
each_that_stays = pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.stem != "goalworker-migrate"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Install the units as an administrator does, with the programs where they are on this machine."""
    shutil.copytree(tools.DEPLOY / "systemd", tmp_path / "system")
    for unit in (tmp_path / "system").glob("*.service"):
        unit.write_text(unit.read_text().replace(INSTALLED, str(Path(sys.executable).parent)))
    return tmp_path / "system"


@each_unit
def test_systemd_takes_the_unit_without_a_word(folder: Path, unit: Path) -> None:
    said = _analyze(folder, "verify", "--recursive-errors=no", "--man=no", str(folder / unit.name))
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


@each_unit
def test_the_unit_may_next_to_nothing(folder: Path, unit: Path) -> None:
    said = _analyze(folder, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", str(folder / unit.name))
    assert said.returncode == 0, said.stdout + said.stderr


def test_without_what_all_units_share_they_may_too_much(folder: Path) -> None:
    shutil.rmtree(folder / COMMON.parent.name)
    unit = str(folder / "goalworker-worker.service")
    assert _analyze(folder, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", unit).returncode != 0


@each_unit
def test_the_unit_s_command_exists(unit: Path) -> None:
    program, *words = _settings(unit)["ExecStart"][0].split()
    assert program == f"{INSTALLED}/goalworker"
    command_line.assert_taken(words)


@each_that_stays
def test_it_is_started_again_for_ever_but_not_where_that_changes_nothing(unit: Path) -> None:
    settings = _settings(unit)
    usage = 2
    assert settings["Restart"] == ["on-failure"]
    assert settings["StartLimitIntervalSec"] == ["0"]
    assert settings["RestartPreventExitStatus"] == [f"{usage} {errors.SettingsError.exit_code}"]


@each_that_stays
def test_it_has_more_time_to_stop_than_it_takes(unit: Path) -> None:
    assert int(_settings(unit)["TimeoutStopSec"][0]) > worker_process.STOP_SECONDS


def test_addresses_and_passwords_come_from_files_of_root_s() -> None:
    files = ["/etc/goalworker/goalworker.env", "-/etc/goalworker/%N.env"]
    assert _settings(COMMON)["EnvironmentFile"] == files
    assert _settings(COMMON)["Environment"] == ["PYTHONDONTWRITEBYTECODE=1"]
    assert [unit for unit in UNITS if "Environment" in unit.read_text()] == []


def _settings(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", file.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def _analyze(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # The trailing colon: this machine's own units are found too, such as network-online.target.
    environment = {"PATH": os.defpath, "SYSTEMD_UNIT_PATH": f"{folder}:", "LC_ALL": "C"}
    command = [tools.system_tool("systemd-analyze", "systemd"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
