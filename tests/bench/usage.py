"""CPU and memory of processes, as the kernel counts them."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GONE = (FileNotFoundError, ProcessLookupError)
"""Raised for a process or thread that has just ended."""
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds of a process and its children, and the peak memory of the process itself."""

    cpu_seconds: float
    peak_bytes: int


def of(pid: int) -> Usage:
    """Add up a process and its children, including those that have ended."""
    seconds = sum(_cpu_seconds(each) for each in (pid, *children(pid)))
    return Usage(seconds, _status_bytes(pid, "VmHWM"))


def of_this_process() -> Usage:
    """Return the usage of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def resting_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return _status_bytes(pid, "VmRSS")


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except GONE:  # its parent has its CPU time then
        return 0.0
    user, system, children_user, children_system = map(int, fields[11:15])
    return (user + system + children_user + children_system) * _TICK_SECONDS


def children(pid: int) -> Iterator[int]:
    """Yield the children of a process, and theirs."""
    for thread in _threads(pid):
        for child in _children_of(thread):
            yield child
            yield from children(child)


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except GONE:
        return []


def _children_of(thread: Path) -> list[int]:
    try:
        return [int(child) for child in (thread / "children").read_text().split()]
    except GONE:  # another thread has its children then
        return []


def _status_bytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
