"""The operations of a program: those that compute, and the list of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from typing import TypeGuard

from fixedpoint.program.elementwise import ARGUMENTS, FUNCTIONS
from fixedpoint.program.moves import Concat, Flatten, MaxPool, Pad, Rearrange, Select
from fixedpoint.program.operation import Op, Pair, Shape, shown


@dataclass(frozen=True)
class Conv(Op):
    """2D convolution; constants `<name>.weight` [out, in / groups, h, w] and `<name>.bias` [out].

    Attributes:
        fixed: Whether its constants never change, as those of a mean.
    """

    kind = "conv"
    factor_and_offset = ("weight", "bias")
    weighted = True
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    fixed: bool = field(default=False, kw_only=True)

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        (channels, size), weight = self.map_of(operands[0]), constants["weight"]
        self.require(len(weight) == 4, f"weight must be [out, in / groups, height, width], not {list(weight)}")
        out, depth, *kernel = weight
        self.require(self.groups >= 1 and out % self.groups == 0, f"groups of {self.groups} do not divide {out}")
        self.require(depth * self.groups == channels, f"weight {list(weight)} does not fit {channels} channels")
        if self.fixed:
            self.require((out, depth) == (channels, 1), "fixed must be a mean of each channel by itself")
            self.require((self.padding, self.dilation) == ((0, 0), (1, 1)), "a fixed mean has no padding or dilation")
        self.require(constants["bias"] == (out,), f"bias must be [{out}], not {list(constants['bias'])}")
        return out, *self.windows(size, (kernel[0], kernel[1]), self.stride, self.padding, self.dilation)


@dataclass(frozen=True)
class Linear(Op):
    """Matrix product; constants `<name>.weight` [out, in] and `<name>.bias` [out]."""

    kind = "linear"
    factor_and_offset = ("weight", "bias")
    weighted = True

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        weight, bias = constants["weight"], constants["bias"]
        self.require(len(operands[0]) == 1, f"its operand must be [features], not {list(operands[0])}")
        fits = len(weight) == 2 and weight[1:] == operands[0]
        self.require(fits, f"weight must be [out, {operands[0][0]}], not {list(weight)}")
        self.require(bias == weight[:1], f"bias must be [{weight[0]}], not {list(bias)}")
        return bias


@dataclass(frozen=True)
class BatchNorm(Op):
    """Per-channel `x * scale + shift` of a float program, constants [channels]; `fold` turns it into convolutions."""

    kind = "batch_norm"
    factor_and_offset = ("scale", "shift")
    quantized = False

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        for name, shape in constants.items():
            self.require(shape == operands[0][:1], f"{name} must be [{operands[0][0]}], not {list(shape)}")
        return operands[0]


@dataclass(frozen=True)
class Clamp(Op):
    """ReLU, ReLU6 and the like that could not be fused into the operation before."""

    kind = "clamp"
    keeps_exponent = True
    in_place = True


@dataclass(frozen=True)
class Lookup(Op):
    """An elementwise function of one tensor, `FUNCTIONS[function](x, *arguments)` (`fixedpoint.program.elementwise`).

    Once calibrated it is the constant `<name>.table` (int8 [256]): the result for the integer q is `table[q + 128]`,
    clamp included.
    """

    kind = "lookup"
    in_place = True
    not_portable = "a table"
    function: str
    arguments: tuple[float, ...]

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        self.require(self.function in FUNCTIONS, f"function must be one of {', '.join(FUNCTIONS)}")
        count = ARGUMENTS.get(self.function, 0)
        self.require(len(self.arguments) == count, f"arguments of {self.function} must be {count} numbers")
        return operands[0]


@dataclass(frozen=True)
class Add(Op):
    """Sum of two or more tensors of equal shape."""

    kind = "add"
    operands = (2, inf)
    shares_exponent = True
    in_place = True

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        self.require(len({*operands}) == 1, f"its operands must have one shape, not {shown(operands)}")
        return operands[0]


@dataclass(frozen=True)
class Mul(Op):
    """Product of two tensors, of equal shape or one [channels, 1, 1] for each map of the other."""

    kind = "mul"
    operands = (2, 2)
    in_place = True
    not_portable = "a product of two tensors"

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        large = max(operands, key=prod)
        fits = {*operands} <= {large, (large[0], *[1] * (len(large) - 1))}
        self.require(fits, f"its operands must have one shape, or one factor a channel, not {shown(operands)}")
        return large


@dataclass(frozen=True)
class AvgPool(Op):
    """Mean over windows without padding; a global pool is a window of the whole map."""

    kind = "avg_pool"
    kernel: Pair
    stride: Pair

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        channels, size = self.map_of(operands[0])
        return channels, *self.windows(size, self.kernel, self.stride)


OPS: dict[str, type[Op]] = {
    op.kind: op
    for op in (
        Conv,
        Linear,
        BatchNorm,
        Clamp,
        Lookup,
        Pad,
        Add,
        Mul,
        AvgPool,
        MaxPool,
        Concat,
        Flatten,
        Select,
        Rearrange,
    )
}


def is_fixed(op: Op) -> TypeGuard[Conv]:
    """Whether `op` is a conv whose constants never change."""
    return isinstance(op, Conv) and op.fixed
