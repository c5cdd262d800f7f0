"""What the QOperator and the integer file share: operators that take and give int8 tensors and need no scale."""

from abc import abstractmethod

import numpy as np
from onnx import TensorProto, helper

from fixedpoint.onnx.graph import Writer, window
from fixedpoint.program import Lookup, MaxPool, Op, Pad, Rearrange, Select

ZERO_POINT = 128


class Int8Operators(Writer):
    """Operations that only choose or move int8 values, and int32 accumulators."""

    def clamp(self, op: Op, x: str) -> str:
        return self.limited(op, x)

    def lookup(self, op: Lookup, x: str) -> str:
        table = np.roll(self.constant(op, "table"), self.zero_point(op.inputs[0]) - 128)
        return self.graph.gather(self.stored(table, op.name), x, op.name)

    def pad(self, op: Pad, x: str) -> str:
        values = self.stored(self.program.pad_values(op), op.name)
        if len(values) == 1:
            return self.graph.pad(x, op, values, op.name)
        padded = self.graph.pad(self.int32(x), op, values.astype(np.int32), f"{op.name}/wide")
        return self.graph.node("Cast", [padded], op.name, to=helper.np_dtype_to_tensor_dtype(values.dtype))

    def max_pool(self, op: MaxPool, x: str) -> str:
        return self.graph.node("MaxPool", [x], op.name, **window(op))

    def flatten(self, op: Op, x: str) -> str:
        return self.graph.node("Flatten", [x], self.result(op))

    def select(self, op: Select, x: str) -> str:
        return self.graph.select(x, op, self.operand(op), op.name)

    def rearrange(self, op: Rearrange, x: str) -> str:
        return self.graph.rearrange(x, op, op.name)

    def int8_node(self, op: Op, kind: str, inputs: list[str], **attributes: object) -> str:
        """A node with an int8 result, then the clamp of `op` where it is tighter than int8's."""
        if self.program.bounds(op) == (-128, 127):
            return self.graph.node(kind, inputs, op.name, **attributes)
        return self.limited(op, self.graph.node(kind, inputs, f"{op.name}/unclamped", **attributes))

    def limited(self, op: Op, x: str) -> str:
        """The integers of `x`, which has the zero point of the result of `op`, within the bounds of `op`."""
        return self.graph.clip(x, [*self.stored(self.program.bounds(op), op.name)], op.name)

    def accumulate(self, op: Op, x: str) -> str:
        """The int32 tensor `sum(x * weight) + bias` of a conv or linear: the result of `op` if that is raw."""
        products = self.products(op, x, f"{op.name}/products")
        bias = self.graph.constant(f"{op.name}/bias", along_channels(self.constant(op, "bias"), op))
        output = self.result(op) if op.name in self.raw else f"{op.name}/accumulator"
        return self.graph.node("Add", [products, bias], output)

    @abstractmethod
    def products(self, op: Op, x: str, output: str) -> str:
        """The int32 tensor `sum(x * weight)` of a conv or linear."""

    def int32(self, x: str) -> str:
        """The int32 tensor of an int8 tensor, made once."""
        wide = f"{x}/int32"
        return wide if wide in self.graph else self.graph.node("Cast", [x], wide, to=TensorProto.INT32)


def unsigned(weight: np.ndarray) -> np.ndarray:
    """Int8 weights as uint8, with ZERO_POINT for 0."""
    return (weight.astype(np.int16) + ZERO_POINT).astype(np.uint8)


def along_channels(values: np.ndarray, op: Op) -> np.ndarray:
    """`values` [channels] shaped to broadcast against the result of `op`."""
    return values.reshape(-1, *(1 for _ in op.shape[1:]))
