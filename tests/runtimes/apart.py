"""Runs a script of this folder in a process of its own, with its own packages and environment.

A two-year-old ONNX Runtime cannot be imported beside today's. OpenVINO reads oneDNN's variables, which the stages set
for PyTorch and which no user of OpenVINO sets.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parents[1]
PINNED = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR")
LOGITS, TENSOR = "logits", "tensor "  # names of arrays in the answer: of one, and what those of the others begin with

Answer = tuple[np.ndarray, dict[str, np.ndarray]]  # logits, and tensors by name


def ask(
    script: str,
    packages: Path,
    x: np.ndarray,
    request: Mapping[str, object],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """Run a script and return what it computes.

    Args:
        script: Its name in this folder; it calls `answer`.
        packages: Folder of packages that come before those of this process.
        x: Input.
        request: JSON values.
        environment: Further variables.

    Raises:
        RuntimeError: If it fails, with the last line that it wrote.
    """
    variables = {name: value for name, value in os.environ.items() if name not in PINNED}
    variables |= {"PYTHONPATH": f"{packages}{os.pathsep}{REPOSITORY}", **environment}
    with tempfile.TemporaryDirectory(prefix="apart_") as folder:
        Path(folder, "request.json").write_text(json.dumps(request))
        np.save(Path(folder, "x.npy"), x)
        command = [sys.executable, str(FOLDER / script), folder]
        done = subprocess.run(command, env=variables, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{script}: {(done.stderr.strip() or str(done.returncode)).splitlines()[-1]}")
        with np.load(Path(folder, "answer.npz")) as found:
            return found[LOGITS], {n.removeprefix(TENSOR): found[n] for n in found if n.startswith(TENSOR)}


def answer(run: Callable[..., Answer]) -> None:
    """The other side of `ask`: send what `run` returns for the input and the values of the request."""
    folder = Path(sys.argv[1])
    logits, tensors = run(np.load(folder / "x.npy"), **json.loads((folder / "request.json").read_text()))
    np.savez(folder / "answer.npz", **{LOGITS: logits}, **{f"{TENSOR}{name}": v for name, v in tensors.items()})
