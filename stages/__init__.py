"""One script per DVC stage; each can also be run by hand: `python -m stages.validate --help`."""

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
