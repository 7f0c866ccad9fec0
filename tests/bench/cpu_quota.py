"""Limit of a server's processor time by a control group of the kernel, as a smaller machine would limit it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.bench import usage

PERIOD_US = 10_000
"""Short, so that a server that has used up its share waits for milliseconds only."""

_MOUNT = Path("/sys/fs/cgroup")
_PROCESSES = "cgroup.procs"


def is_available() -> bool:
    """Say whether this process may create control groups that limit the processor."""
    folder = _folder()
    return folder is not None and os.access(folder, os.W_OK)


@contextlib.contextmanager
def limited(pid: int, processors: float) -> Iterator[None]:
    """Limit a process and its children, those to come included, to this much of a processor during the block."""
    folder = _folder()
    assert folder is not None, "the kernel offers this process no control groups"
    group = folder / f"goalworker-bench-{os.getpid()}-{pid}"
    group.mkdir()
    try:
        quota_us = round(PERIOD_US * processors)
        if _is_first_version():
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        _move(pid, group)
        for child in usage.children(pid):  # after its parent, whose new children are limited too
            _move(child, group)
        yield
    finally:
        while members := (group / _PROCESSES).read_text().split():
            for member in members:
                _move(int(member), folder)
        group.rmdir()


def _move(pid: int, group: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        (group / _PROCESSES).write_text(str(pid))


def _is_first_version() -> bool:
    return (_MOUNT / "cpu" / "cpu.cfs_quota_us").exists()


def _folder() -> Path | None:
    """Return the folder in which groups are made: that of all processes."""
    if _is_first_version():
        return _MOUNT / "cpu"
    controllers = _MOUNT / "cgroup.subtree_control"
    return _MOUNT if controllers.exists() and "cpu" in controllers.read_text().split() else None
