"""Compare commands in files and pages with the command line."""

import functools
import subprocess
import sys
from collections.abc import Sequence


def assert_taken(words: Sequence[str]) -> None:
    """Assert that `goalworker` has this command with these options."""
    _assert_taken(tuple(words))


@functools.cache
def _assert_taken(words: tuple[str, ...]) -> None:
    # Options are parsed before --help takes effect; their values are not.
    said = subprocess.run(
        [sys.executable, "-m", "goalworker", *words, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, f"goalworker {' '.join(words)}: {said.stderr}"
