"""float.onnx: a folded float program in the ordinary ONNX operators."""

import numpy as np

from fixedpoint.onnx_graph import Writer, window
from fixedpoint.program import AvgPool, Conv, MaxPool, Op


class FloatWriter(Writer):
    """Float32 from INPUT, the pixels as (p - 128) / 128, to the logits."""

    def conv(self, op: Conv, x: str) -> str:
        return self._node(op, "Conv", [x, *self._parameters(op)], **window(op))

    def linear(self, op: Op, x: str) -> str:
        return self._node(op, "Gemm", [x, *self._parameters(op)], transB=1)

    def clamp(self, op: Op, x: str) -> str:
        return self._clamped(op, x)

    def add(self, op: Op, *operands: str) -> str:
        total = operands[0]
        for i, operand in enumerate(operands[1:-1], start=1):
            total = self.graph.node("Add", [total, operand], f"{op.name}/sum{i}")
        return self._node(op, "Add", [total, operands[-1]])

    def avg_pool(self, op: AvgPool, x: str) -> str:
        return self._node(op, "AveragePool", [x], **window(op))

    def max_pool(self, op: MaxPool, x: str) -> str:
        return self._node(op, "MaxPool", [x], **window(op))

    def concat(self, op: Op, *operands: str) -> str:
        return self._node(op, "Concat", list(operands), axis=1)

    def flatten(self, op: Op, x: str) -> str:
        return self._node(op, "Flatten", [x])

    def _parameters(self, op: Op) -> list[str]:
        return [self.graph.constant(f"{op.name}/{name}", self.constant(op, name)) for name in ("weight", "bias")]

    def _node(self, op: Op, kind: str, inputs: list[str], **attributes) -> str:
        if op.clamp == (None, None):
            return self.graph.node(kind, inputs, self.result(op), **attributes)
        return self._clamped(op, self.graph.node(kind, inputs, f"{op.name}/unclamped", **attributes))

    def _clamped(self, op: Op, x: str) -> str:
        if op.clamp == (0, None):
            return self.graph.node("Relu", [x], self.result(op))
        return self.graph.clip(x, *(None if b is None else np.float32(b) for b in op.clamp), self.result(op))
