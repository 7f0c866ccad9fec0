"""How hard Hypothesis tries: the same examples on every run where CI is set, new ones at a desk."""

import os

from hypothesis import settings

settings.register_profile("goalworker", deadline=None, max_examples=100, derandomize=os.environ.get("CI") == "true")
settings.load_profile("goalworker")
