"""Temporary files in memory: PostgreSQL and Kafka make and delete so many that on a disk these take half of the tests.

A database is 340 files, and the topics of an installation are 300.
"""

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3


def move_to_memory(memory: Path = MEMORY, room_bytes: int = ROOM_BYTES) -> None:
    """Let this process and those that it starts make temporary files in memory, if there is room and TMPDIR is unset.

    What pytest keeps after a run stays on the disk.
    """
    if "TMPDIR" not in os.environ and _is_suitable(memory, room_bytes):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        tempfile.tempdir = os.environ["TMPDIR"] = str(memory)


def _is_suitable(memory: Path, room_bytes: int) -> bool:
    """Say whether the folder has room, and programs can be run from it, such as the servers' own."""
    if not os.access(memory, os.W_OK):
        return False
    found = os.statvfs(memory)
    return found.f_bavail * found.f_frsize >= room_bytes and not found.f_flag & os.ST_NOEXEC
