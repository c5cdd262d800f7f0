"""From a PyTorch module and images to integers that every runtime computes alike, in a notebook or another program.

    quantized = quantize(network, images)
    quantized.save_tflite("network.tflite")

It needs PyTorch and NumPy; a writer imports what it writes with. docs/python.md has examples.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fixedpoint.c.source import c_source
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.capture.normalization import behind_normalization
from fixedpoint.errors import QuantizationError
from fixedpoint.program import EXACT8, PORTABLE, Program
from fixedpoint.program.integer import integer_logits, signed_pixels
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases
from fixedpoint.quantize.qat import FakeQuantModel
from fixedpoint.quantize.reconstruct import reconstruct
from fixedpoint.quantize.refine import refine
from fixedpoint.quantize.scales import with_best_scales

BATCH = 100  # images that are computed at a time if they come as one tensor


def network_input(pixels: Tensor) -> Tensor:
    """The input of `Quantized.trainable` and of networks without normalization: float32 (p - 128) / 128 of pixels p."""
    return signed_pixels(pixels) / 128


class Quantized:
    """A quantized network.

    Attributes:
        program: The integer program: int8 weights, int32 biases, exponents.
        calibrated: The same with float weights and biases, which QAT trains.
        floating: The float network, BatchNorm folded.
        metadata: JSON values about the network for the files.
    """

    def __init__(self, floating: Program, calibrated: Program, metadata: Mapping[str, object]):
        self.program, self.calibrated, self.floating = convert(calibrated), calibrated, floating
        self.metadata = metadata
        self._logits = integer_logits(self.program)

    def __repr__(self) -> str:
        shape, classes = list(self.program.input_shape), self.program.last_layer.shape[0]
        return f"Quantized({self.program.arithmetic}, {shape} -> {classes}, {len(self.program.ops)} operations)"

    def __reduce__(self) -> tuple:
        return Quantized, (self.floating, self.calibrated, self.metadata)

    def __call__(self, pixels: Tensor) -> Tensor:
        """The integer model's logits times their powers of two, float32 [n, classes]; computed on the CPU.

        Args:
            pixels: uint8 [n, channels, height, width].

        Raises:
            QuantizationError: If they have another type or shape.
        """
        _check(pixels, self.program.input_shape, "the pixels")
        return self._logits(pixels)

    def trainable(self) -> FakeQuantModel:
        """A module for quantization-aware training, which computes the integers' values and has gradients.

        Its input is `network_input` of pixels. After each step of the optimizer its method `project` must be called.
        """
        return FakeQuantModel(self.calibrated)

    def from_trained(self, model: FakeQuantModel) -> "Quantized":
        """The quantized network of a module of `trainable`, after its training.

        Raises:
            QuantizationError: If an accumulator could leave the exact range because `project` was not called.
        """
        return Quantized(self.floating, model.trained(), self.metadata)

    def save_tflite(self, path: str | Path, logits: str = "int8") -> None:
        """Write the file for LiteRT, TensorFlow Lite for Microcontrollers and NPUs.

        Args:
            path: Its folder is made if it is missing.
            logits: Type of the logits: int8, or int16 with up to 8 more bits, so that fewer of many classes tie.

        Raises:
            OSError: If LiteRT (ai-edge-litert) is not installed, or the file cannot be written.
            QuantizationError: If the arithmetic is not portable, or `logits` is another type.
        """
        from fixedpoint.litert.writer import litert_model

        _write(Path(path), litert_model(self.program, self.metadata, logits))

    def save_onnx(self, folder: str | Path) -> None:
        """Write float.onnx, int8_qdq.onnx, int8_qoperator.onnx and int8_integer.onnx.

        Raises:
            OSError: If a file cannot be written.
            QuantizationError: If names of modules collide.
        """
        from fixedpoint.onnx.float import FloatWriter
        from fixedpoint.onnx.integer import IntegerWriter
        from fixedpoint.onnx.qdq import QdqWriter
        from fixedpoint.onnx.qoperator import QOperatorWriter

        models = {"float": FloatWriter.export(self.floating, self.metadata)}
        for name, writer in {"qdq": QdqWriter, "qoperator": QOperatorWriter, "integer": IntegerWriter}.items():
            models[f"int8_{name}"] = writer.export(self.program, self.metadata)
        for name, model in models.items():
            _write(Path(folder, f"{name}.onnx"), model.SerializeToString(deterministic=True))

    def save_c(self, folder: str | Path, name: str = "network") -> None:
        """Write network.c, network.h and main.c: C99 without floating point, allocation or library.

        Args:
            folder: It is made if it is missing.
            name: What stands in the place of `network` in all names, so that one C program can hold several networks;
                main.c is then <name>_main.c.

        Raises:
            OSError: If a file cannot be written.
            QuantizationError: If the name is not allowed.
        """
        for file, text in c_source(self.program, self.metadata, name).items():
            _write(Path(folder, file), text.encode())


def quantize(
    network: nn.Module,
    images: Tensor | Iterable[Tensor],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    metadata: Mapping[str, object] | None = None,
    arithmetic: str = PORTABLE,
    weight_bits: int = 8,
    finer_exponents: int = 3,
    refinement: int = 64,
    bias_correction: int = 256,
    reconstruction: int = 0,
    reconstruction_steps: int = 100,
) -> Quantized:
    """Quantize a float network that gives logits [n, classes]; the module itself does not change.

    Args:
        network: Any module of the operations in docs/networks.md; computed in eval mode, on the CPU.
        images: Some hundred training images, prepared as for validation: uint8 [n, channels, height, width], a tensor
            or batches. All are in memory at once.
        mean: Mean of the network's own normalization `(p / 255 - mean) / std` of pixels p, one number per channel; both
            None: `(p - 128) / 128`.
        std: See `mean`.
        class_names: Class names for the files' metadata.
        metadata: Further JSON values for the files' metadata.
        arithmetic: "portable", the same bits in every runtime; or "exact8", with any operation and without .tflite.
        weight_bits: Bits of weights in exact8: 8, or 7, with which ONNX Runtime runs the QDQ file exactly on any x86.
        finer_exponents: Number of exponents to try beyond the one that covers the largest value.
        refinement: Number of images for refinement; 0: none.
        bias_correction: Number of images for bias correction; 0: none.
        reconstruction: Number of images on which the rounding of weights is learned, block by block; 0: none.
        reconstruction_steps: Steps for each block.

    Raises:
        QuantizationError: If an argument is not allowed, or the network cannot be quantized.

    Warns:
        UserWarning: If a tensor must share an exponent far from its own best.
    """
    _check_options(
        arithmetic,
        weight_bits,
        finer_exponents=finer_exponents,
        refinement=refinement,
        bias_correction=bias_correction,
        reconstruction=reconstruction,
        reconstruction_steps=reconstruction_steps,
    )
    batches = _batches(images)
    channels, height, width = batches[0].shape[1:]
    floating = capture(network, (channels, height, width))
    if mean is not None or std is not None:
        floating = behind_normalization(floating, mean, std)
    floating = fold(floating)
    about = _metadata(class_names, metadata, floating.last_layer.shape[0])
    pixels = torch.cat(batches)

    def some(count: int) -> Tensor:
        """Network input of at most `count` images, drawn at random, as they may be ordered by class."""
        drawn = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:count]
        return network_input(pixels[drawn.sort().values])

    scaled = with_best_scales(floating, lambda: map(network_input, batches))
    program = calibrate(scaled, lambda: map(network_input, batches), finer_exponents, arithmetic, weight_bits)
    if refinement:
        program = refine(program, some(refinement), finer_exponents).program
    reference = program  # with the float network's constants
    if bias_correction:
        program = correct_biases(program, some(bias_correction))
    if reconstruction:
        *_, program = reconstruct(program, reference, some(reconstruction), reconstruction_steps)
    return Quantized(floating, program, about)


def _check_options(arithmetic: str, weight_bits: int, **counts: int) -> None:
    if arithmetic not in (PORTABLE, EXACT8):
        raise QuantizationError(f"arithmetic must be {PORTABLE} or {EXACT8}, not {arithmetic!r}")
    allowed = (8,) if arithmetic == PORTABLE else (7, 8)
    if weight_bits not in allowed:
        raise QuantizationError(
            f"weight_bits of {arithmetic} must be {' or '.join(map(str, allowed))}, not {weight_bits}"
        )
    for name, count in counts.items():
        if count < 0:
            raise QuantizationError(f"{name} must be 0 or more, not {count}")


def _batches(images: Tensor | Iterable[Tensor]) -> list[Tensor]:
    """The batches on the CPU, channels first in memory, so that equal images give equal results."""
    batches: Iterator[Any] = iter(images.split(BATCH) if isinstance(images, Tensor) else images)
    found: list[Tensor] = []
    for batch in batches:
        _check(batch, tuple(found[0].shape[1:]) if found else None, f"batch {len(found)} of the images")
        found.append(batch.cpu().contiguous())
    if not found:
        raise QuantizationError("there are no images to calibrate on")
    return found


def _check(pixels: Any, shape: tuple[int, ...] | None, what: str) -> None:
    """Raise QuantizationError if `pixels` are not uint8 [n, *shape]; None: any three sizes."""
    if not isinstance(pixels, Tensor):
        raise QuantizationError(f"{what} must be a uint8 tensor, not {type(pixels).__name__}; leave out labels")
    fits = pixels.dim() == 4 and len(pixels) > 0 and shape in (None, tuple(pixels.shape[1:]))
    if pixels.dtype != torch.uint8 or not fits:
        sizes = "channels, height, width" if shape is None else ", ".join(map(str, shape))
        found = f"{str(pixels.dtype).removeprefix('torch.')} {list(pixels.shape)}"
        raise QuantizationError(f"{what} must be uint8 [n, {sizes}], not {found}")


def _metadata(
    class_names: Sequence[str] | None, metadata: Mapping[str, object] | None, classes: int
) -> dict[str, object]:
    about = {**(metadata or {}), **({} if class_names is None else {"class_names": [*class_names]})}
    if not all(isinstance(key, str) for key in about):
        raise QuantizationError("metadata must have strings as keys")
    if class_names is not None and len(class_names) != classes:
        raise QuantizationError(f"class_names has {len(class_names)} names, and the network {classes} logits")
    try:
        json.dumps(about, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise QuantizationError(f"metadata must be JSON values: {error}") from None
    return about


def _write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
