"""Pins the environment of this process, before torch is imported: what decides results, and where caches are.

With equal thread counts the same instructions give the same bytes on every x86-64 machine with AVX2. So neither another
choice of them nor another precision may come from the user's environment.
"""

import os
import pwd
import sys
import tempfile
from pathlib import Path

PINNED = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # matrix products: the only branch that Intel and AMD processors share
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
DEFAULTS = {
    "GOMP_SPINCOUNT": "1000",  # waiting threads yield early; a busy machine is 10 times slower otherwise
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
REMOVED = (  # beginnings of names: instructions, precisions and fewer threads than `execution.threads`
    *("ATEN_", "ONEDNN_", "DNNL_", "MKL_", "NPY_", "TIMM_", "TORCHINDUCTOR_", "TORCHDYNAMO_"),
    *("TORCH_COMPILE_DISABLE", "TORCH_ALLOW_TF32", "TORCH_MKLDNN_", "TORCH_BLAS_", "TORCH_LINALG_", "TORCH_CUDNN_"),
    *("PYTORCH_JIT", "PYTORCH_TUNABLEOP_", "NVIDIA_TF32_OVERRIDE"),
    *("OMP_DYNAMIC", "OMP_THREAD_LIMIT", "OMP_MAX_ACTIVE_LEVELS", "OMP_NESTED"),
)
KEPT = ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS")


def pin() -> None:
    """Set what decides results, whatever the environment says; one line on stderr names what of it is not used.

    A process that ends here, with one line, has imported torch under another environment, or has no folder for caches.
    """
    ignored = [
        name
        for name, value in os.environ.items()
        if value != PINNED.get(name, value) or (name.startswith(REMOVED) and name not in (*PINNED, *KEPT))
    ]
    if "torch" in sys.modules and (ignored or PINNED.items() - os.environ.items()):
        sys.exit("error: torch has been imported before `pipeline`, which pins its instructions: import pipeline first")
    if ignored:
        shown = ", ".join(f"{name}={os.environ.pop(name)}" for name in sorted(ignored))
        print(f"note: {shown[:200]!r} of the environment is not used: results do not depend on it", file=sys.stderr)
    os.environ |= PINNED | {name: value for name, value in DEFAULTS.items() if name not in os.environ}


def settle() -> None:
    """Give a user without a name or without a home that can be written, as `docker --user` makes one, both.

    DVCLive and the compilers of PyTorch and Triton need them. The home is then a folder of this user's in the folder
    for temporary files; a process that cannot have one ends here, with one line.
    """
    user = os.getuid()
    known = next((each for each in pwd.getpwall() if each.pw_uid == user), None)
    os.environ["USER"] = os.environ.get("USER") or (known.pw_name if known else str(user))
    home = Path(os.environ.get("HOME") or (known.pw_dir if known else "/nonexistent"))
    if home.is_dir() and os.access(home, os.W_OK | os.X_OK):
        return
    try:
        home = Path(tempfile.gettempdir(), f"home-{user}")
        home.mkdir(mode=0o700, exist_ok=True)
        if home.is_symlink() or home.stat().st_uid != user:
            raise PermissionError(f"{home} belongs to another user")
    except OSError as error:
        sys.exit(f"error: there is no folder for caches: {error}; set HOME to a folder that you can write")
    os.environ["HOME"] = str(home)
