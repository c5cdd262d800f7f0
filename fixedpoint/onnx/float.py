"""float.onnx: a folded float program in the ordinary ONNX operators."""

import math

import numpy as np

from fixedpoint.onnx.graph import Writer, window
from fixedpoint.program import AvgPool, Concat, Conv, Lookup, MaxPool, Op, Pad, Rearrange, Select

# How the operators of opset 17 compute each function: nodes in order, each with its inputs: "x", the index of an
# earlier node, or a constant.
FORMULAS: dict[str, list[tuple]] = {
    "elu": [("Elu", "x")],
    "gelu": [("Mul", "x", math.sqrt(0.5)), ("Erf", 0), ("Add", 1, 1.0), ("Mul", "x", 2), ("Mul", 3, 0.5)],
    "gelu_tanh": [
        ("Mul", "x", "x"),
        ("Mul", 0, 0.044715),
        ("Add", 1, 1.0),
        ("Mul", "x", 2),
        ("Mul", 3, math.sqrt(2 / math.pi)),
        ("Tanh", 4),
        ("Add", 5, 1.0),
        ("Mul", "x", 6),
        ("Mul", 7, 0.5),
    ],
    "hardsigmoid": [("Add", "x", 3.0), ("Clip", 0, 0.0, 6.0), ("Div", 1, 6.0)],
    "hardswish": [("HardSwish", "x")],
    "leaky_relu": [("LeakyRelu", "x")],
    "mish": [("Softplus", "x"), ("Tanh", 0), ("Mul", "x", 1)],
    "sigmoid": [("Sigmoid", "x")],
    "silu": [("Sigmoid", "x"), ("Mul", "x", 0)],
    "softplus": [("Softplus", "x")],
    "tanh": [("Tanh", "x")],
}


class FloatWriter(Writer):
    """Float32 from INPUT, the pixels as (p - 128) / 128, to the logits."""

    def conv(self, op: Conv, x: str) -> str:
        return self._node(op, "Conv", [x, *self._parameters(op)], **window(op))

    def linear(self, op: Op, x: str) -> str:
        return self._node(op, "Gemm", [x, *self._parameters(op)], transB=1)

    def clamp(self, op: Op, x: str) -> str:
        return self._clamped(op, x)

    def lookup(self, op: Lookup, x: str) -> str:
        *steps, (kind, *operands) = FORMULAS[op.function]
        results: list[str] = []
        for i, (step, *inputs) in enumerate(steps):
            output = f"{op.name}/step{i}"
            results.append(self.graph.node(step, self._operands(output, x, results, inputs), output))
        attributes = {"alpha": op.arguments[0]} if op.arguments else {}
        return self._node(op, kind, self._operands(f"{op.name}/last", x, results, operands), **attributes)

    def pad(self, op: Pad, x: str) -> str:
        values = np.array([-np.inf if value is None else value for value in op.value], np.float32)
        return self.graph.pad(x, op, values, self.result(op))

    def mul(self, op: Op, a: str, b: str) -> str:
        return self._node(op, "Mul", [a, b])

    def add(self, op: Op, *operands: str) -> str:
        total = operands[0]
        for i, operand in enumerate(operands[1:-1], start=1):
            total = self.graph.node("Add", [total, operand], f"{op.name}/sum{i}")
        return self._node(op, "Add", [total, operands[-1]])

    def avg_pool(self, op: AvgPool, x: str) -> str:
        return self._node(op, "AveragePool", [x], **window(op))

    def max_pool(self, op: MaxPool, x: str) -> str:
        return self._node(op, "MaxPool", [x], **window(op))

    def concat(self, op: Concat, *operands: str) -> str:
        return self._node(op, "Concat", list(operands), axis=1 + op.axis)

    def flatten(self, op: Op, x: str) -> str:
        return self._node(op, "Flatten", [x])

    def select(self, op: Select, x: str) -> str:
        return self.graph.select(x, op, self.operand(op), op.name)

    def rearrange(self, op: Rearrange, x: str) -> str:
        return self.graph.rearrange(x, op, op.name)

    def _operands(self, owner: str, x: str, results: list[str], operands: list[str | int | float]) -> list[str]:
        """The tensors that the operands of a node in FORMULAS stand for."""
        return [
            self.graph.constant(f"{owner}/constant{i}", np.float32(operand))
            if isinstance(operand, float)
            else (results[operand] if isinstance(operand, int) else x)
            for i, operand in enumerate(operands)
        ]

    def _parameters(self, op: Op) -> list[str]:
        return [self.graph.constant(f"{op.name}/{name}", self.constant(op, name)) for name in ("weight", "bias")]

    def _node(self, op: Op, kind: str, inputs: list[str], **attributes: object) -> str:
        if op.clamp == (None, None):
            return self.graph.node(kind, inputs, self.result(op), **attributes)
        return self._clamped(op, self.graph.node(kind, inputs, f"{op.name}/unclamped", **attributes))

    def _clamped(self, op: Op, x: str) -> str:
        if op.clamp == (0, None):
            return self.graph.node("Relu", [x], self.result(op))
        return self.graph.clip(x, [None if b is None else np.float32(b) for b in op.clamp], self.result(op))
