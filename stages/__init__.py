"""One thin script per DVC stage; each also runs by hand: `python -m stages.validate --help`.

Importing this package pins the instruction set, before torch is imported: with equal thread counts the same
instructions give the same bytes on every x86-64 machine with AVX2. A variable that is already set wins.
"""

import os

for name, value in {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # matrix products: the only branch that Intel and AMD processors share
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "HF_HUB_OFFLINE": "1",
}.items():
    os.environ.setdefault(name, value)
