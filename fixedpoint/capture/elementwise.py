"""Operations of PyTorch that compute each entry by itself: functions, clamps, sums, products."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.exported import ExportedGraph
from fixedpoint.capture.gates import own_gate
from fixedpoint.capture.names import operation
from fixedpoint.capture.values import Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Add, BatchNorm, Clamp, Lookup, Mul, Op


class Elementwise(ExportedGraph):
    """One method for each operation."""

    def each(self, node: Node, op: type[Op], x: Value, **attributes: Any) -> Value:
        """Append an operation that computes each entry alike: of the base, if that has no more entries."""
        x = self.compact(node, x)
        made = self.add(node, op, [Value(x.base, x.base_shape)], **attributes)
        return made if x.moved is None else made.with_positions(x.positions, x.node)

    def clamped(self, node: Node, x: Value, low: Any, high: Any) -> Value:
        """`x` within `low` and `high`: numbers, constants of one number or one per channel, or None."""
        bounds = [None if bound is None else constant(bound) for bound in (low, high)]
        if all(bound is None or bound.numel() == 1 for bound in bounds):
            clamp = tuple(None if bound is None else float(bound) for bound in bounds)
            return self.each(node, Clamp, x, clamp=clamp)
        for bound, clamp in zip(bounds, ((0.0, None), (None, 0.0)), strict=True):
            if bound is not None:
                moved = self.each(node, Clamp, self.affine(node, x, 1, -bound), clamp=clamp)
                x = self.affine(node, moved, 1, bound)
        return x

    def affine(self, node: Node, x: Value, scale: Any, shift: Any) -> Value:
        """`x * scale + shift` of constants that are broadcast."""
        scales, shifts = constant(scale), constant(shift)
        full = torch.broadcast_shapes(x.full_shape, scales.shape, shifts.shape)
        x = x if full == x.full_shape else x.with_positions(x.positions.broadcast_to(full))
        factors = []
        for each in (scales, shifts):
            wide = each.broadcast_to(full)
            if not torch.equal(wide[0], wide[1]):
                raise QuantizationError("its constant is not the same for each image of a batch")
            factors.append(wide[0])
        if bool((factors[0] == 1).all() and (factors[1] == 0).all()):
            return x
        x = self.compact(node, x)
        own = _of_channels(x, factors)
        if own is not None:
            made = self._of_base(node, Value(x.base, x.base_shape), *own)
            return made if x.moved is None else made.with_positions(x.positions, x.node)
        # a map whose channels are the one axis along which the constants differ, or else features
        axes = [axis for axis in range(len(full) - 1) if not all(_is_even(each, axis) for each in factors)]
        axis = axes[0] if len(axes) == 1 else 0
        index, scale, shift = (each.movedim(axis, 0) for each in (x.index, *factors))
        laid = index.reshape(len(index), -1, 1) if len(axes) == 1 and index.dim() != 3 else index
        laid = laid if len(axes) == 1 else index.flatten()
        constants = {"scale": scale.reshape(laid.shape), "shift": shift.reshape(laid.shape)}
        constants = {key: each.reshape(len(laid), -1)[:, 0] for key, each in constants.items()}
        made = self.add(node, BatchNorm, [x.at(laid)], constants)
        return made.at(torch.arange(laid.numel()).reshape(index.shape).movedim(0, axis))

    def _of_base(self, node: Node, x: Value, scale: Tensor, shift: Tensor) -> Value:
        """`x * scale + shift` of constants [channels]; none if it takes back the one before it."""
        before = self.ops.get(x.base)
        if isinstance(before, BatchNorm):
            first = [self.constants[f"{before.name}.{key}"].double() for key in ("scale", "shift")]
            if bool((first[0] * scale == 1).all() and (first[1] * scale + shift == 0).all()):
                return Value(before.inputs[0], before.shape)
        return self.add(node, BatchNorm, [x], {"scale": scale, "shift": shift})

    def aten_relu(self, node: Node, a: dict) -> Value:
        return self.each(node, Clamp, a["self"], clamp=(0.0, None))

    def aten_relu6(self, node: Node, a: dict) -> Value:
        return self.each(node, Clamp, a["self"], clamp=(0.0, 6.0))

    def aten_hardtanh(self, node: Node, a: dict) -> Value:
        return self.clamped(node, a["self"], a["min_val"], a["max_val"])

    def aten_clamp(self, node: Node, a: dict) -> Value:
        if any(isinstance(a.get(key), Value) for key in ("min", "max")) or not isinstance(a["self"], Value):
            raise QuantizationError("its bounds are computed from the image: use numbers or parameters")
        return self.clamped(node, a["self"], a.get("min"), a.get("max"))

    aten_clip = aten_clamp_min = aten_clamp_max = aten_clamp

    def aten_threshold(self, node: Node, a: dict) -> Value:
        if a["threshold"] != a["value"]:
            raise QuantizationError("its threshold and its value must be one number, as in a clamp")
        return self.clamped(node, a["self"], a["threshold"], None)

    def aten_gelu(self, node: Node, a: dict) -> Value:
        function = "gelu_tanh" if a["approximate"] == "tanh" else "gelu"
        return self.each(node, Lookup, a["self"], function=function, arguments=())

    def _function(self, node: Node, a: dict) -> Value:
        x, *rest = a.values()
        return self.each(node, Lookup, x, function=operation(node), arguments=tuple(float(v) for v in rest))

    aten_hardsigmoid = aten_hardswish = aten_leaky_relu = aten_mish = aten_sigmoid = aten_silu = aten_tanh = _function

    def aten_rrelu(self, node: Node, a: dict) -> Value:
        slope = (float(a["lower"]) + float(a["upper"])) / 2
        return self.each(node, Lookup, a["self"], function="leaky_relu", arguments=(slope,))

    def aten_abs(self, node: Node, a: dict) -> Value:
        return self.each(node, Lookup, a["self"], function="leaky_relu", arguments=(-1.0,))

    def aten_prelu(self, node: Node, a: dict) -> Value:
        x, slopes = a["self"], constant(a["weight"])
        if slopes.numel() == 1:
            return self.each(node, Lookup, x, function="leaky_relu", arguments=(float(slopes),))
        positive = self.each(node, Clamp, x, clamp=(0.0, None))
        negative = self.each(node, Clamp, x, clamp=(None, 0.0))
        slopes = slopes.reshape(-1, *[1] * (len(x.shape) - 1))
        return self.aligned(node, Add, [positive, self.affine(node, negative, slopes, 0)])

    def aten_elu(self, node: Node, a: dict) -> Value:
        # for a negative x, alpha * (exp(x * input_scale) - 1); for others x; both times scale
        inner = float(a.get("input_scale", 1))
        x = self.affine(node, a["self"], inner, 0)
        y = self.each(node, Lookup, x, function="elu", arguments=(float(a["alpha"]) * inner,))
        return self.affine(node, y, float(a.get("scale", 1)) / inner, 0)

    def aten_celu(self, node: Node, a: dict) -> Value:
        return self.aten_elu(node, a | {"input_scale": 1 / a["alpha"]})

    def aten_selu(self, node: Node, a: dict) -> Value:
        return self.aten_elu(node, a | {"alpha": 1.6732632423543772, "scale": 1.0507009873554805})

    def aten_softplus(self, node: Node, a: dict) -> Value:
        x = self.affine(node, a["self"], a["beta"], 0)
        y = self.each(node, Lookup, x, function="softplus", arguments=())
        return self.affine(node, y, 1 / a["beta"], 0)

    def aten_glu(self, node: Node, a: dict) -> Value:
        x, gate = (a["self"].with_positions(half, node) for half in a["self"].positions.chunk(2, a["dim"]))
        return self.aligned(node, Mul, [x, self.each(node, Lookup, gate, function="sigmoid", arguments=())])

    def aten_add(self, node: Node, a: dict) -> Value:
        return self._sum(node, a["self"], a["other"], a["alpha"])

    def aten_sub(self, node: Node, a: dict) -> Value:
        return self._sum(node, a["self"], a["other"], -a["alpha"])

    aten_subtract = aten_sub

    def aten_rsub(self, node: Node, a: dict) -> Value:
        return self.aten_sub(node, a | {"self": a["other"], "other": a["self"]})

    def aten_neg(self, node: Node, a: dict) -> Value:
        return self.affine(node, a["self"], -1, 0)

    aten_negative = aten_neg

    def aten_mul(self, node: Node, a: dict) -> Value:
        left, right = a["self"], a["other"]
        if not isinstance(right, Value):
            return self.affine(node, left, right, 0)
        if not isinstance(left, Value):
            return self.affine(node, right, left, 0)
        for x, gate in ((left, right), (right, left)):
            found = own_gate(self.ops, self.constants, x.base, gate.base)
            if found and torch.equal(x.positions, gate.positions):
                made = self.each(node, Lookup, x, function=found[0], arguments=())
                return self.affine(node, made, found[1], 0)
        return self.aligned(node, Mul, [left, right])

    aten_multiply = aten_mul

    def aten_div(self, node: Node, a: dict) -> Value:
        if isinstance(a["other"], Value):
            raise QuantizationError("only a division by a constant is supported: use tanh for softsign, or a sigmoid")
        if a.get("rounding_mode") is not None:
            raise QuantizationError("it rounds: leave that out, as quantization does")
        return self.affine(node, a["self"], 1 / constant(a["other"]), 0)

    aten_divide = aten_true_divide = aten_div

    def aten_addcmul(self, node: Node, a: dict) -> Value:
        product = self.aten_mul(node, {"self": a["tensor1"], "other": a["tensor2"]})
        return self._sum(node, a["self"], product, a["value"])

    def aten_lerp(self, node: Node, a: dict) -> Value:
        weight = a["weight"]
        if isinstance(weight, Value):
            raise QuantizationError("its weight is computed from the image: write a product of tensors")
        left = self.aten_mul(node, {"self": a["self"], "other": 1 - constant(weight)})
        return self._sum(node, left, self.aten_mul(node, {"self": a["end"], "other": weight}), 1)

    def aten_square(self, node: Node, a: dict) -> Value:
        return self.aligned(node, Mul, [a["self"], a["self"]])

    def aten_pow(self, node: Node, a: dict) -> Value:
        x, exponent = a["self"], a["exponent"]
        if isinstance(exponent, Value) or not isinstance(x, Value) or constant(exponent).numel() != 1:
            raise QuantizationError("its exponent must be a number")
        times = float(constant(exponent))
        if times not in (1, 2, 3, 4):
            raise QuantizationError(f"its exponent must be 1, 2, 3 or 4, not {times:g}")
        if times in (2, 4):
            x = self.aligned(node, Mul, [x, x])
        if times == 3:
            return self.aligned(node, Mul, [self.aligned(node, Mul, [x, x]), x])
        return self.aligned(node, Mul, [x, x]) if times == 4 else x

    def _sum(self, node: Node, left: Any, right: Any, factor: float) -> Value:
        """`left + factor * right`."""
        if not isinstance(right, Value):
            return self.affine(node, left, 1, factor * constant(right))
        if not isinstance(left, Value):
            return self.affine(node, right, factor, left)
        return self.aligned(node, Add, [left, self.affine(node, right, factor, 0)])


def constant(value: Any) -> Tensor:
    """A number or constant in float64. Raises QuantizationError if it is computed from the image."""
    if isinstance(value, Value):
        raise QuantizationError(
            "an operand that must be constant is computed from the image: use numbers or parameters"
        )
    return torch.as_tensor(value, dtype=torch.float64)


def _of_channels(x: Value, factors: list[Tensor]) -> list[Tensor] | None:
    """The constants, given for each entry of `x`, of each channel of its base; None if they differ within one."""
    index, found = x.index.flatten(), []
    for each in factors:
        base = each.flatten()[0].repeat(x.base_size).index_copy(0, index, each.flatten())
        channels = base.reshape(x.base_shape[0], -1)
        if not torch.equal(base[index], each.flatten()) or not bool((channels == channels[:, :1]).all()):
            return None
        found.append(channels[:, 0])
    return found


def _is_even(x: Tensor, axis: int) -> bool:
    """Whether `x` is the same all along an axis."""
    return torch.equal(x, x.narrow(axis, 0, 1).expand_as(x))
