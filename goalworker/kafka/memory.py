"""Settings of the garbage collector and the allocator for services."""

import ctypes
import gc
from typing import Final

# New objects after which the collector runs. Records that were fetched and wait to be processed are fewer, so that it
# does not search them again and again.
COLLECT_OBJECTS: Final = 300_000
# Options of mallopt(3) with their values in bytes; 32 MiB is the largest mmap threshold that glibc accepts.
_MMAP_THRESHOLD: Final = (-3, 32 * 1024 * 1024)
_TRIM_THRESHOLD: Final = (-1, 64 * 1024 * 1024)

_C_LIBRARY: Final = ctypes.CDLL(None)


def release() -> None:
    """Return free memory to the system, also from between memory in use; do nothing without glibc."""
    trim = getattr(_C_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)


def exclude_present_objects() -> None:
    """Exclude the objects of today from collection; call it after start.

    To search what a service has imported takes 40 ms, during which it does nothing else.
    """
    gc.collect()
    gc.freeze()


def tune_for_batches() -> None:
    """Exclude the objects of today from collection, and keep freed memory for the next fetch; call it after start.

    A batch is thousands of objects that are freed together without the collector, which took a tenth of the time to
    search them. A fetch is megabytes, which glibc would return to the system, which clears each page when it is
    requested again: that took a seventh. Without glibc, the allocator stays as it is.
    """
    exclude_present_objects()
    gc.set_threshold(COLLECT_OBJECTS, 20, 20)
    mallopt = getattr(_C_LIBRARY, "mallopt", None)
    for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        if mallopt is not None:
            mallopt(*option)
