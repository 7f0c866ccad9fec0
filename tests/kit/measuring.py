"""Limits of coverage: it measures a test and the processes that it starts, the processes alone, or neither.

Tracing makes Python three to five times slower, so it is spared where other tests reach the same lines.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

VARIABLE = "COVERAGE_PROCESS_CONFIG"  # makes a new Python process measure itself


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Measure only the processes that are started meanwhile."""
    measuring = sys.modules["coverage"].Coverage.current() if VARIABLE in os.environ else None
    if measuring is None:
        yield
        return
    measuring.stop()
    try:
        yield
    finally:
        measuring.start()


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """Measure neither this process nor those that are started meanwhile."""
    with paused():
        configuration = os.environ.pop(VARIABLE, None)
        try:
            yield
        finally:
            if configuration is not None:
                os.environ[VARIABLE] = configuration
