"""What stages and tools share: parameters, files, databases, models, and how a run is trained.

Importing this package pins the environment that decides results, before torch is imported.
"""

import sys
from importlib.util import find_spec

from pipeline.environment import pin, settle

if sys.version_info[:2] != (3, 11) or not all(map(find_spec, ("torch", "timm", "dvclive", "onnxruntime", "pydantic"))):
    is_not = f"error: {sys.executable} is not the Python 3.11 that has this repository's packages"
    sys.exit(f"{is_not}; run `make setup`, then `source .venv/bin/activate`")

pin()
settle()
