"""Puts this folder on the path, so that tests can import the oracle, and sets how far Hypothesis searches.

HYPOTHESIS_PROFILE=thorough searches longer, and from another seed in each run.
"""

import os

from hypothesis import settings

settings.register_profile("suite", max_examples=100, derandomize=True, deadline=None)
settings.register_profile("thorough", max_examples=2000, deadline=None, database=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
