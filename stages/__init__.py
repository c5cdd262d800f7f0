"""One script per DVC stage; each can also be run by hand: `python -m stages.validate --help`."""

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
from pipeline.signals import end_with_parent

end_with_parent()  # before the imports of a stage, which take seconds
