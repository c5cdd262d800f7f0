"""The operations of a program, the properties of each kind, and what an operation of the kind can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from typing import ClassVar, TypeGuard

from fixedpoint.errors import QuantizationError
from fixedpoint.program.elementwise import ARGUMENTS, FUNCTIONS

Bounds = tuple[float | None, float | None]
Pair = tuple[int, int]
Shape = tuple[int, ...]
MOST_VALUES = 2**28  # of a tensor of one image; C counts them in 32 bits, and they take a GiB as float32


@dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        name: Name of the operation and of its result, unique in the program: a module path such as `stages.0.0.conv1`.
        inputs: The tensors it reads.
        shape: Shape of its result without the batch dimension.
        clamp: Bounds of the result in real numbers, None for unbounded: (0.0, None) is a fused ReLU.
        operands: Least and greatest number of tensors that it reads.
        factor_and_offset: The constants of an operation that is affine in each channel of its result.
        weighted: Whether these are a weight and a bias, which are quantized.
        quantized: Whether integer programs can have it.
        takes_clamp: Whether it can have a clamp; an operation that only moves values cannot.
        keeps_exponent: Whether the result has the exponent of its operand.
        shares_exponent: Whether in portable arithmetic the operands have the exponent of the result.
        in_place: Whether the result may be written over an operand.
        not_portable: What keeps it from portable arithmetic; empty if nothing does.
    """

    kind: ClassVar[str]
    operands: ClassVar[tuple[int, float]] = (1, 1)
    factor_and_offset: ClassVar[tuple[str, str] | None] = None
    weighted: ClassVar[bool] = False
    quantized: ClassVar[bool] = True
    takes_clamp: ClassVar[bool] = True
    keeps_exponent: ClassVar[bool] = False
    shares_exponent: ClassVar[bool] = False
    in_place: ClassVar[bool] = False
    not_portable: ClassVar[str] = ""
    name: str
    inputs: tuple[str, ...]
    shape: Shape
    clamp: Bounds = field(default=(None, None), kw_only=True)

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        """The shape that the result must have; here that of the operand.

        Args:
            operands: The shapes of the tensors that the operation reads, as many as it can read.
            constants: The shapes of its constants, by their names without that of the operation; none is missing.

        Raises:
            QuantizationError: If attributes and shapes do not fit together.
        """
        return operands[0]

    def require(self, condition: bool, text: str) -> None:
        """Raise QuantizationError, naming the operation and its kind, unless `condition` holds."""
        if not condition:
            raise QuantizationError(f"{self.name} ({self.kind}): {text}")

    def map_of(self, operand: Shape) -> tuple[int, Pair]:
        """Channels, and height and width, of an operand that must have them."""
        self.require(len(operand) == 3, f"its operand must be [channels, height, width], not {list(operand)}")
        return operand[0], (operand[1], operand[2])

    def windows(self, size: Pair, kernel: Pair, stride: Pair, padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Pair:
        """The rows and columns of windows that a map of `size` has."""
        self.require(min(*kernel, *stride, *dilation) >= 1, "kernel, stride and dilation must be 1 or more")
        self.require(min(padding) >= 0, f"padding must not be negative, as in {list(padding)}")
        padded = [s + 2 * p for s, p in zip(size, padding, strict=True)]
        room = [s - d * (k - 1) - 1 for s, d, k in zip(padded, dilation, kernel, strict=True)]
        self.require(min(room) >= 0, f"a kernel of {list(kernel)} does not fit into a map of {list(size)}")
        self.require(prod(padded) <= MOST_VALUES, f"padding is too large: {list(padding)}")
        return room[0] // stride[0] + 1, room[1] // stride[1] + 1


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
class Pad(Op):
    """Rows and columns of a constant around the map.

    Attributes:
        padding: Top, bottom, left, right.
        value: Real numbers, one for all channels or one per channel; None is the least value there is (for max pools).
    """

    kind = "pad"
    takes_clamp = False
    keeps_exponent = True
    padding: tuple[int, int, int, int]
    value: tuple[float | None, ...]

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        channels, (height, width) = self.map_of(operands[0])
        self.require(min(self.padding) >= 0, f"padding must not be negative, as in {list(self.padding)}")
        self.require(len(self.value) in (1, channels), f"value must be 1 number or {channels}, not {len(self.value)}")
        top, bottom, left, right = self.padding
        return channels, top + height + bottom, left + width + right


@dataclass(frozen=True)
class Add(Op):
    """Sum of two or more tensors of equal shape."""

    kind = "add"
    operands = (2, inf)
    shares_exponent = True
    in_place = True

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        self.require(len({*operands}) == 1, f"its operands must have one shape, not {_shown(operands)}")
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
        self.require(fits, f"its operands must have one shape, or one factor a channel, not {_shown(operands)}")
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


@dataclass(frozen=True)
class MaxPool(Op):
    """Maximum over windows."""

    kind = "max_pool"
    takes_clamp = False
    keeps_exponent = True
    kernel: Pair
    stride: Pair
    padding: Pair

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        channels, size = self.map_of(operands[0])
        for padding, kernel in zip(self.padding, self.kernel, strict=True):
            self.require(2 * padding <= kernel, f"padding {list(self.padding)} exceeds half the kernel")
        return channels, *self.windows(size, self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class Concat(Op):
    """Concatenation along the channels."""

    kind = "concat"
    operands = (1, inf)
    shares_exponent = True

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        others = {shape[1:] for shape in operands}
        self.require(len(others) == 1, f"its operands must differ in channels alone, not {_shown(operands)}")
        return sum(shape[0] for shape in operands), *operands[0][1:]


@dataclass(frozen=True)
class Flatten(Op):
    """All dimensions but the batch into one."""

    kind = "flatten"
    takes_clamp = False
    keeps_exponent = True

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        return (prod(operands[0]),)


OPS: dict[str, type[Op]] = {
    op.kind: op for op in (Conv, Linear, BatchNorm, Clamp, Lookup, Pad, Add, Mul, AvgPool, MaxPool, Concat, Flatten)
}


def is_fixed(op: Op) -> TypeGuard[Conv]:
    """Whether `op` is a conv whose constants never change."""
    return isinstance(op, Conv) and op.fixed


def _shown(shapes: Sequence[Shape]) -> str:
    return " and ".join(str(list(shape)) for shape in shapes)
