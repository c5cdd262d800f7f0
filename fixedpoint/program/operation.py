"""What all operations of a program have, and the sizes that they can have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar

from fixedpoint.errors import QuantizationError

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


def shown(shapes: Sequence[Shape]) -> str:
    """Shapes as a message has them."""
    return " and ".join(str(list(shape)) for shape in shapes)
