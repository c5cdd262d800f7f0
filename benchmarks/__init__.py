"""How fast this is, beside others that do the same work."""

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
