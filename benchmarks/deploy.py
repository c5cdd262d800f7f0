"""Images per second of each file on this machine, one and 100 at a time, on one thread and on two.

    python -m benchmarks deploy [--rounds 7]                    after `make repro`
    python -m benchmarks deploy --network vargconvnet --size 224       another network, with random weights

The contestants take turns, round by round, so that a change of the machine's speed affects all of them. The table shows
medians and, in parentheses, multiples of float.onnx in ONNX Runtime, then the fastest file. Before the timing, the
logits of the int8 files are compared; a file with other logits is named and left out. Results go to runs/bench.json,
since speed belongs to the machine. OpenVINO takes part if it is installed: `make test-runtimes` does that.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import interleaved
from fixedpoint.c.runtime import CModel
from fixedpoint.c.source import c_source, flash_bytes
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.litert.runtime import LitertModel
from fixedpoint.litert.writer import litert_model
from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import PORTABLE, Program
from fixedpoint.program.integer import IntegerEvaluator, int8_logits, integer_logits
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from models.registry import create_model
from pipeline.float_model import float_program
from pipeline.forms import FLOAT, INT, stored_program
from pipeline.machine import prepare
from pipeline.params import load_params
from pipeline.paths import runs_folder
from storage.files import write_json

SECONDS = 0.3  # of a turn, about
PEER = "float.onnx, ONNX Runtime"
ALONE = "network.c"  # takes one image at a time, in a process that reads them from a file
ITS_IMAGES = 100  # images for it, so many that the start of the process does not count
LARGE = 10_000_000  # bytes of constants, for which a C compiler takes minutes

Work = Callable[[np.ndarray], np.ndarray]  # logits of network input float32 [batch, channels, height, width]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--network", help="of timm or torchvision (default: the pipeline's files)")
    parser.add_argument("--size", type=int, default=224, help="image size (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 100], help="images at a time (default: 1 100)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        floating, program = random_programs(arguments.network, arguments.size) if arguments.network else stored()
        write_files(floating, program, Path(folder))
        results = {
            f"{batch} at a time, {threads} thread{'s'[: threads > 1]}": measured(
                program, Path(folder), batch, threads, arguments.rounds
            )
            for batch in arguments.batches
            for threads in (1, 2)
        }
    print("\n".join(table(results)))
    write_json(runs_folder() / "bench.json", results)


def stored() -> tuple[Program, Program]:
    """The pipeline's float and integer program."""
    params = load_params()
    prepare(params.execution)
    return float_program(FLOAT.load()), stored_program(INT.load())


def random_programs(network: str, size: int) -> tuple[Program, Program]:
    """A float and a portable integer program of a network with random weights."""
    torch.manual_seed(0)
    program = fold(capture(create_model(network, 1000, size, {}, None), (3, size, size)))
    x = torch.randint(-128, 128, (2, 3, size, size)).float() / 128
    with warnings.catch_warnings(action="ignore"):  # exponents of random weights
        return program, convert(calibrate(program, lambda: [x], arithmetic=PORTABLE))


def write_files(floating: Program, program: Program, folder: Path) -> None:
    """The files of both programs, as the export stages write them."""
    writers = {"int8_qdq": QdqWriter, "int8_qoperator": QOperatorWriter, "int8_integer": IntegerWriter}
    for name, writer in {"float": FloatWriter, **writers}.items():
        model = writer.export(floating if name == "float" else program, {})
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    if program.is_portable:
        (folder / "int8.tflite").write_bytes(litert_model(program, {}))


def contestants(program: Program, folder: Path, threads: int) -> dict[str, Work]:
    """Each file with what runs it, by name; PyTorch computes with as many threads as it is set to."""
    files: dict[str, Work] = {}
    for name in ("float", "int8_qdq", "int8_qoperator", "int8_integer"):
        mode = "int8" if name == "int8_qdq" else "default"
        files[f"{name}.onnx, ONNX Runtime"] = OnnxModel(folder / f"{name}.onnx", mode, threads)
    if program.is_portable:
        litert = LitertModel(folder / "int8.tflite", "xnnpack", threads)
        files["int8.tflite, LiteRT (XNNPACK)"] = lambda x: litert(_int8(x))
        openvino = openvino_model(folder / "int8_qdq.onnx", threads)
        if openvino:
            files["int8_qdq.onnx, OpenVINO"] = openvino
    if threads == 1 and flash_bytes(program) < LARGE:
        c = CModel(c_source(program, {}))
        files[ALONE] = lambda x: c(_int8(x))
    integer = integer_logits(program)
    files["model.safetensors, PyTorch"] = lambda x: integer(torch.from_numpy(_int8(x).view(np.uint8) ^ 128)).numpy()
    return files


def openvino_model(path: Path, threads: int) -> Work | None:
    """An ONNX file in OpenVINO, on the CPU in float32 where it is not int8; None where OpenVINO is not installed."""
    os.environ.pop("ONEDNN_MAX_CPU_ISA", None)  # it pins PyTorch's instructions in stages, and OpenVINO's, too
    try:
        import openvino
    except ImportError:
        return None
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    return lambda x: request.infer({0: x})[0]


def measured(program: Program, folder: Path, batch: int, threads: int, rounds: int) -> dict[str, float]:
    """Images per second of each contestant that gives the integer model's logits, and of float.onnx."""
    torch.set_num_threads(threads)
    x = np.random.default_rng(0).integers(-128, 128, (batch, *program.input_shape)).astype(np.float32) / 128
    works = contestants(program, folder, threads)
    accumulators = IntegerEvaluator(program)(torch.from_numpy(_int8(x))).flatten(1)
    exact = np.ldexp(accumulators.numpy().astype(np.float64), -program.logit_exponent.numpy())
    expected = {"int8": int8_logits(program, accumulators).numpy()} if program.is_portable else {}
    expected |= {"int32": accumulators.numpy(), "float32": exact}

    def turn(name: str, work: Work) -> Callable[[], int] | None:
        start = time.perf_counter()
        given = np.tile(x, (max(1, ITS_IMAGES // batch) if name == ALONE else 1, 1, 1, 1))
        found = work(given)[:batch].reshape(batch, -1)
        if name != PEER and not np.array_equal(found, expected[found.dtype.name]):
            print(f"{name} is left out: on this processor its logits are not the integer model's")
            return None
        work(given)
        repeats = max(1, round(2 * SECONDS / (time.perf_counter() - start)))

        def repeated() -> int:
            for _ in range(repeats):
                work(given)
            return repeats * len(given)

        return repeated

    turns = {name: turn(name, work) for name, work in works.items()}
    return interleaved({name: repeated for name, repeated in turns.items() if repeated}, rounds)


def table(results: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The printed lines: a row per contestant, a column per way to run it, and the fastest of each column."""
    names = list(dict.fromkeys(name for speeds in results.values() for name in speeds))
    lines = ["images/s (times float.onnx in ONNX Runtime)", _row("", list(results))]
    for name in names:
        cells = [f"{_short(s[name])} ({s[name] / s[PEER]:.2f})" if name in s else "-" for s in results.values()]
        lines.append(_row(name, cells))
    fastest = {column: max(speeds, key=speeds.__getitem__) for column, speeds in results.items()}
    return [*lines, *(f"fastest, {column}: {name}" for column, name in fastest.items())]


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:30}" + "".join(f"{cell:>26}" for cell in cells)


def _short(speed: float) -> str:
    """A speed with three significant digits and commas between thousands."""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def _int8(x: np.ndarray) -> np.ndarray:
    return (x * 128).astype(np.int8)
