"""Turns each ATen operation of an exported network into operations of a program."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.exported import ExportedGraph, Operand, operation, place, shape
from fixedpoint.errors import QuantizationError
from fixedpoint.program import (
    Add,
    AvgPool,
    BatchNorm,
    Clamp,
    Concat,
    Conv,
    Flatten,
    Linear,
    Lookup,
    MaxPool,
    Mul,
    Pad,
    Pair,
)

LEAST = None  # the value of a pad that is never the maximum


class AtenOperations(ExportedGraph):
    """One method for each operation that PyTorch's networks are made of."""

    def aten_conv2d(self, node: Node, a: dict) -> str:
        padding, dilation, source = a["padding"], _pair(a["dilation"]), a["input"]
        if isinstance(padding, str):
            kernel = self.values[a["weight"].name].shape[2:]
            total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
            padding = [t // 2 for t in total]
            source = self._padded(node, source, (0, total[0] % 2, 0, total[1] % 2), 0.0)
        attributes = {"stride": _pair(a["stride"]), "padding": _pair(padding), "dilation": dilation}
        return self.add(node, Conv, [source], self._weights(a), groups=a["groups"], **attributes)

    def aten_linear(self, node: Node, a: dict) -> str:
        if node.meta["val"].dim() != 2:
            raise QuantizationError(f"linear in {place(node)}: only [batch, features] is supported")
        return self.add(node, Linear, [a["input"]], self._weights(a))

    def aten_batch_norm(self, node: Node, a: dict) -> str:
        if a["running_mean"] is None:
            raise QuantizationError(f"batch_norm in {place(node)}: has no running statistics to fold")
        mean, var = (self._value(a[key]) for key in ("running_mean", "running_var"))
        scale = torch.rsqrt(var + a["eps"]) * self._value(1 if a["weight"] is None else a["weight"])
        shift = self._value(0 if a["bias"] is None else a["bias"]) - mean * scale
        return self.add(node, BatchNorm, [a["input"]], {"scale": scale, "shift": shift})

    def aten_relu(self, node: Node, a: dict) -> str:
        return self.add(node, Clamp, [a["self"]], clamp=(0.0, None))

    def aten_relu6(self, node: Node, a: dict) -> str:
        return self.add(node, Clamp, [a["self"]], clamp=(0.0, 6.0))

    def aten_hardtanh(self, node: Node, a: dict) -> str:
        return self.add(node, Clamp, [a["self"]], clamp=(float(a["min_val"]), float(a["max_val"])))

    def aten_clamp(self, node: Node, a: dict) -> str:
        bounds = tuple(None if a[key] is None else float(a[key]) for key in ("min", "max"))
        return self.add(node, Clamp, [a["self"]], clamp=bounds)

    def aten_clamp_min(self, node: Node, a: dict) -> str:
        return self.add(node, Clamp, [a["self"]], clamp=(float(a["min"]), None))

    def aten_gelu(self, node: Node, a: dict) -> str:
        function = "gelu_tanh" if a["approximate"] == "tanh" else "gelu"
        return self.add(node, Lookup, [a["self"]], function=function, arguments=())

    def _function(self, node: Node, a: dict) -> str:
        x, *rest = a.values()
        return self.add(node, Lookup, [x], function=operation(node), arguments=tuple(float(v) for v in rest))

    aten_hardsigmoid = aten_hardswish = aten_leaky_relu = aten_mish = aten_sigmoid = aten_silu = aten_tanh = _function

    def aten_elu(self, node: Node, a: dict) -> str:
        if (a["scale"], a["input_scale"]) != (1, 1):
            raise QuantizationError(f"elu in {place(node)}: only scales of 1 are supported")
        return self.add(node, Lookup, [a["self"]], function="elu", arguments=(float(a["alpha"]),))

    def aten_softplus(self, node: Node, a: dict) -> str:
        if a["beta"] != 1:
            raise QuantizationError(f"softplus in {place(node)}: only a beta of 1 is supported")
        return self.add(node, Lookup, [a["self"]], function="softplus", arguments=())

    def aten_add(self, node: Node, a: dict) -> str:
        return self._sum(node, a["self"], a["other"], a["alpha"])

    def aten_sub(self, node: Node, a: dict) -> str:
        return self._sum(node, a["self"], a["other"], -a["alpha"])

    def aten_rsub(self, node: Node, a: dict) -> str:
        return self._affine(node, a["self"], -a["alpha"], a["other"])

    def aten_neg(self, node: Node, a: dict) -> str:
        return self._affine(node, a["self"], -1, 0)

    def aten_mul(self, node: Node, a: dict) -> str:
        left, right = a["self"], a["other"]
        if not self._is_computed(right):
            return self._affine(node, left, right, 0)
        if not self._is_computed(left):
            return self._affine(node, right, left, 0)
        full = shape(node)
        if not {shape(left), shape(right)} <= {full, (full[0], *[1] * (len(full) - 1))}:
            raise QuantizationError(f"mul in {place(node)}: only equal shapes, or one factor a channel, are supported")
        return self.add(node, Mul, [left, right])

    def aten_div(self, node: Node, a: dict) -> str:
        if self._is_computed(a["other"]):
            raise QuantizationError(f"div in {place(node)}: only a division by a constant is supported")
        return self._affine(node, a["self"], 1 / self._value(a["other"]), 0)

    def aten_pad(self, node: Node, a: dict) -> str:
        left, right, top, bottom, *more = [*a["pad"], 0, 0, 0, 0][: max(4, len(a["pad"]))]
        if a.get("mode", "constant") != "constant" or any(more) or min(left, right, top, bottom) < 0:
            raise QuantizationError(f"pad in {place(node)}: only rows and columns of a constant can be added")
        value = a["value"] or 0.0
        return self._padded(node, a["self"], (top, bottom, left, right), LEAST if value == -float("inf") else value)

    aten_constant_pad_nd = aten_pad

    def aten_avg_pool2d(self, node: Node, a: dict) -> str:
        kernel, stride, padding = _pair(a["kernel_size"]), _pair(a["stride"] or a["kernel_size"]), _pair(a["padding"])
        fits = tuple((s + 2 * p - k) // t + 1 for s, p, k, t in _axes(a["self"], padding, kernel, stride))
        if a["divisor_override"] or (any(padding) and not a["count_include_pad"]) or shape(node)[1:] != fits:
            raise QuantizationError(f"avg_pool2d in {place(node)}: every window must have as many values as the kernel")
        source = self._padded(node, a["self"], (padding[0], padding[0], padding[1], padding[1]), 0.0)
        return self._mean(node, source, kernel, stride)

    def aten_adaptive_avg_pool2d(self, node: Node, a: dict) -> str:
        axes = list(_axes(a["self"], _pair(a["output_size"])))
        if any(size % output for size, output in axes):
            sizes = " is not a multiple of ".join("x".join(map(str, pair)) for pair in zip(*axes, strict=True))
            raise QuantizationError(f"adaptive_avg_pool2d in {place(node)}: {sizes}")
        kernel = _pair([size // output for size, output in axes])
        return self._mean(node, a["self"], kernel, kernel)

    def aten_mean(self, node: Node, a: dict) -> str:
        source = shape(a["self"])
        if len(source) != 3 or {d % 4 for d in a["dim"] or ()} != {2, 3}:
            raise QuantizationError(f"mean in {place(node)}: must be over height and width")
        pooled = self._mean(node, a["self"], source[1:], source[1:], shape=(source[0], 1, 1))
        return pooled if a["keepdim"] else self.add(node, Flatten, [pooled])

    def aten_max_pool2d(self, node: Node, a: dict) -> str:
        kernel, stride, padding = _pair(a["kernel_size"]), _pair(a["stride"] or a["kernel_size"]), _pair(a["padding"])
        if _pair(a["dilation"]) != (1, 1):
            raise QuantizationError(f"max_pool2d in {place(node)}: dilation is not supported")
        # with ceil_mode the last window may reach beyond the padded map
        axes = _axes(a["self"], padding, kernel, stride, shape(node)[1:])
        beyond = [max(0, (count - 1) * t + k - s - 2 * p) for s, p, k, t, count in axes]
        source = self._padded(node, a["self"], (0, beyond[0], 0, beyond[1]), LEAST)
        return self.add(node, MaxPool, [source], kernel=kernel, stride=stride, padding=padding)

    def aten_cat(self, node: Node, a: dict) -> str:
        if a["dim"] % node.meta["val"].dim() != 1:
            raise QuantizationError(f"cat in {place(node)}: only channels are concatenated")
        return self.add(node, Concat, list(a["tensors"]))

    def aten_flatten(self, node: Node, a: dict) -> str:
        source = a["self"]
        if node.meta["val"].dim() != 2 or node.meta["val"].shape[0] != source.meta["val"].shape[0]:
            raise QuantizationError(f"{operation(node)} in {place(node)}: only [batch, everything else] is supported")
        return self._same(node, a) if shape(source) == shape(node) else self.add(node, Flatten, [source])

    aten_view = aten_reshape = aten_flatten

    def aten_squeeze(self, node: Node, a: dict) -> str:
        # [batch, channels, 1] is on the way from a pooled map to features
        return self._same(node, a) if node.meta["val"].dim() == 3 else self.aten_flatten(node, a)

    def _same(self, node: Node, a: dict) -> str:
        return self.tensor(node, node.args[0])  # `input` of dropout, `self` of the others

    aten_alias = aten_clone = aten_contiguous = aten_detach = aten_dropout = aten_feature_dropout = _same

    def _weights(self, a: dict) -> dict[str, Tensor]:
        weight = self.values[a["weight"].name]
        bias = a["bias"]
        return {"weight": weight, "bias": torch.zeros(len(weight)) if bias is None else self.values[bias.name]}

    def _padded(self, node: Node, x: Node, padding: tuple[int, int, int, int], value: float | None) -> str:
        """`x` [batch, channels, h, w] with rows (top, bottom) and columns (left, right) around it, if there are any."""
        if not any(padding):
            return self.tensor(node, x)
        channels, height, width = shape(x)
        size = (channels, height + padding[0] + padding[1], width + padding[2] + padding[3])
        return self.add(node, Pad, [x], shape=size, padding=tuple(padding), value=(value,))

    def _mean(self, node: Node, x: Operand, kernel: Pair, stride: Pair, **attributes: Any) -> str:
        if kernel == (1, 1) == stride:
            return self.tensor(node, x)
        return self.add(node, AvgPool, [x], kernel=kernel, stride=stride, **attributes)

    def _sum(self, node: Node, left: Node, right: Node | float, factor: float) -> str:
        """`left + factor * right`."""
        if not self._is_computed(right):
            return self._affine(node, left, 1, factor * self._value(right))
        if not self._is_computed(left):
            return self._affine(node, right, factor, left)
        if factor != 1 or shape(left) != shape(right):
            raise QuantizationError(f"{operation(node)} in {place(node)}: only tensors of equal shape are added")
        return self.add(node, Add, [left, right])

    def _affine(self, node: Node, x: Node, scale: Node | Tensor | float, shift: Node | Tensor | float) -> str:
        """`x * scale + shift`, each one number or one per channel."""
        full, constants = shape(node), {}
        for key, value in (("scale", self._value(scale)), ("shift", self._value(shift))):
            if value.numel() > 1 and tuple(value.shape[-len(full) :]) != (full[0], *[1] * (len(full) - 1)):
                raise QuantizationError(
                    f"{operation(node)} in {place(node)}: a constant must be one number, or one a channel"
                )
            constants[key] = value.reshape(-1).expand(full[0])
        return self.add(node, BatchNorm, [x], constants)

    def _is_computed(self, operand: Node | float) -> TypeGuard[Node]:
        return isinstance(operand, Node) and operand.name not in self.values

    def _value(self, operand: Node | Tensor | float) -> Tensor:
        """A constant in float64."""
        return torch.as_tensor(self.values[operand.name] if isinstance(operand, Node) else operand, dtype=torch.float64)


def _axes(x: Node, *pairs: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """For height and width of `x`: its size, then that axis of each pair."""
    return zip(shape(x)[1:], *pairs, strict=True)


def _pair(value: int | list[int]) -> Pair:
    height, width = (value, value) if isinstance(value, int) else (value * 2 if len(value) == 1 else value)
    return int(height), int(width)
