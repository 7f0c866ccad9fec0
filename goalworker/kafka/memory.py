"""What a worker asks of the interpreter and the allocator once the goals are loaded: not to tidy what comes again."""

import ctypes
import gc
from typing import Final

# More than what is fetched and not taken yet: all of it would be looked through, again and again.
COLLECT_OBJECTS: Final = 300_000
# Of mallopt(3), in bytes. The first is the most it takes.
_MMAP_THRESHOLD: Final = (-3, 32 * 1024 * 1024)
_TRIM_THRESHOLD: Final = (-1, 64 * 1024 * 1024)

_C_LIBRARY: Final = ctypes.CDLL(None)


def release() -> None:
    """Give what is free back to the system, also where it lies between what is in use; another C library is left."""
    trim = getattr(_C_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)


def settle() -> None:
    """Let the collector pass over what is there for good, and what a fetch took be there for the next one.

    A batch is thousands of objects that all go at once by themselves: looking through each of them took a tenth of the
    time. A fetch is megabytes, and glibc would give them back to the system, which clears each page when it is asked
    for anew: that took a seventh. Another C library is left as it is.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_OBJECTS, 20, 20)
    mallopt = getattr(_C_LIBRARY, "mallopt", None)
    for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        if mallopt is not None:
            mallopt(*option)
