"""Scripts that people call, and no DVC stage does: `python -m tools.predict --help`."""

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
