"""The operations that only choose or move values: nothing is computed, so nothing is rounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, prod

from fixedpoint.program.operation import MOST_VALUES, Op, Pair, Shape, shown

MOST_AXES = 16  # of a view


@dataclass(frozen=True)
class Pad(Op):
    """Rows and columns of a constant around the map and, for transposed convolutions, between its values.

    Attributes:
        padding: Top, bottom, left, right.
        value: Real numbers, one for all channels or one per channel; None is the least value there is (for max pools).
        between: Rows and columns between two rows and two columns of the map.
    """

    kind = "pad"
    takes_clamp = False
    keeps_exponent = True
    padding: tuple[int, int, int, int]
    value: tuple[float | None, ...]
    between: Pair = field(default=(0, 0), kw_only=True)

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        channels, (height, width) = self.map_of(operands[0])
        self.require(min(self.padding) >= 0, f"padding must not be negative, as in {list(self.padding)}")
        apart = prod(size * (1 + more) for size, more in zip((height, width), self.between, strict=True))
        fits = min(self.between) >= 0 and channels * apart <= MOST_VALUES
        self.require(fits, f"between must be 0 or more, and no map of more than 2**28 values: {list(self.between)}")
        self.require(len(self.value) in (1, channels), f"value must be 1 number or {channels}, not {len(self.value)}")
        top, bottom, left, right = self.padding
        rows, columns = (size + (size - 1) * more for size, more in zip((height, width), self.between, strict=True))
        return channels, top + rows + bottom, left + columns + right


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
    """Concatenation.

    Attributes:
        axis: 0: of channels or features; 1: of rows; 2: of columns.
    """

    kind = "concat"
    operands = (1, inf)
    shares_exponent = True
    axis: int = field(default=0, kw_only=True)

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        ranks = {len(shape) for shape in operands}
        self.require(len(ranks) == 1 and 0 <= self.axis < min(ranks), f"{shown(operands)} have no axis {self.axis}")
        others = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in operands}
        self.require(len(others) == 1, f"its operands must differ in axis {self.axis} alone, not {shown(operands)}")
        total = sum(shape[self.axis] for shape in operands)
        return *operands[0][: self.axis], total, *operands[0][self.axis + 1 :]


@dataclass(frozen=True)
class Flatten(Op):
    """All dimensions but the batch into one."""

    kind = "flatten"
    takes_clamp = False
    keeps_exponent = True

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        return (prod(operands[0]),)


@dataclass(frozen=True)
class Select(Op):
    """Channels, rows and columns of a map, each by its number: `x[channels][:, rows][:, :, columns]`.

    That is a slice, a shuffle, a flip or a roll; and, as numbers may come again, nearest upsampling, padding by what
    the map holds, and the spreading of one channel, row or column.

    Attributes:
        channels: Numbers of channels, or of features [features], which have no rows and columns.
    """

    kind = "select"
    takes_clamp = False
    keeps_exponent = True
    channels: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        shape = operands[0]
        chosen, others = self.chosen[: len(shape)], self.chosen[len(shape) :]
        self.require(all(chosen) and not any(others), f"it must choose from the {len(shape)} axes of {list(shape)}")
        for axis, size in zip(chosen, shape, strict=True):
            self.require(0 <= min(axis) <= max(axis) < size, f"it chooses {min(axis)} to {max(axis)} of {size}")
        return tuple(map(len, chosen))

    @property
    def chosen(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """What it chooses, axis by axis."""
        return self.channels, self.rows, self.columns

    def changes(self, operand: Shape) -> dict[int, tuple[int, ...]]:
        """What it chooses from the axes of which it does not take all as they are, by their numbers."""
        axes = enumerate(zip(self.chosen, operand, strict=False))
        return {i: chosen for i, (chosen, size) in axes if len(chosen) != size or (chosen[0], step(chosen)) != (0, 1)}


def step(numbers: Sequence[int]) -> int | None:
    """What is between each number and the next; None if that is not the same everywhere."""
    steps = {b - a for a, b in pairwise(numbers)}
    return steps.pop() if len(steps) == 1 else None if steps else 1


@dataclass(frozen=True)
class Rearrange(Op):
    """All values in another order: `x.reshape(view).permute(axes).reshape(shape)`, as in PyTorch, without the batch.

    That is pixel shuffle and unshuffle, the swap of two axes, and the way from features to a map of them.
    """

    kind = "rearrange"
    takes_clamp = False
    keeps_exponent = True
    view: tuple[int, ...]
    axes: tuple[int, ...]

    def result_shape(self, operands: Sequence[Shape], constants: Mapping[str, Shape]) -> Shape:
        count = len(self.view)
        self.require(count <= MOST_AXES, f"view has {count} axes, and can have {MOST_AXES}")
        self.require(sorted(self.axes) == [*range(count)], f"axes {list(self.axes)[:MOST_AXES]} do not order {count}")
        for name, shape in (("view", self.view), ("shape", self.shape)):
            fits = min(shape, default=0) >= 1 and prod(shape) == prod(operands[0])
            self.require(fits, f"{name} {list(shape)} has not the values of {list(operands[0])}")
        self.require(
            len(self.shape) in (1, 3),
            f"its shape must be [channels, height, width] or [features], not {list(self.shape)}",
        )
        return self.shape
