"""One script per DVC stage; each can also be run by hand: `python -m stages.validate --help`."""

import gc
import sys

import pipeline  # noqa: F401 - pins the instruction set before torch is imported
from pipeline.signals import end_with_parent

if sys.argv[:1] == ["-m"]:  # a stage begins: imports make no garbage, and looking for it takes a third of their time
    gc.disable()  # until pipeline.cli.run
end_with_parent()  # before the imports of a stage, which take seconds
