"""What stages and tools share: parameters, files, databases, models, and how a run is trained.

Importing this package pins the environment that decides results, before torch is imported.
"""

import os
import sys
from importlib.util import find_spec
from types import TracebackType

from pipeline.environment import pin, settle

PACKAGES = ("torch", "timm", "dvclive", "onnxruntime", "pydantic")
if not (3, 11) <= sys.version_info[:2] <= (3, 13) or not all(map(find_spec, PACKAGES)):
    is_not = f"error: {sys.executable} is no Python 3.11 to 3.13 that has this repository's packages"
    sys.exit(f"{is_not}; run `make setup`, then `source .venv/bin/activate`")

pin()
settle()


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Says in one line that memory does not suffice for the imports, which precede `pipeline.cli.run`."""
    short = isinstance(error, MemoryError) or "failed to map segment" in str(error)  # of a library
    if short and os.environ.get("TRACEBACK") != "1":
        reason = str(error) or "the system gives no more"
        print(f"error: out of memory while packages are imported: {reason}", file=sys.stderr, flush=True)
        os._exit(1)  # what packages do at the end needs memory, too
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _one_line
