"""Quantization-aware training: the integer model in float32, with gradients.

Train mode and eval mode compute the same function, and every tensor of it is the integer model's times a power of two,
bit for bit, as long as the accumulators stay below 2**24 (`fixedpoint.bounds`).
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fixedpoint.program import WEIGHT_LIMIT, WEIGHTED_KINDS, AvgPool, Conv, Evaluator, MaxPool, Op, Program, per_channel
from fixedpoint.rounding import fake_quantize


class FakeQuantModel(nn.Module, Evaluator):
    """A calibrated program as a trainable module; its input is float32 [batch, channels, h, w], (p - 128) / 128.

    The parameters are the program's float weights and biases; exponents and clamps stay as calibrated.
    """

    def __init__(self, program: Program):
        super().__init__()
        self.program = program
        self.parameters_of = nn.ParameterDict(
            {
                _key(op, name): nn.Parameter(program.constants[f"{op.name}.{name}"].clone())
                for op in program.ops
                if op.kind in WEIGHTED_KINDS
                for name in ("weight", "bias")
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32 [batch, classes]."""
        return self.logits(x)

    def trained(self) -> Program:
        """The program with the weights and biases as they are now, in float."""
        constants = {
            f"{op.name}.{name}": self.parameters_of[_key(op, name)].detach().cpu().clone()
            for op in self.program.ops
            if op.kind in WEIGHTED_KINDS
            for name in ("weight", "bias")
        }
        return replace(self.program, constants=self.program.constants | constants)

    def quantized_constants(self, op: Op) -> tuple[Tensor, Tensor]:
        """Weight and bias of a conv or linear as the integer model has them, times their powers of two."""
        weight, bias = (self.parameters_of[_key(op, name)] for name in ("weight", "bias"))
        exponent = self.program.constants[f"{op.name}.weight_exponent"]
        weight = fake_quantize(weight, per_channel(exponent, weight, 0), -WEIGHT_LIMIT, WEIGHT_LIMIT)
        return weight, fake_quantize(bias, per_channel(self.program.accumulator_exponent(op), bias, 0))

    def conv(self, op: Conv, x: Tensor) -> Tensor:
        weight, bias = self.quantized_constants(op)
        return self._requantize(op, F.conv2d(x, weight, bias, op.stride, op.padding, op.dilation, op.groups))

    def linear(self, op: Op, x: Tensor) -> Tensor:
        return self._requantize(op, F.linear(x, *self.quantized_constants(op)))

    def clamp(self, op: Op, x: Tensor) -> Tensor:
        return self._requantize(op, x)

    def add(self, op: Op, *operands: Tensor) -> Tensor:
        return self._requantize(op, sum(operands[1:], operands[0]))

    def avg_pool(self, op: AvgPool, x: Tensor) -> Tensor:
        total = F.avg_pool2d(x, op.kernel, op.stride, divisor_override=1)
        # by a tensor: CUDA turns a division by a Python number into a product with its rounded reciprocal
        return self._requantize(op, total / torch.full_like(total, op.kernel[0] * op.kernel[1]))

    def max_pool(self, op: MaxPool, x: Tensor) -> Tensor:
        return F.max_pool2d(x, op.kernel, op.stride, op.padding)

    def concat(self, op: Op, *operands: Tensor) -> Tensor:
        return torch.cat([self._requantize(op, x) for x in operands], dim=1)

    def flatten(self, op: Op, x: Tensor) -> Tensor:
        return x.flatten(1)

    def _requantize(self, op: Op, x: Tensor) -> Tensor:
        if op.name not in self.program.exponents:  # the logits stay accumulators
            return x
        return fake_quantize(x, self.program.exponents[op.name], *self.program.bounds(op))


def _key(op: Op, name: str) -> str:
    return f"{op.name}.{name}".replace(".", "/")  # PyTorch reserves the dot
