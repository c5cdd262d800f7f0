"""Operations of PyTorch that reduce dimensions: means, sums, maxima."""

from math import prod
from typing import Any

import torch
from torch.fx import Node

from fixedpoint.capture.joins import Joins
from fixedpoint.capture.values import Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Add, AvgPool, Conv, MaxPool, Op

_OF_BATCH = "it is over the images of a batch, too: name the other dimensions, as in mean((1, 2, 3))"


class Reductions(Joins):
    """One method for each operation."""

    def aten_mean(self, node: Node, a: dict) -> Value:
        return self._mean(node, a["self"], a.get("dim"), a.get("keepdim", False))[0]

    def aten_sum(self, node: Node, a: dict) -> Value:
        mean, count = self._mean(node, a["self"], a.get("dim"), a.get("keepdim", False))
        return self.affine(node, mean, count, 0)

    def aten_amax(self, node: Node, a: dict) -> Value:
        return self._reduced(node, MaxPool, a["self"], a["dim"], a["keepdim"])

    def aten_amin(self, node: Node, a: dict) -> Value:
        negative = self.affine(node, a["self"], -1, 0)
        return self.affine(node, self._reduced(node, MaxPool, negative, a["dim"], a["keepdim"]), -1, 0)

    def aten_max(self, node: Node, a: dict) -> Value | tuple[Value, None]:
        if "other" in a:
            return self.aten_maximum(node, a)
        if "dim" not in a:
            raise QuantizationError(_OF_BATCH)
        return self.aten_amax(node, a), None

    def aten_min(self, node: Node, a: dict) -> Value | tuple[Value, None]:
        if "other" in a:
            return self.aten_minimum(node, a)
        if "dim" not in a:
            raise QuantizationError(_OF_BATCH)
        return self.aten_amin(node, a), None

    def aten_maximum(self, node: Node, a: dict) -> Value:
        left, right = a["self"], a["other"]
        if not isinstance(right, Value):
            return self.clamped(node, left, right, None)
        if not isinstance(left, Value):
            return self.clamped(node, right, left, None)
        shape = torch.broadcast_shapes(left.full_shape, right.full_shape)
        both = self.joined(node, [each.with_positions(each.positions.broadcast_to(shape)) for each in (left, right)])
        stacked = both[0].with_positions(torch.stack([each.positions for each in both], 1))
        return self._reduced(node, MaxPool, stacked, 1, False)

    def aten_minimum(self, node: Node, a: dict) -> Value:
        left, right = a["self"], a["other"]
        if not isinstance(right, Value):
            return self.clamped(node, left, None, right)
        if not isinstance(left, Value):
            return self.clamped(node, right, None, left)
        negatives = {key: self.affine(node, a[key], -1, 0) for key in ("self", "other")}
        return self.affine(node, self.aten_maximum(node, negatives), -1, 0)

    def _mean(self, node: Node, x: Value, dims: Any, keepdim: bool) -> tuple[Value, int]:
        """The mean over dimensions, and of how many entries it is."""
        axes, shape = _axes(x, dims), x.shape
        count = prod(shape[axis] for axis in axes)
        if len(shape) == 3 and axes == [0]:
            weights = {"weight": torch.full((1, count, 1, 1), 1 / count), "bias": torch.zeros(1)}
            made = self.add(node, Conv, [x], weights, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
            return (made if keepdim else made.at(made.index.squeeze(0), node)), count
        if len(shape) - len(axes) == 3:  # maps that are added
            kept = [axis for axis in range(len(shape)) if axis not in axes]
            parts = x.index.permute([*axes, *kept]).flatten(0, len(axes) - 1)
            total = self.aligned(node, Add, [x.at(part, node) for part in parts]) if count > 1 else x.at(parts[0], node)
            mean = self.affine(node, total, 1 / count, 0)
            sizes = [1 if axis in axes else size for axis, size in enumerate(shape)]
            return (mean.at(mean.index.reshape(sizes)) if keepdim else mean), count
        return self._reduced(node, AvgPool, x, dims, keepdim), count

    def _reduced(self, node: Node, op: type[Op], x: Value, dims: Any, keepdim: bool) -> Value:
        """The mean or the maximum over dimensions: a pool of the whole map."""
        axes, shape = _axes(x, dims), x.shape
        if len(shape) == 3 and 0 not in axes:
            laid, kernel = x, tuple(shape[axis] if axis in axes else 1 for axis in (1, 2))
        else:
            kept = [axis for axis in range(len(shape)) if axis not in axes]
            channels = prod(shape[axis] for axis in kept)
            kernel = (shape[axes[0]], prod(shape[axis] for axis in axes[1:]))
            if x.base_shape[1:2] and channels == x.base_shape[0] and prod(kernel) == prod(x.base_shape[1:]):
                kernel = x.base_shape[1:]
            laid = x.at(x.index.permute([*kept, *axes]).reshape(channels, *kernel))
        made = laid if kernel == (1, 1) else self._whole(node, op, laid, kernel)
        sizes = [1 if axis in axes else size for axis, size in enumerate(shape)]
        sizes = sizes if keepdim else [size for axis, size in enumerate(shape) if axis not in axes]
        return made.at(made.index.reshape(sizes), node)

    def _whole(self, node: Node, op: type[Op], x: Value, kernel: tuple[int, ...]) -> Value:
        """A pool; a mean of a mean becomes one mean, which leaves that before it without a reader."""
        if op is MaxPool:
            return self.add(node, MaxPool, [x], kernel=kernel, stride=kernel, padding=(0, 0))
        before = self.ops.get(x.base)
        if isinstance(before, AvgPool) and x.moved is None and before.kernel == before.stride:
            x = Value(before.inputs[0], self.shape_of(before.inputs[0]))
            kernel = tuple(k * own for k, own in zip(kernel, before.kernel, strict=True))
        return self.add(node, AvgPool, [x], kernel=kernel, stride=kernel)


def _axes(x: Value, dims: Any) -> list[int]:
    """Dimensions of PyTorch as axes without the batch."""
    rank = len(x.shape) + 1
    given = [dims] if isinstance(dims, int) else list(dims or range(rank))
    axes = sorted({dim % rank - 1 for dim in given})
    if -1 in axes:
        raise QuantizationError(_OF_BATCH)
    return axes
