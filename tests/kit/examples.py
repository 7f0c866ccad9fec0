"""The number of examples that Hypothesis generates: all of them, or a tenth where GOALWORKER_TEST_QUICK=1 is set."""

import os

IS_QUICK = os.environ.get("GOALWORKER_TEST_QUICK") == "1"


def examples(count: int) -> int:
    """Return the number of examples for a test that deserves `count` of them, never fewer than 10."""
    return max(count // 10, 10) if IS_QUICK else count
