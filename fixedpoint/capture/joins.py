"""Operations of PyTorch that put values beside others or constants: concatenation and padding."""

from math import inf

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.layers import LEAST, Layers
from fixedpoint.capture.values import BATCH, Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Concat


class Joins(Layers):
    """One method for each operation."""

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

    def aten_im2col(self, node: Node, a: dict) -> Value:
        rows, columns = a["padding"]
        x = self.padded(node, a["self"], (rows, rows, columns, columns), 0.0)
        patches = torch.nn.functional.unfold(x.positions, a["kernel_size"], a["dilation"], 0, a["stride"])
        return x.with_positions(patches, node)


def _is_even(x: Tensor) -> bool:
    """Whether each channel of a constant [batch, channels, ...] holds one number, the same for all images."""
    lines = x.transpose(0, 1).flatten(1)
    return torch.equal(lines, lines[:, :1].expand_as(lines))
