"""Commands that files and pages name, held to the command line."""

import functools
import subprocess
import sys
from collections.abc import Sequence


def assert_taken(words: Sequence[str]) -> None:
    """Fail unless `goalworker` has this command with these options."""
    _assert_taken(tuple(words))


@functools.cache
def _assert_taken(words: tuple[str, ...]) -> None:
    # Options are looked at before --help is heard; what they are given is not.
    said = subprocess.run(
        [sys.executable, "-m", "goalworker", *words, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode == 0, f"goalworker {' '.join(words)}: {said.stderr}"
