"""Python's garbage collector, which finds objects that refer to each other, turned off."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """Let only objects that nothing refers to be freed during the block."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
