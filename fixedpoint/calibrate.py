"""Calibration: one exponent for each activation and for each weight channel.

Tried are the exponent that just covers the largest value and a few finer ones, which saturate the largest values but
resolve the others better; kept is the one with the least squared error.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from fixedpoint.bounds import LIMIT, MAX_DIVISOR, MAX_SHIFT, accumulator_bound, integers
from fixedpoint.floating import FloatEvaluator
from fixedpoint.functions import table
from fixedpoint.program import (
    INPUT,
    INPUT_EXPONENT,
    SAME_EXPONENT_KINDS,
    WEIGHTED_KINDS,
    AvgPool,
    Lookup,
    Op,
    Program,
    power_of_two,
)


def calibrate(
    program: Program, images: Callable[[], Iterable[Tensor]], finer: int = 3, weight_bits: int = 8
) -> Program:
    """Give a folded float program its exponents and its tables.

    Args:
        program: Folded.
        images: Called twice; each call gives the same batches of network input, float32 [batch, channels, h, w].
        finer: How many exponents to try beyond the one that covers the largest value.
        weight_bits: 8, or 7, with which ONNX Runtime's default options are exact on every x86 CPU.

    Returns:
        The program with `exponents`, `<op>.weight_exponent` and `<op>.table` constants; its weights stay float.
    """
    program = replace(program, weight_limit=2 ** (weight_bits - 1) - 1)
    exponents = _activation_exponents(program, with_own_exponent(program), images, finer)
    return with_weight_exponents(with_exponents(program, {INPUT: INPUT_EXPONENT} | exponents), finer)


def with_own_exponent(program: Program) -> list[Op]:
    """The operations whose results have an exponent that can be chosen."""
    raw = program.raw
    return [op for op in program.ops if op.name not in raw and op.kind not in SAME_EXPONENT_KINDS]


def with_exponents(program: Program, exponents: dict[str, int]) -> Program:
    """The program with these exponents of its tensors, as far as its operations allow them, and with its tables."""
    exponents, raw = dict(exponents), program.raw
    for op in program.ops:
        if op.kind in SAME_EXPONENT_KINDS and op.name not in raw:
            exponents[op.name] = exponents[op.inputs[0]]
        if isinstance(op, AvgPool) and op.name not in raw:
            most = ((MAX_DIVISOR - 1) // (op.kernel[0] * op.kernel[1])).bit_length() - 1
            exponents[op.name] = max(exponents[op.name], exponents[op.inputs[0]] - most)
    program = replace(program, exponents=exponents)
    return program.with_constants(
        **{f"{op.name}.table": table(program, op) for op in program.ops if isinstance(op, Lookup)}
    )


def with_weight_exponents(program: Program, finer: int) -> Program:
    """The program with the best exponents of its weights, float constants and calibrated tensors given."""
    weighted = [op for op in program.ops if op.kind in WEIGHTED_KINDS]
    exponents = {f"{op.name}.weight_exponent": _weight_exponents(program, op, finer) for op in weighted}
    return program.with_constants(**exponents)


def covering_exponent(largest: Tensor, limit: int = 127) -> Tensor:
    """The greatest exponent e with `largest * 2**e <= limit`; int32, 0 for a tensor of zeros."""
    exponent = torch.frexp(limit / largest.double()).exponent  # limit / largest = m * 2**exponent, 0.5 <= m < 1
    return torch.where(largest > 0, exponent - 1, 0).to(torch.int32)


@torch.no_grad()
def _activation_exponents(
    program: Program, ops: list[Op], images: Callable[[], Iterable[Tensor]], finer: int
) -> dict[str, int]:
    evaluator, wanted = FloatEvaluator(program), {op.name: op for op in ops}
    largest = dict.fromkeys(wanted, torch.tensor(0.0))
    for x in images():
        for name, value in evaluator.run(x):
            if name in wanted:
                largest[name] = torch.maximum(largest[name], value.abs().max().cpu())
    covering = {name: int(covering_exponent(value)) for name, value in largest.items()}
    errors = {name: torch.zeros(finer + 1, dtype=torch.float64) for name in wanted}
    for x in images():
        for name, value in evaluator.run(x):
            if name in wanted:
                for i in range(finer + 1):
                    candidate = replace(program, exponents={name: covering[name] + i})
                    errors[name][i] += _squared_error(value, covering[name] + i, *candidate.bounds(wanted[name]))
    return {name: covering[name] + int(error.argmin()) for name, error in errors.items()}


def _squared_error(x: Tensor, exponent: int, low: int, high: int) -> float:
    scaled = x * 2.0**exponent
    error = scaled.round().clamp_(low, high).sub_(scaled)
    return float(error.square_().sum(dtype=torch.float64)) * 4.0**-exponent


def _weight_exponents(program: Program, op: Op, finer: int) -> Tensor:
    """The best exponent of each output channel that keeps its accumulator below 2**24; int32 [out]."""
    weight, bias = (program.constants[f"{op.name}.{name}"] for name in ("weight", "bias"))
    rows = weight.double().flatten(1)
    limit = program.weight_limit
    covering = covering_exponent(rows.abs().amax(dim=1), limit)
    errors = []
    for i in range(finer + 1):
        step = power_of_two(-(covering + i)[:, None], torch.float64)
        errors.append((integers(rows, covering + i, limit) * step - rows).square().sum(dim=1))
    finest = program.exponents.get(op.name, 0) + MAX_SHIFT - program.exponents[op.inputs[0]]
    exponent = (covering + torch.stack(errors).argmin(dim=0).to(torch.int32)).clamp(max=finest)  # a dead channel's
    left = torch.arange(len(weight))  # the channels whose accumulators may still be too large
    while len(left):
        integer_bias = integers(bias[left], exponent[left] + program.exponents[op.inputs[0]], LIMIT)
        bound = accumulator_bound(program, op, integers(weight[left], exponent[left], limit), integer_bias)
        left = left[bound >= LIMIT]
        exponent[left] -= 1
    return exponent
