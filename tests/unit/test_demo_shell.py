"""The file that a shell reads to use the demo's servers."""

import subprocess
import sys
from pathlib import Path

from goalworker.demo import runner


def _said(folder: Path, command: str, path: str) -> str:
    file = runner._write_shell_file(folder, {"KEY": "a key with $signs, 'quotes' and spaces"})
    assert file.stat().st_mode & 0o077 == 0
    words = ["/bin/sh", "-e", "-c", f". {file}; {command}"]
    return subprocess.run(words, env={"PATH": path}, check=True, capture_output=True, text=True).stdout.strip()


def test_a_shell_that_read_the_file_has_the_variables_as_they_are(tmp_path: Path) -> None:
    assert _said(tmp_path, "printenv KEY", "/usr/bin:/bin") == "a key with $signs, 'quotes' and spaces"


def test_a_shell_that_read_the_file_finds_goalworker_where_it_is_installed(tmp_path: Path) -> None:
    assert _said(tmp_path, "command -v goalworker", "/usr/bin:/bin") == f"{Path(sys.executable).parent}/goalworker"


def test_what_the_shell_found_before_still_comes_first(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in ("goalworker", "python"):
        (own / name).touch(0o755)
    assert _said(tmp_path, "command -v goalworker; command -v python", f"{own}:/bin").split() == [
        f"{own}/goalworker",
        f"{own}/python",
    ]
