"""The peak memory of a contestant of `benchmarks.deploy`, in a process of its own.

python -m benchmarks.deploy_memory NAME FOLDER     prints bytes
"""

import re
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.deploy_runtimes import CONTESTANTS, Contestant
from storage.errors import InputError

STATUS = Path("/proc/self/status")
INPUT = "input.npy"
RUNTIMES = ("openvino", "ai_edge_litert.interpreter", "torchao.quantization.pt2e.quantize_pt2e", "torch._inductor")


def peak_memory(contestant: Contestant, folder: Path) -> float:
    """MiB that loading the contestant and computing one image add to its imports.

    Raises:
        InputError: If its process fails.
    """
    command = [sys.executable, "-m", "benchmarks.deploy_memory", contestant.name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(" ".join(done.stderr.split())[-200:])
    return int(done.stdout.split()[-1]) / 2**10


def main(name: str, folder: Path) -> None:
    contestant = next(each for each in CONTESTANTS if each.name == name)
    x = np.load(folder / INPUT)
    for runtime in RUNTIMES:  # what contestants import as they load is none of their memory
        with suppress(ImportError):  # one that is not installed has no contestant here
            import_module(runtime)
    before = _kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    contestant.load(folder, 1, 1)(x)
    print(_kib("VmHWM") - before)


def _kib(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB", STATUS.read_text(), re.MULTILINE)
    if not found:
        raise InputError(f"{STATUS} has no {field}")
    return int(found[1])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
