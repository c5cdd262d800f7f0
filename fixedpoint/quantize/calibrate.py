"""Calibration: one exponent for each activation and for each weight channel.

It tries the exponent that just covers the largest value and a few finer ones, which saturate the largest values but
resolve the others better, and keeps the one with the least squared error. Tensors that must have one exponent
(`Program.shared_exponents`) are tried together.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program import (
    EXACT8,
    INPUT,
    INPUT_EXPONENT,
    PORTABLE,
    AvgPool,
    Concat,
    Lookup,
    Op,
    Program,
    is_fixed,
    power_of_two,
)
from fixedpoint.program.bounds import LIMIT, MAX_DIVISOR, MAX_SHIFT, accumulator_bound
from fixedpoint.program.constants import bias_grid, integer_biases, integer_weights
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.functions import table
from fixedpoint.program.portable import MAX_SHIFT as MAX_PORTABLE_SHIFT
from fixedpoint.program.portable import least_exponent, lower

FINEST = 64  # with it, the scales of weights and accumulators are still normal float32 numbers
LOST = 2  # bits: a tensor that loses more by sharing an exponent causes a warning


def calibrate(
    program: Program,
    images: Callable[[], Iterable[Tensor]],
    finer: int = 3,
    arithmetic: str = EXACT8,
    weight_bits: int = 8,
) -> Program:
    """Give a folded float program its exponents and its tables.

    Args:
        program: A folded float program.
        images: Called twice; each call gives the same batches of network input, float32 [batch, channels, h, w].
        finer: Number of exponents to try beyond the one that covers the largest value.
        arithmetic: PORTABLE or EXACT8.
        weight_bits: Bits of weights in EXACT8: 8, or 7, with which ONNX Runtime's defaults are exact on every x86 CPU.

    Returns:
        The program with `exponents`, `<op>.weight_exponent` and `<op>.table` constants; its weights stay float. In
        portable arithmetic its operations are those of `portable.lower`.

    Raises:
        QuantizationError: If the network has operations that portable arithmetic does not have, or gives infinite
            values or NaN.

    Warns:
        UserWarning: For each tensor that loses more than 2 bits to an exponent that it must share.
    """
    program = lower(program) if arithmetic == PORTABLE else replace(program, weight_limit=2 ** (weight_bits - 1) - 1)
    exponents, of_logits = _activation_exponents(program, images, finer)
    if program.is_portable:
        program = replace(program, int8_logit_exponent=of_logits)
    return with_weight_exponents(with_exponents(program, exponents), finer)


def with_exponents(program: Program, exponents: dict[str, int]) -> Program:
    """The program with these exponents of its tensors, as far as its operations allow them, and with its tables.

    Args:
        program: Any program.
        exponents: Exponents of at least the first tensors in `Program.shared_exponents`, except INPUT.
    """
    shared = program.shared_exponents()
    ops = {op.name: op for op in program.ops if op.name in shared}
    found = exponents | {INPUT: INPUT_EXPONENT}
    for name, op in ops.items():
        if program.is_portable and shared[name] != INPUT:
            found[shared[name]] = max(found[shared[name]], least_exponent(op))
    for name, op in ops.items():
        found[name] = found[shared[name]]
        if isinstance(op, AvgPool):
            most = ((MAX_DIVISOR - 1) // (op.kernel[0] * op.kernel[1])).bit_length() - 1
            found[name] = max(found[name], found[op.inputs[0]] - most)
    program = replace(program, exponents=found)
    return program.with_constants(
        **{f"{op.name}.table": table(program, op) for op in program.ops if isinstance(op, Lookup)}
    )


def with_weight_exponents(program: Program, finer: int) -> Program:
    """The program with the best exponents for its float weights, given those of its tensors."""
    weighted = [op for op in program.ops if op.weighted and not is_fixed(op)]
    exponents = {f"{op.name}.weight_exponent": _weight_exponents(program, op, finer) for op in weighted}
    return program.with_constants(**exponents)


def covering_exponent(largest: Tensor, limit: int = 127) -> Tensor:
    """The greatest exponent e with `largest * 2**e <= limit`; int32, 0 for a tensor of zeros."""
    exponent = torch.frexp(limit / largest.double()).exponent  # limit / largest = m * 2**exponent, 0.5 <= m < 1
    return torch.where(largest > 0, exponent - 1, 0).to(torch.int32)


@torch.no_grad()
def _activation_exponents(
    program: Program, images: Callable[[], Iterable[Tensor]], finer: int
) -> tuple[dict[str, int], int]:
    """The best exponent of each first tensor in `Program.shared_exponents`, and the one that covers the logits."""
    evaluator, raw = FloatEvaluator(program), program.raw
    # an operation that only moves values has the errors of its operands
    measured = {op.name: op for op in program.ops if op.name not in raw and not op.keeps_exponent}
    largest = dict.fromkeys([*measured, program.output], torch.tensor(0.0))
    for x in images():
        for name, value in evaluator.run(x):
            if name in largest:
                largest[name] = torch.maximum(largest[name], value.abs().max().cpu())
    for name, value in largest.items():
        if not value.isfinite():
            raise QuantizationError(f"{name} has infinite values or NaN on the images of the calibration")
    covering = {name: min(int(covering_exponent(value)), FINEST) for name, value in largest.items()}
    groups: dict[str, list[str]] = {}
    for name, first in program.shared_exponents().items():
        if name in measured:
            groups.setdefault(first, []).append(name)
    tried = {}
    for first, names in groups.items():
        coarsest = min((covering[name] for name in names if largest[name] > 0), default=0)  # zeros do not count
        tried[first] = [INPUT_EXPONENT] if first == INPUT else range(coarsest, coarsest + finer + 1)
    of_member = {name: first for first, names in groups.items() for name in names}
    own = {name: range(covering[name], covering[name] + finer + 1) for name in measured}
    errors = {name: dict.fromkeys([*own[name], *tried[of_member[name]]], 0.0) for name in measured}
    for x in images():
        for name, value in evaluator.run(x):
            for exponent in errors.get(name, ()):
                bounds = replace(program, exponents={name: exponent}).bounds(measured[name])
                errors[name][exponent] += _squared_error(value, exponent, *bounds)
    best = {}
    for first, names in groups.items():
        counted = [n for n in names if not isinstance(measured[n], Concat)] or names
        best[first] = min(tried[first], key=lambda exponent: sum(errors[name][exponent] for name in counted))
        for name in counted:
            _warn_of_loss(name, best[first], min(own[name], key=errors[name].__getitem__), errors[name])
    return best, covering[program.output]


def _warn_of_loss(name: str, shared: int, own: int, errors: dict[int, float]) -> None:
    if shared == own or errors[shared] <= errors[own] or errors[own] == 0:
        return
    decibels = 10 * math.log10(errors[shared] / errors[own])
    if decibels > LOST * 20 * math.log10(2):
        warnings.warn(
            f"{name} must share the exponent {shared} of the tensors it is added to or joined with; with {own}, its "
            f"own best, its quantization noise would be {decibels:.1f} dB lower",
            stacklevel=2,
        )


def _squared_error(x: Tensor, exponent: int, low: int, high: int) -> float:
    scaled = x * 2.0**exponent
    error = scaled.round().clamp_(low, high).sub_(scaled)
    return float(error.square_().sum(dtype=torch.float64)) * 4.0**-exponent


def _weight_exponents(program: Program, op: Op, finer: int) -> Tensor:
    """The best exponent of each output channel that keeps its accumulator below 2**24; int32 [out]."""
    weight, bias = (program.constants[f"{op.name}.{name}"] for name in ("weight", "bias"))
    rows = weight.double().flatten(1)
    covering = covering_exponent(rows.abs().amax(dim=1), program.weight_limit)
    errors = []
    for i in range(finer + 1):
        step = power_of_two(-(covering + i)[:, None], torch.float64)
        errors.append((integer_weights(program, rows, covering + i) * step - rows).square().sum(dim=1))
    result = program.exponents.get(op.name, program.int8_logit_exponent)
    source = program.exponents[op.inputs[0]]
    finest = (result or 0) + (MAX_PORTABLE_SHIFT if program.is_portable else MAX_SHIFT) - source
    exponent = (covering + torch.stack(errors).argmin(dim=0).to(torch.int32)).clamp(max=finest)  # for tiny weights
    if program.is_portable:
        exponent[rows.abs().amax(dim=1) == 0] = finest  # any is exact, and the finest is best for the bias
    left = torch.arange(len(weight))  # the channels whose accumulators may still be too large
    while len(left):
        shift = exponent[left] + source - result if result is not None else None
        grid = bias_grid(program, shift)
        integer_bias = integer_biases(bias[left], exponent[left] + source, grid).clamp(-LIMIT, LIMIT)
        bound = accumulator_bound(program, op, integer_weights(program, weight[left], exponent[left]), integer_bias)
        left = left[bound >= LIMIT]
        exponent[left] -= 1
    return exponent
