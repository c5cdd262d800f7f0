"""The float evaluator: what the program computes before quantization."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fixedpoint.program import AvgPool, Conv, Evaluator, MaxPool, Op, Program


class FloatEvaluator(Evaluator):
    """Runs a float program; input and results are float32."""

    def __init__(self, program: Program):
        self.program = program

    def conv(self, op: Conv, x: Tensor) -> Tensor:
        weight, bias = self._constant(op, "weight", x), self._constant(op, "bias", x)
        return _clamp(op, F.conv2d(x, weight, bias, op.stride, op.padding, op.dilation, op.groups))

    def linear(self, op: Op, x: Tensor) -> Tensor:
        return _clamp(op, F.linear(x, self._constant(op, "weight", x), self._constant(op, "bias", x)))

    def batch_norm(self, op: Op, x: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (x.dim() - 2)
        scale, shift = (self._constant(op, name, x).reshape(shape) for name in ("scale", "shift"))
        return _clamp(op, x * scale + shift)

    def clamp(self, op: Op, x: Tensor) -> Tensor:
        return _clamp(op, x)

    def add(self, op: Op, *operands: Tensor) -> Tensor:
        return _clamp(op, sum(operands[1:], operands[0]))

    def avg_pool(self, op: AvgPool, x: Tensor) -> Tensor:
        return _clamp(op, F.avg_pool2d(x, op.kernel, op.stride))

    def max_pool(self, op: MaxPool, x: Tensor) -> Tensor:
        return _clamp(op, F.max_pool2d(x, op.kernel, op.stride, op.padding))

    def concat(self, op: Op, *operands: Tensor) -> Tensor:
        return _clamp(op, torch.cat(operands, dim=1))

    def flatten(self, op: Op, x: Tensor) -> Tensor:
        return x.flatten(1)

    def _constant(self, op: Op, name: str, x: Tensor) -> Tensor:
        return self.program.constants[f"{op.name}.{name}"].to(x.device)


def _clamp(op: Op, x: Tensor) -> Tensor:
    return x if op.clamp == (None, None) else x.clamp(*op.clamp)
