"""Operators of LiteRT that only move values."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fixedpoint.litert.graph import LiteRtGraph
from fixedpoint.litert.scales import power_of_two
from fixedpoint.program import Flatten, Linear, Op, Pad, Pair, Program, Rearrange, Select
from fixedpoint.program.moves import step
from fixedpoint.program.transposition import in_steps, transpositions

MOVED_AXES = 4  # of a transposition, besides the batch: what microcontrollers have


class Moves:
    """The operations that move values, and the tensors of a file: a base of `fixedpoint.litert.writer.LiteRtWriter`.

    Attributes:
        exponents: Exponents of the program's tensors and of its logits.
    """

    program: Program
    graph: LiteRtGraph
    exponents: dict[str, int]

    def pad(self, op: Pad, x: int) -> int:
        values, (top, bottom, left, right), (rows, columns) = self.program.pad_values(op), op.padding, op.between
        if len(values) == 1:
            return self._pad(op, x, op.name, op.padding, values[0], op.between)
        # pad with zeros, then add a line of values where these are; rows, then columns: right for every batch size
        for name, padding, between, axis in (
            (f"{op.name}/rows", (top, bottom, 0, 0), (rows, 0), 0),
            (op.name, (0, 0, left, right), (0, columns), 1),
        ):
            x = self._pad(op, x, f"{name}/zeros", padding, 0, between)
            shape, (before, after) = self.graph.shape(x), padding[2 * axis :][:2]
            line = np.tile(np.array(values, np.int8), (shape[axis], 1))
            line[before : shape[axis] - after : 1 + between[axis]] = 0
            border = self._int8(f"{name}/values", np.expand_dims(line, (0, 2 - axis)), op.name)
            x = self.graph.operator("ADD", [x, border], self._tensor(name, shape, op.name))
        return x

    def flatten(self, op: Flatten, x: int) -> int:
        height, width, channels = self.graph.shape(x)
        readers = self.program.readers(op.name)
        if height * width == 1 or all(isinstance(reader, Linear) for reader in readers):
            return x
        if channels > 1:
            order = self._int32(f"{op.name}/order", [0, 3, 1, 2])
            y = self._tensor(f"{op.name}/transposed", [channels, height, width], op.name)
            x = self.graph.operator("TRANSPOSE", [x, order], y)
        return self._reshape(x, op.name, self._output(op), [1, 1, *op.shape])

    def select(self, op: Select, x: int) -> int:
        operand = self.program.shapes[op.inputs[0]]
        changes = op.changes(operand)
        cut = {axis: chosen for axis, chosen in changes.items() if (step(chosen) or 0) > 0}
        repeated = {axis: chosen for axis, chosen in changes.items() if axis and _is_repeat(chosen, operand[axis])}
        others = [{axis: chosen} for axis, chosen in changes.items() if axis not in cut | repeated]
        parts = [(self._cut, cut), *((self._gathered, other) for other in others), (self._repeated, repeated)]
        parts = [(add, axes) for add, axes in parts if axes]
        for i, (add, axes) in enumerate(parts, start=1):
            shape = [*self.graph.shape(x)]
            for axis, chosen in axes.items():
                shape[axis - 1] = len(chosen)  # channels, axis 0, come last
            name = op.name if i == len(parts) else f"{op.name}/part{i}"
            x = add(x, name, self._tensor(name, shape, op.name), axes)
        return x

    def _cut(self, x: int, name: str, y: int, axes: Mapping[int, Sequence[int]]) -> int:
        """Add the operator that gives what is chosen of some axes of `x`, in steps upwards, as the tensor `y`."""
        begin, end, steps = [0] * 4, [0] * 4, [1] * 4
        for axis, chosen in axes.items():
            place = 1 + (axis - 1) % 3
            begin[place], end[place], steps[place] = chosen[0], chosen[-1] + 1, step(chosen) or 1
        whole = sum(1 << place for place in range(4) if not end[place])
        parts = {"begin": begin, "end": end, "steps": steps}
        ends = [self._int32(f"{name}/{part}", values) for part, values in parts.items()]
        return self.graph.operator("STRIDED_SLICE", [x, *ends], y, beginMask=whole, endMask=whole)

    def _gathered(self, x: int, name: str, y: int, axes: Mapping[int, Sequence[int]]) -> int:
        """The same for any numbers along one axis."""
        ((axis, chosen),) = axes.items()
        return self.graph.operator("GATHER", [x, self._int32(f"{name}/numbers", chosen)], y, axis=1 + (axis - 1) % 3)

    def _repeated(self, x: int, name: str, y: int, axes: Mapping[int, Sequence[int]]) -> int:
        """The same for rows and columns of which each is repeated as often."""
        size = self._int32(f"{name}/size", self.graph.shape(y)[:2])
        return self.graph.operator("RESIZE_NEAREST_NEIGHBOR", [x, size], y)

    def rearrange(self, op: Rearrange, x: int) -> int:
        channels, *size = (*op.shape, 1, 1)[:3]
        shape = (*size, channels)
        wholes = transpositions(self.program.shapes[op.inputs[0]], op)
        parts = [part for whole in wholes for part in in_steps(whole, MOVED_AXES)]
        for i, part in enumerate(parts, start=1):
            front = int(part.axes[0] == 0)  # an axis that stays in front is one with the batch
            sizes, result = part.sizes[front:], part.result[front:]
            per_image = part.sizes[0] if front else 1
            x = self._as_shape(op, x, f"{op.name}/view{i}", sizes, per_image)
            axes = [0, *(axis + 1 - front for axis in part.axes[front:])]
            name = op.name if i == len(parts) and result == shape else f"{op.name}/transposed{i}"
            order = self._int32(f"{name}/order", axes)
            y = self._tensor(name, result, op.name, per_image=per_image)
            x = self.graph.operator("TRANSPOSE", [x, order], y, version=2 if len(axes) < 5 else 4)
        return self._as_shape(op, x, op.name, shape)

    def _as_shape(self, op: Op, x: int, name: str, shape: Sequence[int], per_image: int = 1) -> int:
        """`x`, or the tensor `name` of the values of `x`, [batch * per_image, *shape]."""
        if self.graph.shape(x) == tuple(shape):
            return x
        return self._reshape(x, name, self._tensor(name, shape, op.name, per_image=per_image), shape)

    def _pad(
        self, op: Op, x: int, name: str, padding: tuple[int, int, int, int], value: int, between: Pair = (0, 0)
    ) -> int:
        """Pad `x`, the operand of `op`, with rows (top, bottom), columns (left, right) and `between` of an integer."""
        sides = [padding[:2], padding[2:]]
        for axis, part in ((1, "columns"), (0, "rows")):
            if more := between[axis]:
                # so many go with each line: behind it as far as the padding takes those of the last line, else before
                before, after = sides[axis]
                behind = min(more, after)
                x = self._apart(op, x, f"{name}/{part}", axis, (more - behind, behind), value)
                sides[axis] = before - more + behind, after - behind
        shape = [*self.graph.shape(x)]
        surplus = {axis: range(-before, shape[axis]) for axis, (before, _) in enumerate(sides) if before < 0}
        if surplus:
            for axis, rest in surplus.items():
                shape[axis] = len(rest)
            y = self._tensor(f"{name}/cropped", shape, op.inputs[0])
            x = self._cut(x, f"{name}/cropped", y, {1 + axis: rest for axis, rest in surplus.items()})
        return self._filled(op, x, name, [*((max(0, before), after) for before, after in sides), (0, 0)], value)

    def _apart(self, op: Op, x: int, name: str, axis: int, sides: tuple[int, int], value: int) -> int:
        """Add rows (axis 0) or columns (1) of an integer before and after each one of `x`, the operand of `op`."""
        shape, wide = [*self.graph.shape(x)], [(0, 0)] * 3
        wide[axis + 1] = sides[0] * shape[axis + 1], sides[1] * shape[axis + 1]
        x = self._filled(op, x, f"{name}/wide", wide, value)
        shape[axis] *= 1 + sum(sides)
        return self._reshape(x, name, self._tensor(name, shape, op.inputs[0]), shape)

    def _filled(self, op: Op, x: int, name: str, sides: Sequence[Pair], value: int) -> int:
        """Add an integer before and after `x`, the operand of `op`, along its height, width and channels."""
        ends = self.graph.constant(f"{name}/sides", np.array([(0, 0), *sides], np.int32))
        shape = [size + sum(side) for size, side in zip(self.graph.shape(x), sides, strict=True)]
        y = self._tensor(name, shape, op.inputs[0])
        if value == 0:
            return self.graph.operator("PAD", [x, ends], y)
        return self.graph.operator("PADV2", [x, ends, self._int8(f"{name}/value", [value], op.inputs[0])], y)

    def _reshape(self, x: int, name: str, y: int, shape: Sequence[int]) -> int:
        """Reshape `x` to [batch, *shape], the tensor `y` named `name`."""
        target = self._int32(f"{name}/shape", [-1, *shape])
        return self.graph.operator("RESHAPE", [x, target], y, version=1, newShape=[-1, *shape])

    def _output(self, op: Op, part: str = "") -> int:
        """The tensor of the result of `op`, or of the intermediate result `part`."""
        channels, height, width = (*op.shape, 1, 1)[:3]
        return self._tensor(f"{op.name}/{part}" if part else op.name, [height, width, channels], op.name)

    def _tensor(self, name: str, shape: Sequence[int], like: str, dtype: str = "int8", per_image: int = 1) -> int:
        """The tensor `name` [batch * per_image, *shape] with the exponent of the program's tensor `like`."""
        return self.graph.tensor(name, shape, power_of_two(self.exponents[like], name), dtype, per_image)

    def _int8(self, name: str, value: ArrayLike, like: str) -> int:
        """An int8 constant with the exponent of the program's tensor `like`."""
        return self.graph.constant(name, np.array(value, np.int8), power_of_two(self.exponents[like], name))

    def _int32(self, name: str, values: Sequence[int]) -> int:
        """A constant of sizes or places."""
        return self.graph.constant(name, np.array(values, np.int32))

    def _constant(self, op: Op, name: str) -> np.ndarray:
        return self.program.constants[f"{op.name}.{name}"].detach().cpu().numpy()


def _is_repeat(chosen: Sequence[int], size: int) -> bool:
    """Whether all of `size` rows or columns are repeated, each as often, and LiteRT's float32 gives these numbers."""
    count = len(chosen)
    scale = np.float32(size) / np.float32(count)
    return count % size == 0 and np.array_equal(np.floor(np.arange(count, dtype=np.float32) * scale), chosen)
