"""Runs an exported .tflite file in LiteRT, on the CPU."""

from pathlib import Path

import numpy as np

from fixedpoint.errors import QuantizationError
from fixedpoint.litert.graph import OUTPUT, check_operators, litert_module, read_metadata
from fixedpoint.program import INPUT

# Kernels by name, as in LiteRT's OpResolverType: XNNPACK's (LiteRT's default), LiteRT's optimized ones, and its
# reference ones, which those for microcontrollers follow. XNNPACK leaves PADV2, separate clamps and everything of 16
# bits to the optimized ones.
KERNELS = {
    "xnnpack": "AUTO",
    "optimized": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


class LitertModel:
    """A .tflite file as a function of a batch.

    Args:
        source: Its path or its content.
        kernels: A name in KERNELS.
        threads: Number of threads within an operator.
        tensors: Whether `tensors` can be called; not with XNNPACK, which keeps none.

    Attributes:
        metadata: The file's metadata, as `read_metadata` returns them.

    Raises:
        OSError: If there is no such file, or LiteRT is not installed.
        QuantizationError: If the kernels are unknown or keep no tensors, or the file is not as `litert_model` wrote it.
    """

    def __init__(self, source: str | Path | bytes, kernels: str = "xnnpack", threads: int = 1, tensors: bool = False):
        if kernels not in KERNELS:
            raise QuantizationError(f"kernels {kernels!r} are not allowed, must be one of {', '.join(KERNELS)}")
        if tensors and kernels == "xnnpack":
            raise QuantizationError("xnnpack keeps no tensors between input and logits; optimized and reference do")
        path, content = ("the content", source) if isinstance(source, bytes) else (source, Path(source).read_bytes())
        self.metadata, self._path = read_metadata(content, path), path
        check_operators(content, path)
        interpreter = litert_module("interpreter")
        try:
            self._interpreter = interpreter.Interpreter(
                model_content=content,
                num_threads=threads,
                experimental_op_resolver_type=interpreter.OpResolverType[KERNELS[kernels]],
                experimental_preserve_all_tensors=tensors,
            )
        except (ValueError, RuntimeError) as error:
            raise QuantizationError(f"{path}: {' '.join(str(error).split())}") from None
        self._keeps_tensors = tensors
        self._input, self._output = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self._batch = 0

    @property
    def exponent(self) -> int:
        """A logit q of the file stands for q * 2**-exponent."""
        return self.metadata["logit_exponent"]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The logits, int8 or int16 [batch, classes], as the file has them.

        Args:
            x: Pixels p - 128, int8 [batch, channels, height, width].

        Raises:
            QuantizationError: If `x` has another type or shape, or LiteRT refuses the file.
        """
        height, width, channels = self._input["shape"][1:].tolist()
        if x.dtype != np.int8 or x.shape[1:] != (channels, height, width) or len(x) == 0:
            shape = f"[batch, {channels}, {height}, {width}]"
            raise QuantizationError(f"the input must be int8 {shape}, not {x.dtype} {list(x.shape)}")
        try:
            if len(x) != self._batch:
                sizes = (len(x), height, width, channels)
                self._interpreter.resize_tensor_input(self._input["index"], sizes, strict=True)
                self._interpreter.allocate_tensors()
                self._batch = len(x)
            self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output["index"])
        except (ValueError, RuntimeError) as error:
            raise QuantizationError(f"{self._path}: {' '.join(str(error).split())}") from None

    def tensors(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The int8 tensors that the file has in common with its program, by name, in order of computation.

        Each is int8 [batch, channels, height, width], or [batch, values]; `x` and errors are as in `__call__`.
        """
        if not self._keeps_tensors:
            raise QuantizationError("tensors can be read with tensors=True only")
        self(x)
        vectors, values = set(self.metadata["vectors"]), {}
        for details in self._interpreter.get_tensor_details():
            name = details["name"]
            if name in (INPUT, OUTPUT) or "/" in name or not name:
                continue
            value = self._interpreter.get_tensor(details["index"]).transpose(0, 3, 1, 2)
            values[name] = value.reshape(len(x), -1) if name in vectors else value
        return values
