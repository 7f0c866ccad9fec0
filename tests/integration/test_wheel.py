"""Content of the built wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=120)
    (wheel,) = folder.glob("goalworker-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def test_a_wheel_contains_every_migration(carried: set[str]) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "migrations").rglob("*") if path.is_file()}
    wanted = {f"goalworker/{path}" for path in files if "__pycache__" not in path}
    assert wanted
    assert wanted <= carried


def test_a_wheel_contains_the_page_of_the_api_with_its_licences(carried: set[str]) -> None:
    folder = ROOT / "goalworker/api/docs_files"
    wanted = {path.relative_to(ROOT).as_posix() for path in folder.iterdir()}
    assert len(wanted) == 10
    assert wanted <= carried
