"""One script a DVC stage; each also runs by hand: `python -m stages.validate --help`."""

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
