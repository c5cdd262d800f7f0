"""What the QOperator and the integer file share: operators that take and give int8 tensors and need no scale."""

import numpy as np
from onnx import TensorProto

from fixedpoint.onnx.graph import Writer, window
from fixedpoint.program import Conv, Lookup, MaxPool, Op, Pad, Rearrange, Select

ZERO_POINT = 128


class Int8Operators(Writer):
    """Operations that only choose or move int8 values, and int32 accumulators."""

    def clamp(self, op: Op, x: str) -> str:
        return self.graph.clip(x, [np.int8(b) for b in self.program.bounds(op)], op.name)

    def lookup(self, op: Lookup, x: str) -> str:
        return self.graph.gather(self.constant(op, "table"), x, op.name)

    def pad(self, op: Pad, x: str) -> str:
        values = self.program.pad_values(op)
        if len(values) == 1:
            return self.graph.pad(x, op, np.array(values, np.int8), op.name)
        padded = self.graph.pad(self.int32(x), op, np.array(values, np.int32), f"{op.name}/wide")
        return self.graph.node("Cast", [padded], op.name, to=TensorProto.INT8)

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
        return self.clamp(op, self.graph.node(kind, inputs, f"{op.name}/unclamped", **attributes))

    def accumulate(self, op: Op, x: str) -> str:
        """The int32 tensor `sum(x * weight) + bias` of a conv or linear: the result of `op` if that is raw."""
        weight, products = self.constant(op, "weight"), f"{op.name}/products"
        if isinstance(op, Conv):
            products = self.convolve(x, weight, products, **window(op))
        else:
            matrix = self.graph.constant(f"{op.name}/weight", weight.T)
            products = self.graph.node("MatMulInteger", [x, matrix], products)
        bias = self.graph.constant(f"{op.name}/bias", along_channels(self.constant(op, "bias"), op))
        output = self.result(op) if op.name in self.raw else f"{op.name}/accumulator"
        return self.graph.node("Add", [products, bias], output)

    def convolve(self, x: str, weight: np.ndarray, output: str, **attributes: object) -> str:
        """The int32 convolution of an int8 tensor and int8 weights, both carried as uint8 with zero point 128.

        ONNX Runtime up to 1.23 has ConvInteger for uint8 x uint8 alone, of all combinations the one whose x86 kernels
        are both fast and free of saturation.
        """
        unsigned = (weight.astype(np.int32) + ZERO_POINT).astype(np.uint8)
        inputs = [self._unsigned(x), self.graph.constant(f"{output}/weight", unsigned)]
        inputs += [self.graph.constant(f"{output}/{name}_zero_point", np.uint8(ZERO_POINT)) for name in ("x", "weight")]
        return self.graph.node("ConvInteger", inputs, output, **attributes)

    def int32(self, x: str) -> str:
        """The int32 tensor of an int8 tensor, made once."""
        wide = f"{x}/int32"
        return wide if wide in self.graph else self.graph.node("Cast", [x], wide, to=TensorProto.INT32)

    def _unsigned(self, x: str) -> str:
        """The uint8 tensor `x + 128`, made once."""
        if f"{x}/unsigned" in self.graph:
            return f"{x}/unsigned"
        offset = self.graph.constant(f"{x}/offset", np.int32(ZERO_POINT))
        shifted = self.graph.node("Add", [self.int32(x), offset], f"{x}/shifted")
        return self.graph.node("Cast", [shifted], f"{x}/unsigned", to=TensorProto.UINT8)


def along_channels(values: np.ndarray, op: Op) -> np.ndarray:
    """`values` [channels] shaped to broadcast against the result of `op`."""
    return values.reshape(-1, *(1 for _ in op.shape[1:]))
