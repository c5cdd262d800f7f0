"""Operations of PyTorch that choose between values by a mask, which is constant or compares values with a number."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.elementwise import constant
from fixedpoint.capture.exponentials import Exponentials
from fixedpoint.capture.values import Compared, Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import BatchNorm, Clamp, Lookup


class Choices(Exponentials):
    """One method for each operation."""

    def aten_gt(self, node: Node, a: dict) -> Compared:
        return _compared(a["self"], a["other"], less=False)

    def aten_lt(self, node: Node, a: dict) -> Compared:
        return _compared(a["self"], a["other"], less=True)

    aten_ge = aten_greater = aten_greater_equal = aten_gt  # where both are equal, what is chosen is, too, or refused
    aten_le = aten_less = aten_less_equal = aten_lt

    def aten_where(self, node: Node, a: dict) -> Value:
        mask, chosen, other = a["condition"], a["self"], a["other"]
        if isinstance(mask, Compared):
            return self._by_sign(node, mask, chosen, other)
        if isinstance(mask, Value):
            raise QuantizationError("its mask is computed from the image: use a constant one, or a clamp")
        if isinstance(chosen, Value) and isinstance(other, Value):
            shape = torch.broadcast_shapes(mask.shape, chosen.full_shape, other.full_shape)
            pair = [each.with_positions(each.positions.broadcast_to(shape)) for each in (chosen, other)]
            left, right = self.joined(node, pair)
            return left.with_positions(torch.where(mask, left.positions, right.positions), node)
        if not isinstance(chosen, Value):
            mask, chosen, other = ~mask, other, chosen
        shift = torch.where(mask, 0.0, constant(other))
        return self.affine(node, chosen, mask.double(), shift)

    def aten_masked_fill(self, node: Node, a: dict) -> Value:
        return self.aten_where(node, {"condition": a["mask"], "self": a["value"], "other": a["self"]})

    def aten_mul(self, node: Node, a: dict) -> Value:
        left, right = a["self"], a["other"]
        if isinstance(left, Compared):
            left, right = right, left
        if isinstance(right, Compared):
            return self.aten_where(node, {"condition": right, "self": left, "other": 0.0})
        return super().aten_mul(node, {"self": left, "other": right})

    aten_multiply = aten_mul

    def _by_sign(self, node: Node, mask: Compared, chosen: Any, other: Any) -> Value:
        """A choice that is a clamp, or that gives `x` times one number above 0 and times another below."""
        x, above, below = mask.x, chosen, other
        if mask.less:
            above, below = below, above
        for bound, values, clamp in ((below, above, (mask.bound, None)), (above, below, (None, mask.bound))):
            if _is_number(bound, mask.bound) and isinstance(values, Value) and _is_same(values, x):
                return self.each(node, Clamp, x, clamp=clamp)
        slopes = [self._slope(x, each) for each in (above, below)]
        if mask.bound != 0 or None in slopes:
            raise QuantizationError("only a choice that is a clamp, or by the sign of x between multiples of x, is one")
        up, down = (float(slope or 0) for slope in slopes)
        if up == 0:
            return self.affine(node, self.each(node, Clamp, x, clamp=(None, 0.0)), down, 0)
        positive = self.each(node, Clamp, x, clamp=(0.0, None)) if down == 0 else None
        leaky = positive or self.each(node, Lookup, x, function="leaky_relu", arguments=(down / up,))
        return self.affine(node, leaky, up, 0)

    def _slope(self, x: Value, y: Any) -> float | None:
        """The number s for which y is `s * x`, if y is so simple."""
        if not isinstance(y, Value):
            return 0.0 if _is_number(y, 0) else None
        if _is_same(x, y):
            return 1.0
        op = self.ops.get(y.base)
        if not isinstance(op, BatchNorm) or not _is_same(x, Value(op.inputs[0], op.shape, y.moved)):
            return None
        scale, shift = (self.constants[f"{op.name}.{key}"] for key in ("scale", "shift"))
        return float(scale[0]) if bool((scale == scale[0]).all() and (shift == 0).all()) else None


def _compared(x: Any, other: Any, less: bool) -> Compared:
    if not isinstance(x, Value):
        x, other, less = other, x, not less
    if constant(other).unique().numel() != 1:
        raise QuantizationError("only a comparison with one number is supported")
    return Compared(x, float(constant(other).flatten()[0]), less)


def _is_number(value: Any, number: float) -> bool:
    return (
        not isinstance(value, Value)
        and isinstance(value, int | float | Tensor)
        and bool((constant(value) == number).all())
    )


def _is_same(x: Value, y: Value) -> bool:
    return x.base == y.base and torch.equal(x.positions, y.positions)
