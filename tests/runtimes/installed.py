"""What is installed for the comparison, and what the processor can do."""

import importlib.metadata
import platform
import re
from functools import lru_cache
from pathlib import Path

from pipeline.paths import runs_folder

# `make test-runtimes` installs them beside the project's packages, and an ONNX Runtime of two years ago on its own
PACKAGES, OLD_ONNXRUNTIME = (runs_folder().resolve() / name for name in ("runtimes", "onnxruntime_old"))
VNNI = frozenset({"avx512_vnni", "avx_vnni"})
SHOWN = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def version(package: str, folder: Path | None = None) -> str | None:
    """The version of a package, None if it is not installed (in that folder)."""
    where = {} if folder is None else {"path": [str(folder)]}
    return next((found.version for found in importlib.metadata.distributions(name=package, **where)), None)


@lru_cache
def processor_flags() -> frozenset[str]:
    """What the processor can do, as Linux names it."""
    found = re.search(r"^flags\s*:(.*)$", _cpuinfo(), re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def lacks_vnni() -> bool:
    """Whether this is an x86 processor that adds pairs of int8 products in 16 bits, which saturates."""
    return platform.machine() in ("x86_64", "AMD64") and not VNNI & processor_flags()


def processor() -> str:
    """The name of the processor and those of its instructions that matter."""
    found = re.search(r"^model name\s*:\s*(.*)$", _cpuinfo(), re.MULTILINE)
    flags = [flag for flag in SHOWN if flag in processor_flags()]
    return f"{found[1] if found else platform.machine()}: {', '.join(flags) or 'none of these'}"


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
