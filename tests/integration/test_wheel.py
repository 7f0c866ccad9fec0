"""What is built to be installed."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_wheel_carries_every_migration_so_that_an_installed_package_can_migrate(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("goalworker-*.whl")
    carried = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "migrations").rglob("*") if path.is_file()}
    wanted = {f"goalworker/{path}" for path in files if "__pycache__" not in path}
    assert wanted
    assert wanted <= carried
