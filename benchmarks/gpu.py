"""Prove or refute on a GPU what docs/training.md claims of it; after ten minutes no further check begins.

    python -m benchmarks gpu [--device cpu] [--minutes 10]

It needs the repository with its packages and PyTorch 2.11 to 2.14, and neither data nor network. It prints a table of
what was measured beside the goals, and writes it to runs/bench_gpu.json. A check that fails with an error is a row as
well, and one for which no time is left says so. With --device cpu everything is small, so that it shows that the script
works; speeds have no goals there. benchmarks/gpu_checks.py has the checks.
"""

import platform
import time
from collections.abc import Iterator
from dataclasses import asdict

import torch

from benchmarks.gpu_checks import CHECKS, LARGE, SMALL
from benchmarks.gpu_rows import Row
from benchmarks.options import options
from pipeline.machine import prepare
from pipeline.params import load_params
from pipeline.paths import runs_folder
from storage.files import write_json


def main() -> None:
    arguments = options("gpu")
    params = load_params()
    device = prepare(params.execution.model_copy(update={"device": arguments.device}))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    print(f"{name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"{'':80}{'measured':>16}  {'goal':<18}verdict")
    rows = []
    for row in rows_until(time.monotonic() + 60 * arguments.minutes, device):
        rows.append(row)
        print(f"{row.claim:80}{row.measured:>16}  {row.goal:<18}{row.verdict}", flush=True)
    about = {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda}
    write_json(
        runs_folder() / "bench_gpu.json", about | {"rows": [asdict(row) | {"verdict": row.verdict} for row in rows]}
    )


def rows_until(end: float, device: torch.device) -> Iterator[Row]:
    """The rows of all checks that begin before `end`, a time of `time.monotonic`."""
    extent = LARGE if device.type == "cuda" else SMALL
    for name, check in CHECKS.items():
        if time.monotonic() > end:
            yield Row(name, error="no time was left")
            continue
        try:
            yield from check(device, extent)
        except Exception as error:  # the other claims are checked all the same
            yield Row(name, error=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
