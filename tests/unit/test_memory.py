"""A worker that has settled uses again what it used before, and its collector leaves alone what stays."""

import platform
import subprocess
import sys

# Three blocks as of three fetches, let go together, five times; then how many pages the system had to give.
ROUNDS = """
import gc, resource
from goalworker.kafka import memory
{settle}
def touch():
    blocks = [b"x" * 12_000_000 for _ in range(3)]
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, gc.get_freeze_count())
"""


def pages_and_frozen(settle: str) -> tuple[int, int]:
    command = [sys.executable, "-c", ROUNDS.format(settle=settle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    pages, frozen = map(int, done.stdout.split())
    return pages, frozen


def test_memory_that_was_used_is_used_again() -> None:
    settled, _ = pages_and_frozen("memory.tune_for_batches()")
    usual, _ = pages_and_frozen("")
    # Other C libraries are left as they are.
    assert settled < usual / (10 if platform.libc_ver()[0] == "glibc" else 0.1)


def test_the_collector_passes_over_what_is_there() -> None:
    _, frozen = pages_and_frozen("memory.tune_for_batches()")
    _, usual = pages_and_frozen("")
    assert frozen > 1_000 > usual == 0
