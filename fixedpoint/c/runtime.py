"""Runs the C form of a program, compiled by the machine's C compiler as its users compile it."""

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from fixedpoint.c.folders import own_folder
from fixedpoint.errors import QuantizationError

COMPILER = "cc"
FILES = ("network.c", "network.h", "main.c")
SIZES = ("CHANNELS", "HEIGHT", "WIDTH")  # of the input, in network.h
MOST_SHOWN = 500  # characters of what a program says


class CModel:
    """The files of `fixedpoint.c.source.c_source` as a function of a batch.

    Args:
        sources: The folder of the files, or their texts by name.
        trace: Whether `tensors` can be called.
        options: Options of the compiler.
        folder: Where to compile and to write tensors, in a folder of its own; None: the system's temporary folder. What
            killed processes have left in `folder` is removed.
        seconds: After which a batch that has not been computed is given up; None: never.

    Raises:
        OSError: If there is no C compiler, a file is missing, or one cannot be written.
        QuantizationError: If the files do not compile.
    """

    def __init__(
        self,
        sources: str | Path | Mapping[str, str],
        trace: bool = False,
        options: Sequence[str] = ("-O3",),
        folder: str | Path | None = None,
        seconds: float | None = None,
    ):
        if not isinstance(sources, Mapping):
            sources = {name: Path(sources, name).read_text(encoding="utf-8", errors="replace") for name in FILES}
        sizes = dict(re.findall(r"#define NETWORK_INPUT_(\w+) (\d{1,9})\b", sources["network.h"]))
        if not {*SIZES} <= {*sizes}:
            raise QuantizationError("network.h does not say the sizes of the input: it is not of a program's C form")
        self._input_shape = [int(sizes[size]) for size in SIZES]
        self._trace, self._seconds = trace, seconds
        self._folder = own_folder(self, folder)
        for name, text in sources.items():
            try:
                (self._folder / name).write_text(text, encoding="utf-8")
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self._folder / name)) from None
        self._compile([*options, *(["-DNETWORK_TRACE"] if trace else [])])

    def _compile(self, options: Sequence[str]) -> None:
        if not shutil.which(COMPILER):
            raise OSError(f"there is no C compiler {COMPILER!r}; install one, such as by apt install gcc")
        command = [COMPILER, "-std=c99", *options, "network.c", "main.c", "-o", "network"]
        environment = os.environ | {"LC_ALL": "C", "TMPDIR": str(self._folder)}
        done = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, errors="replace")
        if done.returncode:
            what = f"{' '.join(command)} in {self._folder}: {' '.join(done.stderr.split())[:MOST_SHOWN]}"
            if os.strerror(errno.ENOSPC) in done.stderr:
                raise OSError(errno.ENOSPC, what)
            raise QuantizationError(what)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The logits, int32 [batch, classes].

        Args:
            x: Pixels p - 128, int8 [batch, channels, height, width].

        Raises:
            OSError: If the compiled program fails, or does not end.
            QuantizationError: If `x` has another type or shape.
        """
        return self._run(x)

    def tensors(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Every tensor but the input, in order of computation: int8, or int32 where it holds accumulators.

        Each is [batch, its values in the order channel, row, column]; `x` and errors are as in `__call__`.
        """
        if not self._trace:
            raise QuantizationError("tensors can be read with trace=True only")
        with tempfile.TemporaryDirectory(prefix="trace_", dir=self._folder) as folder:
            self._run(x, folder)
            lines = Path(folder, "tensors.txt").read_text(encoding="utf-8").splitlines()
            types = {stem: f"<i{size}" for size, stem in (line.split(" ", 1) for line in lines)}
            values = {stem: np.fromfile(Path(folder, f"{stem}.bin"), dtype) for stem, dtype in types.items()}
        return {unquote(stem): value.reshape(len(x), -1) for stem, value in values.items()}

    def _run(self, x: np.ndarray, *arguments: str) -> np.ndarray:
        if x.dtype != np.int8 or [*x.shape[1:]] != self._input_shape or len(x) == 0:
            shape = ", ".join(map(str, self._input_shape))
            raise QuantizationError(f"the input must be int8 [batch, {shape}], not {x.dtype} {list(x.shape)}")
        command = [str(self._folder / "network"), "-", *arguments]
        try:
            done = subprocess.run(command, input=x.tobytes(), capture_output=True, timeout=self._seconds)
        except subprocess.TimeoutExpired:
            raise OSError(f"the C program has not computed {len(x)} images within {self._seconds:.0f} s") from None
        if done.returncode:
            stderr = " ".join(done.stderr.decode(errors="replace").split())[:MOST_SHOWN]
            raise OSError(f"the C program ended with code {done.returncode}: {stderr}")
        if not done.stdout or len(done.stdout) % (4 * len(x)):
            raise OSError(f"the C program gave {len(done.stdout)} bytes for {len(x)} images, not the same for each")
        return np.frombuffer(done.stdout, "<i4").reshape(len(x), -1)
