"""Operations of PyTorch that reduce windows: average and max pools of any kind."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.layers import LEAST
from fixedpoint.capture.reductions import Reductions
from fixedpoint.capture.values import Value
from fixedpoint.program import AvgPool, Concat, MaxPool

Window = tuple[int, int]  # the first position of a window and the one behind its last


class Pools(Reductions):
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
