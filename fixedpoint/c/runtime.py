"""Runs the C form of a program, compiled by the machine's C compiler as its users compile it."""

import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fixedpoint.errors import QuantizationError

COMPILER = "cc"
FILES = ("network.c", "network.h", "main.c")


class CModel:
    """The files of `fixedpoint.c.source.c_source` as a function of a batch.

    Args:
        sources: The folder of the files, or their texts by name.
        trace: Whether `tensors` can be called.
        options: Options of the compiler.

    Raises:
        OSError: If there is no C compiler, or a file is missing.
        QuantizationError: If the files do not compile.
    """

    def __init__(self, sources: str | Path | Mapping[str, str], trace: bool = False, options: Sequence[str] = ("-O3",)):
        if not isinstance(sources, Mapping):
            sources = {name: Path(sources, name).read_text(encoding="utf-8") for name in FILES}
        sizes = dict(re.findall(r"#define NETWORK_INPUT_(\w+) (\d+)", sources["network.h"]))
        self._input_shape = [int(sizes[size]) for size in ("CHANNELS", "HEIGHT", "WIDTH")]
        self._trace = trace
        self._folder = Path(tempfile.mkdtemp(prefix="c_model_"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        for name, text in sources.items():
            (self._folder / name).write_text(text, encoding="utf-8")
        command = [COMPILER, "-std=c99", *options, *(["-DNETWORK_TRACE"] if trace else [])]
        command += ["network.c", "main.c", "-o", "network"]
        try:
            compiled = subprocess.run(command, cwd=self._folder, capture_output=True, text=True)
        except FileNotFoundError:
            raise OSError(f"there is no C compiler {COMPILER!r}; install one, such as by apt install gcc") from None
        if compiled.returncode:
            raise QuantizationError(f"{' '.join(command)}: {compiled.stderr.strip()}")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The logits, int32 [batch, classes].

        Args:
            x: Pixels p - 128, int8 [batch, channels, height, width].

        Raises:
            OSError: If the compiled program fails.
            QuantizationError: If `x` has another type or shape.
        """
        return self._run(x)

    def tensors(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Every tensor but the input, in order of computation: int8, or int32 where it holds accumulators.

        Each is [batch, its values in the order channel, row, column]; `x` and errors are as in `__call__`.
        """
        if not self._trace:
            raise QuantizationError("tensors can be read with trace=True only")
        with tempfile.TemporaryDirectory(prefix="c_trace_") as folder:
            self._run(x, folder)
            lines = Path(folder, "tensors.txt").read_text(encoding="utf-8").splitlines()
            types = {name: f"<i{size}" for size, name in (line.split(" ", 1) for line in lines)}
            return {n: np.fromfile(Path(folder, f"{n}.bin"), dtype).reshape(len(x), -1) for n, dtype in types.items()}

    def _run(self, x: np.ndarray, *arguments: str) -> np.ndarray:
        if x.dtype != np.int8 or [*x.shape[1:]] != self._input_shape or len(x) == 0:
            shape = ", ".join(map(str, self._input_shape))
            raise QuantizationError(f"the input must be int8 [batch, {shape}], not {x.dtype} {list(x.shape)}")
        done = subprocess.run([self._folder / "network", "-", *arguments], input=x.tobytes(), capture_output=True)
        if done.returncode:
            raise OSError(f"the C program ended with code {done.returncode}: {done.stderr.decode().strip()}")
        return np.frombuffer(done.stdout, "<i4").reshape(len(x), -1)
