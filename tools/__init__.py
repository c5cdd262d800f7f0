"""Scripts that people run, but no DVC stage: `python -m tools.predict --help`."""

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
