"""What each method of calibration is worth on the trained network: dB and top-1 of the logits, and seconds.

    python -m benchmarks methods     reads artifacts/float/model.safetensors and the databases

Each line adds one method to the line above it, but for two, whose exponents of tensors are by a percentile or by
divergence instead of least squared error. The last two are a bound to compare with, which no integer program
reaches by shifts alone: float scales, for each channel of weights and each tensor the best of a grid, in the same
symmetric int8, without and with the same bias correction.
"""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.options import options
from benchmarks.ranges import divergence, percentile, with_ranges
from evaluation.score import predict, score
from fixedpoint.program import INPUT, Evaluator, Op, Program, is_fixed
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.correct import correct_biases, mean_error
from fixedpoint.quantize.qat import FakeQuantModel
from fixedpoint.quantize.reconstruct import reconstruct
from fixedpoint.quantize.refine import refine
from fixedpoint.quantize.scales import with_best_scales
from models.normalization import normalize
from pipeline.cli import run
from pipeline.databases import plain_batches
from pipeline.float_model import float_program
from pipeline.forms import FLOAT
from pipeline.machine import prepare
from pipeline.params import Calibrate, Params, load_params

GRID = [2 ** (-part / 8) for part in range(12)]  # of scales, as fractions of that which covers the largest value


def main() -> None:
    arguments = options("methods")
    params = load_params()
    prepare(params.execution)
    warnings.simplefilter("ignore")  # of tensors that share an exponent
    floating, images = float_program(FLOAT.load()), _images(params, params.calibrate.images)
    corrected = _images(params, params.calibrate.bias_correction)
    reference = FloatEvaluator(floating)
    _show(params, "float", reference, reference, 0)
    for arithmetic in arguments.arithmetic:
        started = time.perf_counter()
        for name, program in methods(floating, images, params, arithmetic):
            _show(params, f"{arithmetic}: {name}", FakeQuantModel(program), reference, time.perf_counter() - started)
            started = time.perf_counter()
    scaled = FloatScales(floating, images)
    _show(params, "float scales", scaled, reference, 0)
    scaled.correct(corrected)
    _show(params, "float scales, bias correction", scaled, reference, 0)


def methods(floating: Program, images: Tensor, params: Params, arithmetic: str) -> Iterator[tuple[str, Program]]:
    """The calibrated program after each method."""
    options: Calibrate = params.calibrate
    for first in ("powers of two", "scales between them"):
        start = floating if first == "powers of two" else with_best_scales(floating, lambda: [images])
        program = calibrate(start, lambda: [images], options.finer_exponents, arithmetic)
        yield first, program
        for choose in (percentile, divergence):
            yield f"  by {choose.__name__}", with_ranges(program, images, choose, options.finer_exponents)
        program = reference = refine(program, _images(params, options.refinement), options.finer_exponents).program
        yield "+ refinement", program
        program = correct_biases(program, _images(params, options.bias_correction))
        yield "+ bias correction", program
        known = _images(params, options.reconstruction)
        *_, program = reconstruct(program, reference, known, options.reconstruction_steps)
        yield "+ reconstruction", program


class FloatScales(FloatEvaluator):
    """A float program whose weights and tensors are rounded to int8 with float scales of least squared error."""

    def __init__(self, program: Program, images: Tensor):
        super().__init__(program)
        self.constants = dict(program.constants)
        for op in (op for op in program.ops if op.weighted):
            rows = program.constants[f"{op.name}.weight"].flatten(1)
            largest = rows.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
            rounded = torch.stack([_rounded(rows, largest * part, -127) for part in GRID])
            best = (rounded - rows).square().sum(2).argmin(0)
            self.constants[f"{op.name}.weight"] = rounded[best, torch.arange(len(rows))].reshape(
                program.constants[f"{op.name}.weight"].shape
            )
        own = {op.name for op in program.ops if not op.keeps_exponent} - program.raw
        self.scales = {name: _best_scale(value) for name, value in FloatEvaluator(program).run(images) if name in own}

    def resume(self, values: dict[str, Tensor], ops: Sequence[Op]) -> Iterator[tuple[str, Tensor]]:
        for op in ops:
            *_, (name, value) = super().resume(values, (op,))
            if name in self.scales:
                value = values[name] = _rounded(value, self.scales[name])
            yield name, value

    @torch.no_grad()
    def correct(self, images: Tensor) -> None:
        """Bias correction, as in `fixedpoint.quantize.correct`."""
        floating = FloatEvaluator(self.program)
        fake, real = {INPUT: images}, {INPUT: images}
        pairs: list[tuple[Evaluator, dict[str, Tensor]]] = [(self, fake), (floating, real)]
        for op in self.program.ops:
            if op.weighted and not is_fixed(op):
                bare = replace(op, clamp=(None, None))
                found, expected = (getattr(each, op.kind)(bare, values[op.inputs[0]]) for each, values in pairs)
                bias = self.constants[f"{op.name}.bias"]
                self.constants[f"{op.name}.bias"] = bias - mean_error(found, expected, op.clamp)
            for evaluator, values in pairs:
                dict(evaluator.resume(values, (op,)))

    def _constant(self, op: Op, name: str, x: Tensor) -> Tensor:
        return self.constants[f"{op.name}.{name}"]


def _best_scale(x: Tensor) -> float:
    largest = max(float(x.abs().max()), 1e-30) / 127
    return min((largest * part for part in GRID), key=lambda scale: float((_rounded(x, scale) - x).square().sum()))


def _rounded(x: Tensor, scale: Tensor | float, low: int = -128) -> Tensor:
    return (x / scale).round().clamp(low, 127) * scale


def _images(params: Params, count: int) -> Tensor:
    return torch.cat([normalize(pixels) for pixels, _ in plain_batches(params, "train", count)])


@torch.no_grad()
def _show(params: Params, name: str, evaluator: Evaluator, reference: Evaluator, seconds: float) -> None:
    found, labels = predict(lambda pixels: evaluator.logits(normalize(pixels)), plain_batches(params))
    expected, _ = predict(lambda pixels: reference.logits(normalize(pixels)), plain_batches(params))
    noise = float((found - expected).square().sum())
    decibels = 10 * math.log10(float(expected.square().sum()) / noise) if noise else math.inf
    agree = 100 * float((found.argmax(1) == expected.argmax(1)).float().mean())
    top1 = score(found, labels)["top1"]
    print(f"{name:36} {decibels:6.1f} dB  {top1:6.2f} %  agrees {agree:6.2f} %  {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    run(main)
