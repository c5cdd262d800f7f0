"""The proof behind "float32 is exact": no accumulator can reach 2**24, whatever the image."""

import torch
from torch import Tensor

from fixedpoint.program import WEIGHTED_KINDS, Add, AvgPool, Op, Program, per_channel, power_of_two

LIMIT = 2**24  # every integer below is a float32, and so is every sum that stays below
MAX_SHIFT = 38  # an accumulator below 2**24, shifted left by so much, and a divisor of 2**38 stay far inside int64


def accumulator_bound(program: Program, op: Op, weight: Tensor, bias: Tensor) -> Tensor:
    """Upper bound of |accumulator|, `max|x| * sum|w| + |b|`, which also bounds each partial sum.

    Args:
        program: Calibrated.
        op: A conv or linear.
        weight: Its integers [out, ...].
        bias: Its integers [out].

    Returns:
        int64 [out].
    """
    largest = max(abs(bound) for bound in program.input_bounds(op))
    return weight.long().abs().flatten(1).sum(dim=1) * largest + bias.long().abs()


def layer_bounds(program: Program) -> dict[str, Tensor]:
    """`accumulator_bound` of each conv and linear of an integer program, by name."""
    return {
        op.name: accumulator_bound(program, op, *(program.constants[f"{op.name}.{c}"] for c in ("weight", "bias")))
        for op in program.ops
        if op.kind in WEIGHTED_KINDS
    }


def check_exactness(program: Program) -> None:
    """Prove that each operation of an integer program is exact in float32.

    Raises:
        ValueError: Naming the operation and, for a conv or linear, the channel and its bound.
    """
    layers = layer_bounds(program)
    for op in program.ops:
        if op.name in layers:
            bound, channel = layers[op.name].max(dim=0)
            if bound >= LIMIT:
                raise ValueError(
                    f"{op.name}: the accumulator of channel {int(channel)} can reach {int(bound)}; below 2**24 is exact"
                )
            if op.name in program.exponents:
                shift = program.accumulator_exponent(op) - program.exponents[op.name]
                if int(shift.abs().max()) > MAX_SHIFT:
                    raise ValueError(f"{op.name}: a shift of its accumulators in {shift.tolist()} exceeds {MAX_SHIFT}")
        elif isinstance(op, Add):
            exponents = [program.exponents[name] for name in op.inputs]
            total = sum(128 << (max(exponents) - e) for e in exponents)
            if total >= LIMIT:
                raise ValueError(f"{op.name}: operands with exponents {exponents} can sum to {total}, not below 2**24")
        elif isinstance(op, AvgPool):
            # a quotient that is not a tie is 1 / (2 * divisor) away from one; float32 errs by less than 2**-16 there
            shift = program.exponents[op.inputs[0]] - program.exponents[op.name]
            divisor = op.kernel[0] * op.kernel[1] << max(0, shift)
            if divisor >= 2**15:
                raise ValueError(f"{op.name}: divides by {divisor}; float32 rounds right below {2**15}")


def integers(x: Tensor, exponent: Tensor, limit: float = float("inf")) -> Tensor:
    """`round(x * 2**exponent)` within [-limit, limit], int64; half to even, computed in float64.

    Args:
        x: float, [out, ...].
        exponent: int [out].
        limit: Greatest magnitude.
    """
    scale = power_of_two(per_channel(exponent, x, 0), torch.float64)
    return (x.double() * scale).round().clamp(-limit, limit).long()
