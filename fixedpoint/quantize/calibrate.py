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
    Concat,
    Lookup,
    Op,
    Pad,
    Program,
    is_fixed,
    per_channel,
    power_of_two,
)
from fixedpoint.program.bounds import LIMIT, MAX_SHIFT, accumulator_bound
from fixedpoint.program.constants import bias_grid, integer_biases, integer_weights
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.functions import table
from fixedpoint.program.leaky import negative_branches
from fixedpoint.program.portable import MAX_SHIFT as MAX_PORTABLE_SHIFT
from fixedpoint.program.portable import MIN_SHIFT, lower
from fixedpoint.quantize.limits import COARSEST, FINEST, within_limits

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
        UserWarning: For each tensor that loses more than 2 bits to an exponent that it must share, or that is held
            within what can be seen of it, or finer than it needs (`limits.within_limits`).
    """
    program = lower(program) if arithmetic == PORTABLE else replace(program, weight_limit=2 ** (weight_bits - 1) - 1)
    exponents, zeros, of_logits = _activation_exponents(program, images, finer)
    if program.is_portable:
        program = replace(program, int8_logit_exponent=of_logits)
    allowed = within_limits(program, exponents, zeros)
    for name, exponent in exponents.items():
        if allowed[name] < exponent:
            warnings.warn(
                f"{name} is held at the exponent {allowed[name]}, where {exponent} is its own best: beside what it is "
                "added to, joined with or divided by, no more of it can be seen",
                stacklevel=2,
            )
        elif allowed[name] > exponent and name not in zeros:
            warnings.warn(
                f"{name} saturates: what it is added to, joined with or multiplied by holds it at the exponent "
                f"{allowed[name]}, where {exponent} would cover its values",
                stacklevel=2,
            )
    return with_weight_exponents(with_exponents(program, allowed), finer)


def with_exponents(program: Program, exponents: dict[str, int]) -> Program:
    """The program with these exponents of its tensors, as far as `within_limits` allows them, and with its tables.

    Args:
        program: Any program.
        exponents: Exponents of at least the first tensors in `Program.shared_exponents`, except INPUT.
    """
    found = within_limits(program, exponents)
    program = replace(program, exponents={name: found[first] for name, first in program.shared_exponents().items()})
    return program.with_constants(
        **{f"{op.name}.table": table(program, op) for op in program.ops if isinstance(op, Lookup)}
    )


def with_weight_exponents(program: Program, finer: int) -> Program:
    """The program with the best exponents for its float weights, given those of its tensors."""
    constants: dict[str, Tensor] = {}
    for op in program.ops:
        if op.weighted and not is_fixed(op):
            constants |= _weight_exponents(program, op, finer)
    return program.with_constants(**constants)


def covering_exponent(largest: Tensor, limit: int = 127) -> Tensor:
    """The greatest exponent e with `largest * 2**e <= limit`; int32, 0 for a tensor of zeros."""
    exponent = torch.frexp(limit / largest.double()).exponent  # limit / largest = m * 2**exponent, 0.5 <= m < 1
    return torch.where(largest > 0, exponent - 1, 0).to(torch.int32)


@torch.no_grad()
def _activation_exponents(
    program: Program, images: Callable[[], Iterable[Tensor]], finer: int
) -> tuple[dict[str, int], set[str], int]:
    """The best exponent of each first tensor in `Program.shared_exponents`; those that are always zero; the logits'."""
    evaluator, raw = FloatEvaluator(program), program.raw
    measured = {op.name: op for op in program.ops if op.name not in raw and has_own_values(op)}
    largest = dict.fromkeys([*measured, program.output], torch.tensor(0.0))
    for x in images():
        for name, value in evaluator.run(x):
            if name in largest:
                new = own_values(measured[name], value) if name in measured else value
                largest[name] = torch.maximum(largest[name], new.abs().max().cpu())
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
        tried[first] = [INPUT_EXPONENT] if first == INPUT else range(coarsest, min(coarsest + finer, FINEST) + 1)
    of_member = {name: first for first, names in groups.items() for name in names}
    own = {name: range(covering[name], covering[name] + finer + 1) for name in measured}
    errors = {name: dict.fromkeys([*own[name], *tried[of_member[name]]], 0.0) for name in measured}
    for x in images():
        for name, value in evaluator.run(x):
            for exponent in errors.get(name, ()):
                bounds = replace(program, exponents={name: exponent}).bounds(measured[name])
                errors[name][exponent] += _squared_error(own_values(measured[name], value), exponent, *bounds)
    best = {}
    own_best = {name: min(own[name], key=errors[name].__getitem__) for name in measured}
    sums = negative_branches(program.ops)
    for first, names in groups.items():
        counted = [n for n in names if not isinstance(measured[n], Concat)] or names
        best[first] = min(tried[first], key=lambda exponent: sum(errors[name][exponent] for name in counted))
        for name in counted:
            if isinstance(measured[name], Pad) and own_best[name] >= best[first]:
                continue  # constants may be rounded, not saturated
            if of_member.get(sums.get(name, "")) == first and own_best[sums[name]] == best[first]:
                continue  # no other exponent would be better for the LeakyReLU that it is a part of
            _warn_of_loss(name, best[first], own_best[name], errors[name])
    zeros = {first for first, names in groups.items() if first != INPUT and not any(largest[name] for name in names)}
    return best, zeros, covering[program.output]


def has_own_values(op: Op) -> bool:
    """Whether a result can hold what its operands do not; an operation that only moves values has their errors."""
    low, high = op.clamp
    beyond_zero = (low is not None and low > 0) or (high is not None and high < 0)
    return not op.keeps_exponent or beyond_zero or (isinstance(op, Pad) and any(op.value))


def own_values(op: Op, x: Tensor) -> Tensor:
    """Those of the values `x` [images, channels, ...] of a result that its operands do not hold."""
    if not isinstance(op, Pad):
        return x
    (_, height, width), (top, bottom, left, right), (rows, columns) = op.shape, op.padding, op.between
    padding = torch.ones(height, width, dtype=torch.bool, device=x.device)
    padding[top : height - bottom : 1 + rows, left : width - right : 1 + columns] = False
    values = x[:, :, padding]
    return values[values > -math.inf]  # which stands for the least value that the operand's exponent has


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


def _weight_exponents(program: Program, op: Op, finer: int) -> dict[str, Tensor]:
    """The best exponent of each output channel that keeps its accumulator below 2**24; int32 [out], by its name.

    With the coarsest one allowed, an accumulator of 1 already saturates the result (`MIN_SHIFT`). A channel whose
    accumulator is too large even so gets other constants, which saturate it, too.
    """
    weight, bias = (program.constants[f"{op.name}.{name}"] for name in ("weight", "bias"))
    rows = weight.double().flatten(1)
    covering = covering_exponent(rows.abs().amax(dim=1), program.weight_limit)
    errors = []
    for i in range(finer + 1):
        step = power_of_two(-(covering + i)[:, None], torch.float64)
        errors.append((integer_weights(program, rows, covering + i) * step - rows).square().sum(dim=1))
    result = program.exponents.get(op.name, program.int8_logit_exponent)
    source = program.exponents[op.inputs[0]]
    limits = max(COARSEST, COARSEST - source), min(-COARSEST, -COARSEST - source)
    if result is not None:
        finest = result - source + (MAX_PORTABLE_SHIFT if program.is_portable else MAX_SHIFT)
        limits = max(limits[0], result - source + MIN_SHIFT), min(limits[1], finest)
    exponent = (covering + torch.stack(errors).argmin(dim=0).to(torch.int32)).clamp(*limits)
    if program.is_portable:
        exponent[rows.abs().amax(dim=1) == 0] = limits[1]  # any is exact, and the finest is best for the bias
    left = torch.arange(len(weight))  # the channels whose accumulators may still be too large
    while len(left):
        shift = exponent[left] + source - result if result is not None else None
        grid = bias_grid(program, shift)
        integer_bias = integer_biases(bias[left], exponent[left] + source, grid).clamp(-LIMIT, LIMIT)
        bound = accumulator_bound(program, op, integer_weights(program, weight[left], exponent[left]), integer_bias)
        left = left[bound >= LIMIT]
        exponent[left] -= 1
    lost = exponent < limits[0]
    found = {f"{op.name}.weight_exponent": exponent.clamp(min=limits[0])}
    return found | (_saturating(program, op, lost, found[f"{op.name}.weight_exponent"]) if lost.any() else {})


def _saturating(program: Program, op: Op, lost: Tensor, exponent: Tensor) -> dict[str, Tensor]:
    """The constants of a layer with those of the channels `lost` as small as their accumulators must be."""
    weight, bias = (program.constants[f"{op.name}.{name}"].clone() for name in ("weight", "bias"))
    integer = integer_weights(program, weight, exponent).double()[lost]
    scale = per_channel(LIMIT / 512 / integer.abs().flatten(1).sum(1).clamp(min=LIMIT / 512), integer, 0)
    step = power_of_two(-exponent[lost], torch.float64)
    weight[lost] = (
        (integer * scale / program.weight_step).trunc().mul(program.weight_step * per_channel(step, integer, 0)).float()
    )
    limit = (LIMIT / 2 * step * 2.0 ** -program.exponents[op.inputs[0]]).float()
    bias[lost] = bias[lost].clamp(-limit, limit)
    return {f"{op.name}.weight": weight, f"{op.name}.bias": bias}
