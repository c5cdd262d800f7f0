"""Operations of PyTorch that reduce windows or dimensions: pools, means, sums, maxima."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf, prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.layers import Layers
from fixedpoint.capture.values import BATCH, Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Add, AvgPool, Concat, Conv, MaxPool, Op

LEAST = None  # the value of a pad that is never the maximum
Window = tuple[int, int]  # the first position of a window and the one behind its last


class Pools(Layers):
    """One method for each operation."""

    def aten_avg_pool2d(self, node: Node, a: dict) -> Value:
        x, planar = _map(a["self"], node)
        size = x.shape[1:]
        kernel, stride, padding = (_pair(a[key], planar, default) for key, default in _window(a))
        counts = self._counts(node, planar)
        axes = [*zip(size, kernel, stride, padding, counts, strict=True)]
        divisor = a.get("divisor_override")
        if a["count_include_pad"] or divisor:
            beyond = [max(0, (n - 1) * t + k - s - 2 * p) if divisor else 0 for s, k, t, p, n in axes]
            x = self.padded(node, x, (padding[0], padding[0] + beyond[0], padding[1], padding[1] + beyond[1]), 0.0)
            axes = [(s, k, t, 0, n) for s, (_, k, t, _, n) in zip(x.shape[1:], axes, strict=True)]
        windows = [[(max(0, i * t - p), min(s, i * t - p + k)) for i in range(n)] for s, k, t, p, n in axes]
        pooled = self._means(node, x, windows, stride)
        pooled = self.affine(node, pooled, prod(kernel) / divisor, 0) if divisor else pooled
        return _unmapped(pooled, planar)

    def aten_adaptive_avg_pool2d(self, node: Node, a: dict) -> Value:
        x, planar = _map(a["self"], node)
        windows = [_adaptive(*pair) for pair in zip(x.shape[1:], self._counts(node, planar), strict=True)]
        return _unmapped(self._means(node, x, windows, None), planar)

    def aten_max_pool2d(self, node: Node, a: dict) -> Value:
        x, planar = _map(a["self"], node)
        kernel, stride, padding = (_pair(a[key], planar, default) for key, default in _window(a))
        dilation = _pair(a["dilation"], planar, 1)
        # with ceil_mode the last window may reach beyond the padded map
        axes = zip(x.shape[1:], kernel, stride, padding, dilation, self._counts(node, planar), strict=True)
        beyond = [max(0, (n - 1) * t + d * (k - 1) + 1 - s - 2 * p) for s, k, t, p, d, n in axes]
        if dilation == (1, 1):
            x = self.padded(node, x, (0, beyond[0], 0, beyond[1]), LEAST)
            pooled = self.add(node, MaxPool, [x], kernel=kernel, stride=stride, padding=padding)
            return _unmapped(pooled, planar)
        x = self.padded(node, x, (padding[0], padding[0] + beyond[0], padding[1], padding[1] + beyond[1]), LEAST)
        axes = zip(kernel, stride, dilation, self._counts(node, planar), strict=True)
        return _unmapped(
            self._maxima(node, x, [[[i * t + j * d for j in range(k)] for i in range(n)] for k, t, d, n in axes]),
            planar,
        )

    def aten_adaptive_max_pool2d(self, node: Node, a: dict) -> tuple[Value, None]:
        x, planar = _map(a["self"], node)
        counts = self._counts(node, planar)
        windows = [_adaptive(*pair) for pair in zip(x.shape[1:], counts, strict=True)]
        most = [max(stop - start for start, stop in axis) for axis in windows]
        lines = [
            [[min(start + j, stop - 1) for j in range(k)] for start, stop in axis]
            for k, axis in zip(most, windows, strict=True)
        ]
        return _unmapped(self._maxima(node, x, lines), planar), None

    def aten_max_pool2d_with_indices(self, node: Node, a: dict) -> tuple[Value, None]:
        return self.aten_max_pool2d(node, a), None

    aten_avg_pool1d, aten_adaptive_avg_pool1d = aten_avg_pool2d, aten_adaptive_avg_pool2d
    aten_max_pool1d, aten_adaptive_max_pool1d = aten_max_pool2d, aten_adaptive_max_pool2d
    aten_max_pool1d_with_indices = aten_max_pool2d_with_indices

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
            raise QuantizationError("it is over the images of a batch, too")
        return self.aten_amax(node, a), None

    def aten_min(self, node: Node, a: dict) -> Value | tuple[Value, None]:
        if "other" in a:
            return self.aten_minimum(node, a)
        if "dim" not in a:
            raise QuantizationError("it is over the images of a batch, too")
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

    def aten_cat(self, node: Node, a: dict) -> Value:
        parts = list(a["tensors"])
        first = next(each for each in parts if isinstance(each, Value))
        rank = len(first.full_shape)
        dim = a["dim"] % rank
        constants = [each for each in parts if not isinstance(each, Value)]
        if constants and dim == 1 and all(map(_is_even, constants)):
            return self._with_channels(node, first, parts)
        values = [each if isinstance(each, Value) else self.constant(node, each) for each in parts]
        if dim and rank in (2, 4) and len({each.base for each in values}) > 1:
            return self.add(node, Concat, values, axis=dim - 1)
        values = self.joined(node, values)
        return values[0].with_positions(torch.cat([each.positions for each in values], dim), node)

    def _with_channels(self, node: Node, first: Value, parts: list) -> Value:
        """A concatenation with channels of one number each: others in their places, times 0, plus that number."""
        values, scales, shifts = [], [], []
        for part in parts:
            if isinstance(part, Value):
                channels = part.shape[0]
                scale, shift = torch.ones(channels), torch.zeros(channels)
            else:
                channels = part.shape[1]
                scale, shift = torch.zeros(channels), part[0].flatten(1)[:, 0]
                part = first.with_positions(first.positions[:, :1].expand(-1, channels, *first.full_shape[2:]), node)
            values.append(part)
            scales.append(scale)
            shifts.append(shift)
        x = self.aten_cat(node, {"tensors": values, "dim": 1})
        ones = [1] * (len(x.shape) - 1)
        return self.affine(node, x, torch.cat(scales).reshape(-1, *ones), torch.cat(shifts).reshape(-1, *ones))

    aten_concat = aten_concatenate = aten_cat

    def aten_pad(self, node: Node, a: dict) -> Value:
        x, sides, mode = a["self"], list(a["pad"]), a.get("mode", "constant")
        if mode != "constant":
            return x.with_positions(torch.nn.functional.pad(x.positions, sides, mode=mode), node)
        x = x.with_positions(torch.nn.functional.pad(x.positions, [min(0, side) for side in sides]), node)
        more = [max(0, side) for side in sides] + [0] * (2 * len(x.full_shape) - len(sides))
        value = a["value"] or 0.0
        value = LEAST if value == -inf else value
        if len(x.shape) == 3 and not any(more[4:]):
            left, right, top, bottom, *_ = more
            return self.padded(node, x, (top, bottom, left, right), value)
        if any(more[-2:]) or value is LEAST:
            raise QuantizationError("only rows and columns of this number can be added")
        for axis in range(len(x.shape)):
            last = 2 * (len(x.shape) - 1 - axis)
            sizes = [(BATCH, *x.shape[:axis], count, *x.shape[axis + 1 :]) for count in more[last : last + 2]]
            before, after = (torch.full(size, float(value)) for size in sizes)
            parts = [part for part in (before, x, after) if isinstance(part, Value) or part.numel()]
            x = self.aten_cat(node, {"tensors": parts, "dim": axis + 1})
        return x

    aten_constant_pad_nd = aten_pad

    def _counts(self, node: Node, planar: bool) -> tuple[int, int]:
        """Rows and columns of the node's value."""
        value: Any = node.meta["val"]
        sizes = (value if isinstance(value, Tensor) else value[0]).shape
        return (int(sizes[-2]) if planar else 1), int(sizes[-1])

    def _means(self, node: Node, x: Value, windows: list[list[Window]], stride: Sequence[int] | None) -> Value:
        """The mean of each window, those of equal size together.

        `stride` is the distance for an axis with one window, by default its size.
        """
        groups = [_by_size(list(dict.fromkeys(axis))) for axis in windows]
        rows = []
        for row in groups[0]:
            parts = [self._mean_of(node, x, (row, column), stride) for column in groups[1]]
            rows.append(parts[0] if len(parts) == 1 else self.add(node, Concat, parts, axis=2))
        made = rows[0] if len(rows) == 1 else self.add(node, Concat, rows, axis=1)
        order = []
        for own, axis in zip(windows, groups, strict=True):
            made_of = [each for group in axis for each in group]
            order.append(torch.tensor([made_of.index(each) for each in own]))
        return made.at(made.index[:, order[0]][:, :, order[1]], node)

    def _mean_of(self, node: Node, x: Value, groups: Sequence[list[Window]], stride: Sequence[int] | None) -> Value:
        """The mean of windows of one size."""
        index, kernel, steps = x.index, [], []
        for axis, group in enumerate(groups, start=1):
            size = group[0][1] - group[0][0]
            distances = {right[0] - left[0] for left, right in pairwise(group)} or {
                stride[axis - 1] if stride else size
            }
            step = min(distances)
            if len(distances) == 1 and step > 0:
                if group[0][0] or (index.shape[axis] - size) // step + 1 != len(group):
                    index = index.narrow(axis, group[0][0], group[-1][1] - group[0][0])
            else:
                step = size
                index = index.index_select(axis, torch.tensor([i for start, stop in group for i in range(start, stop)]))
            kernel.append(size)
            steps.append(step)
        if kernel == [1, 1]:
            return x.at(index[:, :: steps[0], :: steps[1]], node)
        return self.add(node, AvgPool, [x.at(index, node)], kernel=tuple(kernel), stride=tuple(steps))

    def _maxima(self, node: Node, x: Value, lines: list[list[list[int]]]) -> Value:
        """The maximum of each window, given by the numbers of its rows and columns, as many for each window."""
        rows, columns = (torch.tensor(axis) for axis in lines)
        laid = x.index[:, rows.flatten()][:, :, columns.flatten()]
        kernel = (rows.shape[1], columns.shape[1])
        if kernel == (1, 1):
            return x.at(laid, node)
        return self.add(node, MaxPool, [x.at(laid, node)], kernel=kernel, stride=kernel, padding=(0, 0))

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


def _is_even(x: Tensor) -> bool:
    """Whether each channel of a constant [batch, channels, ...] holds one number, the same for all images."""
    lines = x.transpose(0, 1).flatten(1)
    return torch.equal(lines, lines[:, :1].expand_as(lines))


def _axes(x: Value, dims: Any) -> list[int]:
    """Dimensions of PyTorch as axes without the batch."""
    rank = len(x.shape) + 1
    given = [dims] if isinstance(dims, int) else list(dims or range(rank))
    axes = sorted({dim % rank - 1 for dim in given})
    if -1 in axes:
        raise QuantizationError("it is over the images of a batch, too")
    return axes


def _by_size(windows: list[Window]) -> list[list[Window]]:
    """Windows in groups of one size."""
    sizes = dict.fromkeys(stop - start for start, stop in windows)
    return [[each for each in windows if each[1] - each[0] == size] for size in sizes]


def _adaptive(size: int, count: int) -> list[Window]:
    """The windows of an adaptive pool."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _window(a: dict) -> list[tuple[str, int]]:
    """The arguments that describe windows, each with its value for the height of a row."""
    a["stride"] = a["stride"] or a["kernel_size"]
    return [("kernel_size", 1), ("stride", 1), ("padding", 0)]


def _map(x: Value, node: Node) -> tuple[Value, bool]:
    """A map; [batch, channels, length] becomes one of one row, and False says so."""
    shape = x.shape
    return (x, True) if len(shape) == 3 else (x.at(x.index.unsqueeze(-2), node), False)


def _unmapped(x: Value, planar: bool) -> Value:
    return x if planar else x.at(x.index.squeeze(-2))


def _pair(value: int | list[int], planar: bool, of_rows: int) -> tuple[int, int]:
    numbers = [value] if isinstance(value, int) else [*value]
    return int(numbers[0] if planar else of_rows), int(numbers[-1])
