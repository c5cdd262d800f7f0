"""Runs an exported file in ONNX Runtime, on the CPU."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from fixedpoint.errors import QuantizationError
from fixedpoint.onnx.graph import OUTPUT
from fixedpoint.onnx.seal import read_sealed
from fixedpoint.program import INPUT, Program


def _off(options: onnxruntime.SessionOptions) -> None:
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def _int8(options: onnxruntime.SessionOptions) -> None:
    options.add_session_config_entry("session.qdqisint8allowed", "1")


# What each mode changes in ONNX Runtime's options: default changes nothing, off runs the graph as it is written, int8
# keeps int8 activations of a QDQ file int8 (by default, x86 turns them into uint8).
ONNX_MODES: dict[str, Callable[[onnxruntime.SessionOptions], None]] = {
    "default": lambda options: None,
    "off": _off,
    "int8": _int8,
}


class OnnxModel:
    """An exported file as a function of a batch.

    Args:
        path: The .onnx file.
        mode: A name in ONNX_MODES.
        threads: Number of threads within an operator.
        outputs: Names of tensors that `tensors` gives. They become outputs of the graph, so a mode that optimizes may
            fuse it differently.

    Raises:
        FileNotFoundError: If there is no such file.
        QuantizationError: If the mode or a tensor is unknown, the file is damaged or not ours (`seal.read_sealed`), or
            ONNX Runtime refuses it.
    """

    def __init__(self, path: str | Path, mode: str = "default", threads: int = 1, outputs: Sequence[str] = ()):
        if mode not in ONNX_MODES:
            raise QuantizationError(f"mode {mode!r} is not allowed, must be one of {', '.join(ONNX_MODES)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # errors are raised, in one line
        options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads leave the CPU to others
        ONNX_MODES[mode](options)
        content = Path(path).read_bytes()
        model = read_sealed(content, path)
        self.outputs, self._path = tuple(outputs), path
        if outputs:
            content = _with_outputs(path, model, outputs)
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            metadata = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # ONNX Runtime's errors share no other base class
            raise QuantizationError(f"{path}: {' '.join(str(error).split())}") from None
        self._integer = "logit_exponent" in metadata
        self._zero_points = json.loads(metadata.get("zero_points", "{}"))
        if self._integer:
            self._logit_scale = np.ldexp(np.float32(1), -np.array(json.loads(metadata["logit_exponent"])))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The logits, float32 [batch, classes].

        Args:
            x: Pixels as p - 128, int8 [batch, channels, height, width], or as (p - 128) / 128, float32. They are
                converted to the type that the file takes; the integer file's logits become float32 without rounding.
        """
        return self._logits(self._run([OUTPUT], x)[0])

    def tensors(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The tensors named in `outputs` and the logits for `x`, both as in `__call__`; uint8 tensors as int8."""
        logits, *values = self._run([OUTPUT, *self.outputs], x)
        tensors = dict(zip(self.outputs, values, strict=True))
        for name in self._zero_points.keys() & tensors.keys():
            tensors[name] = (tensors[name].astype(np.int16) - self._zero_points[name]).astype(np.int8)
        return tensors | {OUTPUT: self._logits(logits)}

    def _run(self, names: list[str], x: np.ndarray) -> list[np.ndarray]:
        if self._integer != (x.dtype == np.int8):
            x = (x * 128).astype(np.int8) if self._integer else x.astype(np.float32) / 128
        try:
            return self._session.run(names, {INPUT: x})
        except Exception as error:  # ONNX Runtime's errors share no other base class
            raise QuantizationError(f"{self._path}: {' '.join(str(error).split())}") from None

    def _logits(self, value: np.ndarray) -> np.ndarray:
        value = value.reshape(len(value), -1)
        return value.astype(np.float32) * self._logit_scale if self._integer else value


def saturating_weights(program: Program) -> dict[str, int]:
    """For each conv and linear of an integer program that has any, how many of its weights lie outside [-64, 64].

    An empty result means that the QDQ file is exact on every x86 CPU under ONNX Runtime's default options. There the
    activations become uint8, and without VNNI the CPU adds pairs of products in saturating 16 bits (vpmaddubsw):
    255 * (|w1| + |w2|) <= 32767 holds for all pairs of weights up to 64, and fails for some pairs beyond.
    """
    weights = {op.name: program.constants[f"{op.name}.weight"] for op in program.ops if op.weighted}
    counts = {name: int((weight.int().abs() > 64).sum()) for name, weight in weights.items()}
    return {name: count for name, count in counts.items() if count}


def _with_outputs(path: str | Path, model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    known = {name for node in model.graph.node for name in node.output}
    for name in names:
        if name not in known:
            raise QuantizationError(f"{path} has no tensor {name!r}")
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model.SerializeToString()
