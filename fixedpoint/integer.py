"""The integer model: int8 tensors, int32 accumulators, and nothing else.

A convolution runs in float32 on integer values: below 2**24, which `fixedpoint.bounds` proves for each channel of an
integer program, every partial sum is exact in any order, and it is the only fast convolution PyTorch has for them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fixedpoint.program import INPUT, AvgPool, Conv, Evaluator, MaxPool, Op, Program, per_channel, power_of_two
from fixedpoint.rounding import rounded_division


class IntegerEvaluator(Evaluator):
    """Runs an integer program on int8 input [batch, channels, height, width], p - 128; logits are int32."""

    def __init__(self, program: Program):
        self.program = program

    def conv(self, op: Conv, x: Tensor) -> Tensor:
        weight, bias = self._constants(op, x)
        accumulator = F.conv2d(x.float(), weight, bias, op.stride, op.padding, op.dilation, op.groups)
        return self._requantize(op, accumulator.to(torch.int32))

    def linear(self, op: Op, x: Tensor) -> Tensor:
        return self._requantize(op, F.linear(x.float(), *self._constants(op, x)).to(torch.int32))

    def clamp(self, op: Op, x: Tensor) -> Tensor:
        return x.clamp(*self.program.bounds(op))

    def add(self, op: Op, *operands: Tensor) -> Tensor:
        exponents = [self.program.exponents[name] for name in op.inputs]
        finest = max(exponents)
        total = sum(x.to(torch.int32) << (finest - e) for x, e in zip(operands, exponents, strict=True))
        return self._divide(op, total, finest - self.program.exponents[op.name])

    def avg_pool(self, op: AvgPool, x: Tensor) -> Tensor:
        count = op.kernel[0] * op.kernel[1]
        total = F.avg_pool2d(x.float(), op.kernel, op.stride, divisor_override=1).to(torch.int32)
        shift = self.program.exponents[op.inputs[0]] - self.program.exponents[op.name]
        return self._divide(op, total, shift, count)

    def max_pool(self, op: MaxPool, x: Tensor) -> Tensor:
        return F.max_pool2d(x.float(), op.kernel, op.stride, op.padding).to(torch.int8)

    def concat(self, op: Op, *operands: Tensor) -> Tensor:
        target = self.program.exponents[op.name]
        shifts = (self.program.exponents[name] - target for name in op.inputs)
        return torch.cat([self._divide(op, x, shift) for x, shift in zip(operands, shifts, strict=True)], dim=1)

    def flatten(self, op: Op, x: Tensor) -> Tensor:
        return x.flatten(1)

    def _constants(self, op: Op, x: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = (self.program.constants[f"{op.name}.{name}"] for name in ("weight", "bias"))
        return weight.to(x.device).float(), bias.to(x.device).float()

    def _requantize(self, op: Op, accumulator: Tensor) -> Tensor:
        if op.name not in self.program.exponents:  # the logits stay accumulators
            return accumulator
        shift = self.program.accumulator_exponent(op) - self.program.exponents[op.name]
        return self._divide(op, accumulator, per_channel(shift, accumulator, 1))

    def _divide(self, op: Op, numerator: Tensor, shift: Tensor | int, count: int = 1) -> Tensor:
        """`numerator / (count * 2**shift)` rounded half to even, clamped, int8; a negative shift multiplies."""
        shift = torch.as_tensor(shift, device=numerator.device, dtype=torch.int64)
        scaled = numerator.long() << (-shift).clamp(min=0)
        quotient = rounded_division(scaled, count << shift.clamp(min=0))
        return quotient.clamp(*self.program.bounds(op)).to(torch.int8)


def integer_input(x: Tensor) -> Tensor:
    """The int8 input of the integer model from a network's float input (p - 128) / 128."""
    return (x * 128).to(torch.int8)


def integer_tensor(program: Program, name: str, x: Tensor) -> Tensor:
    """The integers (int32) that tensor `name` of a QAT model holds: the inverse of the scales, exact."""
    if name == INPUT or name in program.exponents:
        scale = power_of_two(program.exponents[name])
    else:
        scale = per_channel(power_of_two(program.logit_exponent), x, 1)
    return (x * scale).to(torch.int32)
