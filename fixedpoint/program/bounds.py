"""The proof behind "float32 is exact": no accumulator can reach 2**24, whatever the image."""

import torch
from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program import Add, AvgPool, Mul, Op, Program

LIMIT = 2**24  # every integer below is a float32, and so is every sum that stays below
MAX_DIVISOR = 2**17  # limit of an average pool's divisor; its sums of int8 values stay below LIMIT, too
MAX_SHIFT = 38  # an accumulator below 2**24, shifted left by so much, and a divisor of 2**38 stay far inside int64


def accumulator_bound(program: Program, op: Op, weight: Tensor, bias: Tensor) -> Tensor:
    """Upper bound of |accumulator| and of each partial sum, in whatever order the products and the bias are added.

    A partial sum of the products is at most the sum of all that can be positive, each at its greatest, and at least
    that of all that can be negative. Behind a ReLU, where no x is negative, this is about half of
    `max|x| * sum|w| + |b|`.

    Args:
        program: The calibrated program.
        op: A conv or linear.
        weight: Its integer weights [out, ...].
        bias: Its integer biases [out].

    Returns:
        int64 [out].
    """
    low, high = program.input_bounds(op)
    below, above = max(-low, 0), max(high, 0)
    rows, bias = weight.long().flatten(1), bias.long()
    positive, negative = rows.clamp(min=0).sum(dim=1), -rows.clamp(max=0).sum(dim=1)
    greatest = positive * above + negative * below + bias.clamp(min=0)
    least = negative * above + positive * below - bias.clamp(max=0)
    return torch.maximum(greatest, least)


def layer_bounds(program: Program) -> dict[str, Tensor]:
    """`accumulator_bound` of each conv and linear of an integer program, by name."""
    return {
        op.name: accumulator_bound(program, op, *(program.constants[f"{op.name}.{c}"] for c in ("weight", "bias")))
        for op in program.ops
        if op.weighted
    }


def check_exactness(program: Program) -> None:
    """Prove that each operation of an integer program is exact in float32.

    Raises:
        QuantizationError: If one is not; names the operation and, for a conv or linear, the channel and its bound.
    """
    layers = layer_bounds(program)
    for op in program.ops:
        if op.name in layers:
            bound, channel = layers[op.name].max(dim=0)
            if bound >= LIMIT:
                raise QuantizationError(
                    f"{op.name}: the accumulator of channel {int(channel)} can reach {int(bound)}, not below 2**24"
                )
            if op.name in program.exponents:
                shifts = program.accumulator_exponent(op) - program.exponents[op.name]
                if int(shifts.abs().max()) > MAX_SHIFT:
                    raise QuantizationError(
                        f"{op.name}: a shift of its accumulators in {shifts.tolist()} exceeds {MAX_SHIFT}"
                    )
        elif isinstance(op, Add):
            exponents = [program.exponents[name] for name in op.inputs]
            total = sum(128 << (max(exponents) - e) for e in exponents)
            if total >= LIMIT:
                raise QuantizationError(
                    f"{op.name}: operands with exponents {exponents} can sum to {total}, not below 2**24"
                )
        elif isinstance(op, Mul):
            shift = sum(program.exponents[name] for name in op.inputs) - program.exponents[op.name]
            if abs(shift) > MAX_SHIFT:
                raise QuantizationError(f"{op.name}: a shift of its products by {shift} exceeds {MAX_SHIFT}")
        elif isinstance(op, AvgPool):
            # A quotient below 128 that is no tie is 1 / (2 * divisor) away from one. While that is above 2**-18, half
            # the distance of float32 numbers there, the correctly rounded quotient lies on the same side.
            shift = program.exponents[op.inputs[0]] - program.exponents[op.name]
            divisor = op.kernel[0] * op.kernel[1] << max(0, shift)
            if divisor >= MAX_DIVISOR:
                raise QuantizationError(
                    f"{op.name}: divides by {divisor}; float32 rounds correctly only below {MAX_DIVISOR}"
                )
