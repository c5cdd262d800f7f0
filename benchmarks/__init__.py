"""Speed, compared with other projects that do the same work."""

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
