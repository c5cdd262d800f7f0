"""The operations of a program, and the properties of each kind."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeGuard

from fixedpoint.errors import QuantizationError

Bounds = tuple[float | None, float | None]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Op:
    """One operation.

    Attributes:
        name: Name of the operation and of its result, unique in the program: a module path such as `stages.0.0.conv1`.
        inputs: The tensors it reads.
        shape: Shape of its result without the batch dimension.
        clamp: Bounds of the result in real numbers, None for unbounded: (0.0, None) is a fused ReLU.
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
    shape: tuple[int, ...]
    clamp: Bounds = field(default=(None, None), kw_only=True)


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


@dataclass(frozen=True)
class Linear(Op):
    """Matrix product; constants `<name>.weight` [out, in] and `<name>.bias` [out]."""

    kind = "linear"
    factor_and_offset = ("weight", "bias")
    weighted = True


@dataclass(frozen=True)
class BatchNorm(Op):
    """Per-channel `x * scale + shift` of a float program, constants [channels]; `fold` turns it into convolutions."""

    kind = "batch_norm"
    factor_and_offset = ("scale", "shift")
    quantized = False


@dataclass(frozen=True)
class Clamp(Op):
    """ReLU, ReLU6 and the like that could not be fused into the operation before."""

    kind = "clamp"
    keeps_exponent = True
    in_place = True


@dataclass(frozen=True)
class Lookup(Op):
    """An elementwise function of one tensor, `fixedpoint.program.functions.FUNCTIONS[function](x, *arguments)`.

    Once calibrated it is the constant `<name>.table` (int8 [256]): the result for the integer q is `table[q + 128]`,
    clamp included.
    """

    kind = "lookup"
    in_place = True
    not_portable = "a table"
    function: str
    arguments: tuple[float, ...]


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


@dataclass(frozen=True)
class Add(Op):
    """Sum of two or more tensors of equal shape."""

    kind = "add"
    shares_exponent = True
    in_place = True


@dataclass(frozen=True)
class Mul(Op):
    """Product of two tensors, of equal shape or one [channels, 1, 1] for each map of the other."""

    kind = "mul"
    in_place = True
    not_portable = "a product of two tensors"


@dataclass(frozen=True)
class AvgPool(Op):
    """Mean over windows without padding; a global pool is a window of the whole map."""

    kind = "avg_pool"
    kernel: Pair
    stride: Pair


@dataclass(frozen=True)
class MaxPool(Op):
    """Maximum over windows."""

    kind = "max_pool"
    takes_clamp = False
    keeps_exponent = True
    kernel: Pair
    stride: Pair
    padding: Pair


@dataclass(frozen=True)
class Concat(Op):
    """Concatenation along the channels."""

    kind = "concat"
    shares_exponent = True


@dataclass(frozen=True)
class Flatten(Op):
    """All dimensions but the batch into one."""

    kind = "flatten"
    takes_clamp = False
    keeps_exponent = True


OPS: dict[str, type[Op]] = {
    op.kind: op for op in (Conv, Linear, BatchNorm, Clamp, Lookup, Pad, Add, Mul, AvgPool, MaxPool, Concat, Flatten)
}


def is_fixed(op: Op) -> TypeGuard[Conv]:
    """Whether `op` is a conv whose constants never change."""
    return isinstance(op, Conv) and op.fixed


def op_from_json(entry: dict) -> Op:
    """The operation that `Program.to_json` has written as `entry`.

    Raises:
        QuantizationError: If its kind or its attributes are not of this version.
    """
    kind = OPS.get(entry["kind"])
    if kind is None or {f.name for f in fields(kind)} != set(entry) - {"kind"}:
        raise QuantizationError(f"the program's operation {entry} is not one of this version: {', '.join(sorted(OPS))}")
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items() if key != "kind"}
    return kind(**values)
