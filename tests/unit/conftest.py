"""Settings of Hypothesis: the same examples on every run where CI is set, new ones at a desk."""

import os

from hypothesis import settings

from tests.kit.examples import examples

IS_CI = os.environ.get("CI") == "true"
settings.register_profile("goalworker", deadline=None, max_examples=examples(100), derandomize=IS_CI)
settings.load_profile("goalworker")
