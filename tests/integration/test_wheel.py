"""Content of the built wheel, and its commands where nothing else of goalworker is installed."""

import dataclasses
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.kit import worker_process

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=120)
    (built,) = folder.glob("goalworker-*.whl")
    return built


@pytest.fixture(scope="module")
def carried(wheel: Path) -> set[str]:
    """Return the files in the wheel."""
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


def test_a_wheel_contains_the_pages_of_the_console_and_their_files(carried: set[str]) -> None:
    folders = [ROOT / "goalworker/console" / name for name in ("templates", "static")]
    wanted = {path.relative_to(ROOT).as_posix() for folder in folders for path in folder.iterdir()}
    assert "goalworker/console/static/htmx.LICENSE" in wanted
    assert wanted <= carried


@pytest.fixture
def python(wheel: Path, tmp_path: Path) -> Path:
    """Install the wheel into an empty environment, and lend it the dependencies of this one."""
    venv.create(tmp_path / "venv", symlinks=True)
    made = tmp_path / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(made), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, timeout=120)
    (packages,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return made


async def test_a_wheel_alone_migrates_a_database_and_runs_every_service(
    python: Path, bootstrap_servers: str, postgres_url: str, tmp_path: Path
) -> None:
    with worker_process.installation(bootstrap_servers, postgres_url, "template0", tmp_path) as made:
        installed = dataclasses.replace(made, python=str(python))

        def done(*words: str) -> str:
            return subprocess.run(
                words, cwd=tmp_path, env=installed.environment(), check=True, capture_output=True, text=True, timeout=60
            ).stdout

        where = done(str(python), "-c", "import goalworker; print(goalworker.__file__)")
        assert Path(where).is_relative_to(tmp_path)
        goalworker = str(python.with_name("goalworker"))
        assert "Usage: goalworker" in done(goalworker, "--help")
        done(goalworker, "db", "upgrade")
        for command, event in (("run", "worker_ready"), ("api", "api_ready"), ("insight", "insight_ready")):
            async with worker_process.stopping(installed.launch(command, API__PORT=0)) as process:
                await process.said(event)
