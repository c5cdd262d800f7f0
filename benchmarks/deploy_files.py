"""The files of the contestants of `benchmarks.deploy`: ours, and those that other tools make of the same network."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.deploy_memory import INPUT
from benchmarks.deploy_runtimes import one_line
from benchmarks.quantize import warm
from fixedpoint.c.source import c_source, flash_bytes
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.litert.writer import litert_model
from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from fixedpoint.program import PORTABLE, Program
from fixedpoint.program.integer import IntegerEvaluator, int8_logits
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from models.normalization import normalize
from models.registry import create_model
from pipeline.databases import plain_batches
from pipeline.float_model import float_model
from pipeline.forms import FLOAT, INT, stored_program
from pipeline.params import load_params
from storage.errors import InputError

CLASSES = 1000  # of a network with random weights
LARGE = 10_000_000  # bytes of constants, for which a C compiler takes minutes


@dataclass(frozen=True)
class Network:
    """A network in float, its integer program, and images.

    Attributes:
        title: Of its table.
        model: In eval mode, from float32 [batch, 3, size, size].
        images: float32 [images, 3, size, size], the network's input; whole multiples of 1/128.
    """

    title: str
    model: nn.Module
    program: Program
    images: np.ndarray

    def integer(self, _: Path, x: np.ndarray) -> np.ndarray:
        """The integer model's logits as float64 [batch, classes]."""
        return np.ldexp(self._accumulators(x).numpy().astype(np.float64), -self.program.logit_exponent.numpy())

    def integers(self, logits: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Logits of `integer` as a file gives them: int32 accumulators, or int8."""
        accumulators = torch.from_numpy(np.ldexp(logits, self.program.logit_exponent.numpy()).astype(np.int32))
        return (int8_logits(self.program, accumulators) if dtype == np.int8 else accumulators).numpy()

    def _accumulators(self, x: np.ndarray) -> Tensor:
        return IntegerEvaluator(self.program)(torch.from_numpy((x * 128).astype(np.int8))).flatten(1)


def network_of(name: str, images: int) -> Network:
    """The pipeline's network for `sample`, with images of its data, or the network NAME:SIZE with random weights.

    Raises:
        InputError: If `name` is neither.
    """
    if name == "sample":
        params, stored = load_params(), FLOAT.load()
        size = stored.info.image_size
        x = torch.cat([normalize(pixels) for pixels, _ in plain_batches(params, "train", images)])
        return Network(f"{stored.info.name}, {size} px", float_model(stored), stored_program(INT.load()), x.numpy())
    title, _, text = name.rpartition(":")
    if not text.isdecimal() or not title:
        raise InputError(f"network {name!r} is not allowed, must be sample or NAME:SIZE, such as resnet18:224")
    size = int(text)
    torch.manual_seed(0)
    x = normalize(_pixels(images, size))
    model = create_model(title, CLASSES, size, {}, None)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # a branch that begins at zero is no work to who leaves it out
    model = warm(model, x).eval()
    program = convert(calibrate(fold(capture(model, (3, size, size))), lambda: [x], arithmetic=PORTABLE))
    return Network(f"{title}, {size} px, random weights", model, program, np.ascontiguousarray(x.numpy()))


def _pixels(images: int, size: int) -> Tensor:
    """Random uint8 pixels [images, 3, size, size] with details of all sizes, as photographs have them."""
    x = torch.zeros(images, 3, size, size)
    for cells in (2, 4, 8, 16, 32):
        x += (
            functional.interpolate(torch.randn(images, 3, cells, cells), (size, size), mode="bilinear")
            * 60
            / cells**0.5
        )
    return (x + 128).clamp(0, 255).to(torch.uint8)


def write_files(network: Network, folder: Path, batches: Iterable[int]) -> dict[str, str]:
    """Write the files of all contestants; the errors of those that could not be made, by file name."""
    program, x = network.program, torch.from_numpy(network.images)
    channels, height, width = x.shape[1:]
    floating = fold(capture(network.model, (channels, height, width)))
    makers: dict[str, Callable[[Path], object]] = {
        "float.onnx": partial(_write_onnx, FloatWriter, floating),
        "int8_qdq.onnx": partial(_write_onnx, QdqWriter, program),
        "int8_qoperator.onnx": partial(_write_onnx, QOperatorWriter, program),
        "int8_integer.onnx": partial(_write_onnx, IntegerWriter, program),
        "int8.tflite": lambda path: path.write_bytes(litert_model(program, {})),
        "network.c": partial(_write_c, program),
        "static.onnx": partial(static_qdq, folder / "float.onnx", network.images),
        "pt2e.pt2": partial(pt2e, network.model, x),
    }
    for batch in batches:
        makers[f"float_{batch}.tflite"] = partial(litert_float, network.model, x[:batch])
        makers[f"static_{batch}.tflite"] = partial(litert_int8, folder / f"float_{batch}.tflite", network.images)
    np.save(folder / INPUT, network.images[:1])
    errors = {}
    for name, make in makers.items():
        try:
            make(folder / name)
        except Exception as error:  # a peer's may be any; it is shown in the table
            errors[name] = one_line(error)
    return errors


def _write_onnx(
    writer: type[FloatWriter | QdqWriter | QOperatorWriter | IntegerWriter], program: Program, path: Path
) -> None:
    path.write_bytes(writer.export(program, {}).SerializeToString())


def _write_c(program: Program, path: Path) -> None:
    if flash_bytes(program) > LARGE:
        raise InputError(f"left out: {flash_bytes(program):,} bytes of constants take a C compiler minutes")
    for name, text in c_source(program, {}).items():
        path.with_name(name).write_text(text)


class _Images(CalibrationDataReader):
    def __init__(self, images: np.ndarray):
        self._batches = iter(np.array_split(images, max(1, len(images) // 8)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(({"input": batch} for batch in self._batches), None)


def static_qdq(floating: Path, images: np.ndarray, path: Path) -> None:
    """ONNX Runtime's quantize_static with its defaults, and weights per channel."""
    quantize_static(floating, path, _Images(images), quant_format=QuantFormat.QDQ, per_channel=True)


def pt2e(model: nn.Module, images: Tensor, path: Path) -> None:
    """torchao's quantization after training, of PT2E for x86; the program of any batch."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    shapes = ({0: torch.export.Dim("batch", min=1, max=1024)},)
    exported = torch.export.export(model, (images[:2],), dynamic_shapes=shapes)
    prepared = prepare_pt2e(exported.module(), quantizer)
    with torch.no_grad():
        for batch in images.split(8):
            prepared(batch)
    converted = convert_pt2e(prepared)
    torch.export.save(torch.export.export(converted, (images[:2],), dynamic_shapes=shapes), path)


def litert_float(model: nn.Module, x: Tensor, path: Path) -> None:
    """Google's converter of PyTorch's networks, litert-torch."""
    import litert_torch

    litert_torch.convert(model, (x,)).export(str(path))


def litert_int8(floating: Path, images: np.ndarray, path: Path) -> None:
    """Google's ai-edge-quantizer: static int8 of weights, per channel, and activations."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    interpreter = Interpreter(str(floating))
    [(signature, names)] = interpreter.get_signature_list().items()
    batch = interpreter.get_input_details()[0]["shape"][0]
    given = [{names["inputs"][0]: images[i : i + batch]} for i in range(0, len(images) // batch * batch, batch)]
    tool = quantizer.Quantizer(str(floating))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    path.write_bytes(tool.quantize(tool.calibrate({signature: given})).quantized_model)
