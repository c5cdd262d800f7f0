"""Scales of activations between the powers of two, at no cost: the weights take them in.

A positive factor passes through ReLU, max pools and means. So the tensor of a layer that only layers read can be
multiplied by s, in the layer's weights, bias and clamp, and divided by s in the weights of its readers: the float
network is the same, and the power of two that its step must be stands for any step. That is cross-layer equalization
(Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.1) with one factor a tensor, chosen for the error of
the tensor.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from fixedpoint.program import Op, Program, is_fixed
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.portable import scaled_readers

PARTS = 8  # factors in an octave
OCTAVES = 2  # of finer scales that are tried, from that on which covers the largest value


@torch.no_grad()
def with_best_scales(program: Program, images: Callable[[], Iterable[Tensor]]) -> Program:
    """A folded float program in which powers of two are better scales; it computes the same.

    Args:
        program: A folded float program.
        images: As in `calibrate`.
    """
    free = {op.name: op for op in program.ops if _is_free(program, op)}
    evaluator = FloatEvaluator(program)
    largest = dict.fromkeys(free, 0.0)
    for x in images():
        for name, value in evaluator.run(x):
            if name in free:
                largest[name] = max(largest[name], float(value.abs().max()))
    scales = {name: _scales(value) for name, value in largest.items() if 0 < value < float("inf")}
    errors = {name: torch.zeros(len(tried), dtype=torch.float64) for name, tried in scales.items()}
    for x in images():
        for name, value in evaluator.run(x):
            if name in scales:
                errors[name] += torch.stack([_squared_error(value, scale) for scale in scales[name]])
    for name, error in errors.items():
        program = _multiplied(program, free[name], 2 ** (int(error.argmin()) % PARTS / PARTS))
    return program


def _is_free(program: Program, op: Op) -> bool:
    # any factor but 1, with which a tensor beside it in a concatenation has the same
    return op.weighted and not is_fixed(op) and op.name not in program.raw and _divided(program, op, 2.0) is not None


def _divided(program: Program, op: Op, factor: float) -> dict[str, Tensor] | None:
    """The weights that divide the result of `op` by a factor; None if something else reads it."""
    return scaled_readers(program, op.name, torch.full(op.shape[:1], 1 / factor, dtype=torch.float64))


def _scales(largest: float) -> list[float]:
    """The scales of OCTAVES octaves, from the greatest power of two on with which int8 holds `largest`."""
    covering = torch.frexp(torch.tensor(127 / largest, dtype=torch.float64)).exponent.item() - 1
    return [2 ** (covering + part / PARTS) for part in range(OCTAVES * PARTS)]


def _squared_error(x: Tensor, scale: float) -> Tensor:
    return ((x * scale).round_().clamp_(-128, 127).div_(scale).sub_(x)).square_().sum(dtype=torch.float64)


def _multiplied(program: Program, op: Op, factor: float) -> Program:
    """The program with the result of `op` multiplied by a factor, and divided again where it is read."""
    constants = _divided(program, op, factor)
    assert constants is not None
    for name in ("weight", "bias"):
        constants[f"{op.name}.{name}"] = program.constants[f"{op.name}.{name}"] * factor
    low, high = (None if bound is None else bound * factor for bound in op.clamp)
    scaled = replace(op, clamp=(low, high))
    ops = tuple(scaled if each.name == op.name else each for each in program.ops)
    return replace(program, ops=ops, constants=program.constants | constants)
