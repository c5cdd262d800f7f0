"""The integer model: int8 tensors, int32 accumulators, and one rounding for each result.

PyTorch has no fast convolution of integers, so they are carried as float32 numbers. Nothing is lost by that:
`fixedpoint.program.bounds` proves for an integer program that every sum and every product stays below 2**24 in
magnitude, where each integer is a float32 and sums are exact in any order; a power of two scales without rounding; a
correctly rounded quotient by less than 2**17 rounds to the same integer as the exact one.
`tests/fixedpoint/oracle.py` computes the same in int64.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program import (
    INPUT,
    AvgPool,
    Concat,
    Conv,
    Lookup,
    ModuleEvaluator,
    Op,
    Pad,
    Program,
    per_channel,
    power_of_two,
)
from fixedpoint.program.floating import pad
from fixedpoint.program.functions import look_up


class IntegerEvaluator(ModuleEvaluator):
    """Runs an integer program; `.to(device)` moves it. Raises QuantizationError if its weights are not integers."""

    def __init__(self, program: Program):
        super().__init__(program)
        if not program.is_integer:
            raise QuantizationError("the program has float weights, where integers must be")
        for op in program.ops:
            if isinstance(op, Lookup):
                self._register(op, "table", program.constants[f"{op.name}.table"].float())
            if op.weighted:
                for name in ("weight", "bias"):
                    self._register(op, name, program.constants[f"{op.name}.{name}"].float())
                if op.name not in program.raw:
                    self._register(
                        op, "scale", power_of_two(-program.shift(op)).reshape(-1, *[1] * (len(op.shape) - 1))
                    )

    def forward(self, x: Tensor) -> Tensor:
        """Logits int32 [batch, classes] of `x` int8 [batch, channels, height, width], pixels as p - 128."""
        return self.logits(x)

    @torch.no_grad()
    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each tensor by name, int8 or, the raw accumulators, int32; `x` as in `forward`."""
        for name, value in super().run(x.float()):
            yield name, value.to(torch.int8 if name in self.program.exponents else torch.int32)

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        *_, (_, logits) = super().run(x.float().contiguous(memory_format=torch.channels_last))
        return logits.to(torch.int32)

    def conv(self, op: Conv, x: Tensor) -> Tensor:
        weight, bias = self._buffer(op, "weight"), self._buffer(op, "bias")
        return self._requantize(op, F.conv2d(x, weight, bias, op.stride, op.padding, op.dilation, op.groups))

    def linear(self, op: Op, x: Tensor) -> Tensor:
        return self._requantize(op, F.linear(x, self._buffer(op, "weight"), self._buffer(op, "bias")))

    def clamp(self, op: Op, x: Tensor) -> Tensor:
        return x.clamp(*self.program.bounds(op))

    def lookup(self, op: Lookup, x: Tensor) -> Tensor:
        return look_up(self._buffer(op, "table"), x)

    def pad(self, op: Pad, x: Tensor) -> Tensor:
        return pad(x, op, self.program.pad_values(op))

    def add(self, op: Op, *operands: Tensor) -> Tensor:
        # in units of the result, all are multiples of a power of two, and their sum is less than 2**24 times that
        scales = [self._scale(op, self.program.exponents[name]) for name in op.inputs]
        total = operands[0] * scales[0]
        for x, scale in zip(operands[1:], scales[1:], strict=True):
            total.add_(x, alpha=scale)
        return self._round(op, total)

    def mul(self, op: Op, a: Tensor, b: Tensor) -> Tensor:
        return self._round(op, (a * b).mul_(self._scale(op, sum(self.program.exponents[name] for name in op.inputs))))

    def avg_pool(self, op: AvgPool, x: Tensor) -> Tensor:
        total = F.avg_pool2d(x, op.kernel, op.stride, divisor_override=1)
        divisor = op.kernel[0] * op.kernel[1] / self._scale(op, self.program.exponents[op.inputs[0]])
        # by a tensor: CUDA turns a division by a Python number into a product with its rounded reciprocal
        return self._round(op, total / torch.full_like(total, divisor))

    def concat(self, op: Concat, *operands: Tensor) -> Tensor:
        scales = (self._scale(op, self.program.exponents[name]) for name in op.inputs)
        return torch.cat([self._round(op, x * scale) for x, scale in zip(operands, scales, strict=True)], 1 + op.axis)

    def _requantize(self, op: Op, accumulator: Tensor) -> Tensor:
        if op.name in self.program.raw:
            return accumulator
        return self._round(op, accumulator.mul_(self._buffer(op, "scale")))

    def _scale(self, op: Op, exponent: int) -> float:
        """What brings an integer of `exponent` to the exponent of the result of `op`."""
        return 2.0 ** (self.program.exponents[op.name] - exponent)

    def _round(self, op: Op, x: Tensor) -> Tensor:
        """Round `x` half to even and clamp it, in place."""
        return x.round_().clamp_(*self.program.bounds(op))


def integer_logits(program: Program, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """An integer program as a function: logits float32 [batch, classes] of uint8 pixels [batch, 3, height, width].

    They are the accumulators times their powers of two, which is exact in float32.
    """
    evaluator, scale = IntegerEvaluator(program).to(device), power_of_two(-program.logit_exponent).to(device)
    return lambda pixels: evaluator(signed_pixels(pixels.to(device))).flatten(1) * scale


def int8_logits(program: Program, accumulators: Tensor) -> Tensor:
    """The int8 logits of portable arithmetic, which have one exponent, from the int32 ones [batch, classes]."""
    assert program.int8_logit_exponent is not None
    return rounded_logits(program, accumulators, program.int8_logit_exponent, torch.int8)


def rounded_logits(program: Program, accumulators: Tensor, exponent: int, dtype: torch.dtype) -> Tensor:
    """The int32 logits [batch, classes] as integers of one exponent, in the range of a type."""
    scale, ends = power_of_two(exponent - program.logit_exponent).to(accumulators.device), torch.iinfo(dtype)
    return (accumulators * scale).round().clamp(ends.min, ends.max).to(dtype)


def signed_pixels(pixels: Tensor) -> Tensor:
    """The int8 input p - 128 of the integer model, of uint8 pixels p."""
    return (pixels ^ 128).view(torch.int8)  # read as signed, eight bits with the highest one flipped are 128 less


def integer_input(x: Tensor) -> Tensor:
    """The int8 input of the integer model from a network's float input (p - 128) / 128."""
    return (x * 128).to(torch.int8)


def integer_tensor(program: Program, name: str, x: Tensor) -> Tensor:
    """The integers (int32) that tensor `name` of a QAT model holds: the inverse of the scales, exact."""
    if name == INPUT or name in program.exponents:
        return (x * 2.0 ** program.exponents[name]).to(torch.int32)
    return (x * per_channel(power_of_two(program.logit_exponent), x, 1)).to(torch.int32)
