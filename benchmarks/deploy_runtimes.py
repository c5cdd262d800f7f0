"""The contestants of `benchmarks.deploy`: each a file, what runs it, and what it simulates."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from fixedpoint.c.runtime import FILES, CModel
from fixedpoint.litert.runtime import KERNELS, LitertModel
from fixedpoint.onnx.runtime import OnnxModel
from storage.errors import InputError

C_OPTIONS = ("-O3", "-march=native")

Work = Callable[[np.ndarray], np.ndarray]  # logits of network input float32 [batch, channels, height, width]
Simulation = Callable[[Path, np.ndarray], np.ndarray]  # logits from the folder of files and the input


@dataclass(frozen=True)
class Contestant:
    """A deployed file.

    Attributes:
        name: In the tables.
        files: Names in the folder of files, with {batch} for the batch that a file is made for.
        load: Gives what computes logits, from the folder, threads and batch.
        simulated: Computes what the file was made to compute, None for the integer model.
        note: What that is.
        single: Whether it has one thread only.
        least_images: For a turn, so many that the start of a process does not count.
        rivals: Names of those than which it should not be slower; where it is, a profile says why.
    """

    name: str
    files: tuple[str, ...]
    load: Callable[[Path, int, int], Work]
    simulated: Simulation | None = None
    note: str = ""
    single: bool = False
    least_images: int = 1
    rivals: tuple[str, ...] = ()

    def files_of(self, batch: int) -> list[str]:
        return [file.format(batch=batch) for file in self.files]


def ours(name: str, folder: Path, threads: int, batch: int) -> Work:
    return OnnxModel(folder / name, "int8" if name == "int8_qdq.onnx" else "default", threads)


def litert_ours(kernels: str, folder: Path, threads: int, batch: int) -> Work:
    model = LitertModel(folder / "int8.tflite", kernels, threads)
    return lambda x: model(_int8(x))


def c_ours(folder: Path, threads: int, batch: int) -> Work:
    model = CModel(folder, options=C_OPTIONS)
    return lambda x: model(_int8(x))


def onnx_peer(name: str, optimized: bool, folder: Path, threads: int, batch: int) -> Work:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.add_session_config_entry("session.force_spinning_stop", "1")  # as in ours
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(folder / name, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"input": x})[0]


def openvino(name: str, folder: Path, threads: int, batch: int) -> Work:
    """In float32 where the file is not int8."""
    from openvino import Core

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = Core().compile_model(folder / name, "CPU", options).create_infer_request()
    return lambda x: request.infer({0: x})[0]


def inductor(folder: Path, threads: int, batch: int) -> Work:
    model = _compiled(folder, batch)

    @torch.no_grad()
    def work(x: np.ndarray) -> np.ndarray:
        torch.set_num_threads(threads)
        with torch._inductor.config.patch({"freezing": True, "cpp.dynamic_threads": True}):
            return model(torch.from_numpy(x)).numpy()

    return work


@lru_cache(1)  # its code is the same for any number of threads
def _compiled(folder: Path, batch: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return torch.compile(_pt2e(folder))


@torch.no_grad()
def eager(folder: Path, x: np.ndarray) -> np.ndarray:
    return _pt2e(folder)(torch.from_numpy(x)).numpy()


def _pt2e(folder: Path) -> torch.nn.Module:
    import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401 - its operators

    return torch.export.load(folder / "pt2e.pt2").module()


def litert_peer(name: str, kernels: str, folder: Path, threads: int, batch: int) -> Work:
    """The integers of an int8 file."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType[KERNELS[kernels]]
    path = str(folder / name.format(batch=batch))
    interpreter = Interpreter(path, num_threads=threads, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = given["quantization"]

    def work(x: np.ndarray) -> np.ndarray:
        integer = given["dtype"] == np.int8
        interpreter.set_tensor(
            given["index"], np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8) if integer else x
        )
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    return work


def _simulated(load: Callable[[Path, int, int], Work]) -> Simulation:
    return lambda folder, x: load(folder, 1, len(x))(x)


def _int8(x: np.ndarray) -> np.ndarray:
    return (x * 128).astype(np.int8)


def one_line(error: Exception) -> str:
    """The text of an error, with its kind unless the text is for people, as a cell of a table holds it."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return (kind + " ".join(str(error).split()))[:200]


_FLOAT = _simulated(partial(onnx_peer, "float.onnx", False))
_OF_FLOAT = "held against float.onnx without optimization"
_IN_ONNX = ("float.onnx, ONNX Runtime", "quantize_static, ONNX Runtime")
_IN_LITERT = ("litert-torch, float, LiteRT (XNNPACK)", "ai-edge-quantizer, LiteRT (XNNPACK)")
_XNNPACK = "int8.tflite, LiteRT (XNNPACK)"
CONTESTANTS = (
    Contestant("float.onnx, ONNX Runtime", ("float.onnx",), partial(ours, "float.onnx"), _FLOAT, _OF_FLOAT),
    Contestant("float.onnx, OpenVINO", ("float.onnx",), partial(openvino, "float.onnx"), _FLOAT, _OF_FLOAT),
    Contestant(
        "litert-torch, float, LiteRT (XNNPACK)",
        ("float_{batch}.tflite",),
        partial(litert_peer, "float_{batch}.tflite", "xnnpack"),
        _FLOAT,
        _OF_FLOAT,
    ),
    *(
        Contestant(f"{name}.onnx, ONNX Runtime", (f"{name}.onnx",), partial(ours, f"{name}.onnx"), rivals=_IN_ONNX)
        for name in ("int8_qdq", "int8_qoperator", "int8_integer")
    ),
    Contestant(
        "int8_qdq.onnx, OpenVINO",
        ("int8_qdq.onnx",),
        partial(openvino, "int8_qdq.onnx"),
        rivals=("float.onnx, OpenVINO",),
    ),
    Contestant(_XNNPACK, ("int8.tflite",), partial(litert_ours, "xnnpack"), rivals=_IN_LITERT),
    Contestant("int8.tflite, LiteRT (optimized)", ("int8.tflite",), partial(litert_ours, "optimized")),
    Contestant(f"network.c, cc {' '.join(C_OPTIONS)}", FILES, c_ours, single=True, least_images=32, rivals=(_XNNPACK,)),
    Contestant(
        "quantize_static, ONNX Runtime",
        ("static.onnx",),
        partial(onnx_peer, "static.onnx", True),
        _simulated(partial(onnx_peer, "static.onnx", False)),
        "held against its file without optimization",
    ),
    Contestant(
        "torchao PT2E, inductor",
        ("pt2e.pt2",),
        inductor,
        eager,
        "held against its program in PyTorch, not compiled; its memory is also that of compiling",
    ),
    Contestant(
        "ai-edge-quantizer, LiteRT (XNNPACK)",
        ("static_{batch}.tflite",),
        partial(litert_peer, "static_{batch}.tflite", "xnnpack"),
        _simulated(partial(litert_peer, "static_{batch}.tflite", "reference")),
        "held against LiteRT's reference kernels",
    ),
)
