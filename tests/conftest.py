"""What all tests share: how hypothesis draws."""

import os

from hypothesis import settings

# No deadline: a first call may compile. On CI the examples are the same every time; elsewhere they vary.
settings.register_profile("local", deadline=None, max_examples=50, print_blob=True)
settings.register_profile("ci", deadline=None, max_examples=50, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
