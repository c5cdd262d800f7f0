"""What stages and tools share: parameters, files, databases, models, and how a run is trained.

Importing this package pins the instruction set, before torch is imported: with equal thread counts the same
instructions give the same bytes on every x86-64 machine with AVX2. A variable that is already set wins.
"""

import os
import sys
from importlib.util import find_spec

if sys.version_info[:2] != (3, 11) or not all(map(find_spec, ("torch", "timm", "dvclive", "onnxruntime", "pydantic"))):
    is_not = f"error: {sys.executable} is not the Python 3.11 that has this repository's packages"
    sys.exit(f"{is_not}; run `make setup`, then `source .venv/bin/activate`")

for name, value in {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # matrix products: the only branch that Intel and AMD processors share
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "GOMP_SPINCOUNT": "1000",  # waiting threads yield early; a busy machine is 10 times slower otherwise
    "HF_HUB_OFFLINE": "1",
}.items():
    os.environ.setdefault(name, value)
