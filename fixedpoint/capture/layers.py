"""Operations of PyTorch that have weights: convolutions, matrix products, BatchNorm."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.choices import Choices
from fixedpoint.capture.elementwise import constant
from fixedpoint.capture.names import reason
from fixedpoint.capture.values import Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Conv, Linear, Pad, Pair

LEAST = None  # the value of a pad that is never the maximum


class Layers(Choices):
    """One method for each operation."""

    def padded(
        self, node: Node, x: Value, padding: tuple[int, int, int, int], value: float | None, between: Pair = (0, 0)
    ) -> Value:
        """A map with rows (top, bottom) and columns (left, right) around it, and some between, if there are any."""
        if not any(padding) and not any(between):
            return x
        return self.add(node, Pad, [x], padding=padding, value=(value,), between=between)

    def aten_conv2d(self, node: Node, a: dict) -> Value:
        return self._conv(node, a["input"], a)

    def aten_conv1d(self, node: Node, a: dict) -> Value:
        return _line(self._conv(node, _row(a["input"], node), a))

    def aten_conv_transpose2d(self, node: Node, a: dict) -> Value:
        return self._transposed(node, a["input"], a)

    def aten_conv_transpose1d(self, node: Node, a: dict) -> Value:
        return _line(self._transposed(node, _row(a["input"], node), a))

    def aten_linear(self, node: Node, a: dict) -> Value:
        if not isinstance(a["input"], Value):
            raise QuantizationError("its weights are computed from the image: use parameters")
        return self._product(node, a["input"], constant(a["weight"]), a["bias"])

    def aten_matmul(self, node: Node, a: dict) -> Value:
        left, right = a["self"], a["other" if "other" in a else "mat2"]
        if isinstance(left, Value) and isinstance(right, Value):
            raise QuantizationError(reason("bmm"))
        x, weight = (left, constant(right)) if isinstance(left, Value) else (_swapped(right, node), constant(left).mT)
        if weight.dim() == 1:
            found = self._product(node, x, weight.unsqueeze(0), None)
            return found.at(found.index.squeeze(-1))
        if weight.dim() != 2 or (not isinstance(left, Value) and len(x.shape) < 2):
            raise QuantizationError("its constant must be a matrix")
        found = self._product(node, x, weight.mT, None)
        return found if isinstance(left, Value) else _swapped(found, node)

    aten_mm = aten_matmul

    def aten_addmm(self, node: Node, a: dict) -> Value:
        return self._product(node, a["mat1"], a["alpha"] * constant(a["mat2"]).mT, a["beta"] * constant(a["self"]))

    def aten_einsum(self, node: Node, a: dict) -> Value:
        """A sum of products with one constant: its letters are ordered so that it is a matrix product."""
        (inputs, _, output), tensors = a["equation"].replace(" ", "").partition("->"), a["tensors"]
        names = inputs.split(",")
        if len(tensors) != 2 or "." in inputs or not output:
            raise QuantizationError("only a product of two tensors, with all letters, is supported")
        if all(isinstance(each, Value) for each in tensors):
            raise QuantizationError(reason("bmm"))
        pairs = zip(names, tensors, strict=True)
        (letters, x), (others, weight) = sorted(pairs, key=lambda pair: not isinstance(pair[1], Value))
        summed = [each for each in letters if each in others]
        new = [each for each in others if each not in letters]
        kept = [each for each in letters[1:] if each not in others]
        if (
            {*summed} & {*output}
            or {*output} != {letters[0], *kept, *new}
            or len({*letters}) < len(letters)
            or letters[0] in others
        ):
            raise QuantizationError("its letters are no matrix product with a constant: use linear layers and permute")
        index = x.index.permute([letters.index(each) - 1 for each in [*kept, *summed]])
        matrix = constant(weight).permute([others.index(each) for each in [*new, *summed]])
        sizes = [*index.shape[: len(kept)], *matrix.shape[: len(new)]]
        flat = x.at(index.flatten(len(kept)) if summed else index.unsqueeze(-1), node)
        found = self._product(node, flat, matrix.reshape(matrix.shape[: len(new)].numel(), -1), None)
        order = [[*kept, *new].index(each) for each in output if each != letters[0]]
        batch = output.index(letters[0])
        laid = found.at(found.index.reshape(sizes).permute(order), node)
        return laid.with_positions(laid.positions.movedim(0, batch), node)

    def aten_batch_norm(self, node: Node, a: dict) -> Value:
        if a["running_mean"] is None or a.get("training") or a.get("use_input_stats"):
            raise QuantizationError("it has no running statistics to fold: train it with track_running_stats=True")
        mean, var = (constant(a[key]) for key in ("running_mean", "running_var"))
        scale = torch.rsqrt(var + a["eps"]) * constant(1 if a["weight"] is None else a["weight"])
        shift = constant(0 if a["bias"] is None else a["bias"]) - mean * scale
        x: Value = a["input"]
        ones = [1] * (len(x.shape) - 1)
        return self.affine(node, x, scale.reshape(-1, *ones), shift.reshape(-1, *ones))

    def aten__native_batch_norm_legit_no_training(self, node: Node, a: dict) -> tuple[Value, None, None]:
        return self.aten_batch_norm(node, a), None, None

    def aten_instance_norm(self, node: Node, a: dict) -> Value:
        if a["running_mean"] is None or a["use_input_stats"]:
            raise QuantizationError(reason("instance_norm"))
        return self.aten_batch_norm(node, a)

    def _conv(self, node: Node, x: Value, a: dict) -> Value:
        """A convolution of a map; attributes of one number for a row, a map of one row."""
        weight, given = _weight(a), a["padding"]
        dilation, stride = _pair(a["dilation"], weight, 1), _pair(a["stride"], weight, 1)
        weight = weight.unsqueeze(2) if weight.dim() == 3 else weight
        if isinstance(given, str):
            kernel = weight.shape[2:]
            total = [d * (k - 1) if given == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
            padding = (total[0] // 2, total[1] // 2)
            x = self.padded(node, x, (0, total[0] % 2, 0, total[1] % 2), 0.0)
        else:
            padding = _pair(given, _weight(a), 0)
        weights = {"weight": weight, "bias": _bias(a, len(weight))}
        return self.add(node, Conv, [x], weights, stride=stride, padding=padding, dilation=dilation, groups=a["groups"])

    def _transposed(self, node: Node, x: Value, a: dict) -> Value:
        """A transposed convolution: zeros between and around the entries of `x`, and a convolution."""
        weight, groups = _weight(a), a["groups"]
        stride, dilation = _pair(a["stride"], weight, 1), _pair(a["dilation"], weight, 1)
        padding, more = _pair(a["padding"], weight, 0), _pair(a["output_padding"], weight, 0)
        weight = weight.unsqueeze(2) if weight.dim() == 3 else weight
        inputs, outputs, *kernel = weight.shape
        weight = weight.reshape(groups, inputs // groups, outputs, *kernel).transpose(1, 2).flatten(0, 1).flip(-2, -1)
        around = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        sides = [side for first, extra in zip(around, more, strict=True) for side in (first, first + extra)]
        top, bottom, left, right = (max(0, side) for side in sides)
        padding = (0, 0)
        if stride == (1, 1) and (top, left) == (bottom, right):
            padding = (top, left)
        else:
            x = self.padded(node, x, (top, bottom, left, right), 0.0, (stride[0] - 1, stride[1] - 1))
        weights = {"weight": weight, "bias": _bias(a, len(weight))}
        made = self.add(node, Conv, [x], weights, stride=(1, 1), padding=padding, dilation=dilation, groups=groups)
        crops = [max(0, -side) for side in sides]
        if not any(crops):
            return made
        rows, columns = made.shape[1:]
        return made.at(made.index[:, crops[0] : rows - crops[1], crops[2] : columns - crops[3]], node)

    def _product(self, node: Node, x: Value, weight: Tensor, bias: Any) -> Value:
        """`x` [batch, ..., in] times `weight` [out, in]: a linear layer, or for several positions a 1x1 convolution."""
        index, (outputs, inputs) = x.index, weight.shape
        weights = {"weight": weight, "bias": torch.zeros(outputs) if bias is None else constant(bias).expand(outputs)}
        sizes = index.shape[:-1]
        if sizes.numel() == 1:
            made = self.add(node, Linear, [x.at(index.flatten())], weights)
            return made if not sizes else made.at(made.index.reshape(*sizes, outputs))
        plane = x.base_shape[1:]
        if len(plane) != 2 or plane[0] * plane[1] != sizes.numel():
            plane = (sizes[0], sizes.numel() // sizes[0])
        maps = x.at(index.movedim(-1, 0).reshape(inputs, *plane))
        weights["weight"] = weight.reshape(outputs, inputs, 1, 1)
        made = self.add(node, Conv, [maps], weights, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
        return made.at(made.index.reshape(outputs, *sizes).movedim(0, -1), node)


def _weight(a: dict) -> Tensor:
    if isinstance(a["weight"], Value) or not isinstance(a["input"], Value):
        raise QuantizationError("its weights are computed from the image: use parameters")
    return a["weight"]


def _bias(a: dict, outputs: int) -> Tensor:
    return torch.zeros(outputs) if a["bias"] is None else constant(a["bias"])


def _pair(value: int | list[int], weight: Tensor, of_rows: int) -> Pair:
    """Height and width; `of_rows` is the height for weights [out, in, width]."""
    numbers = [value] if isinstance(value, int) else [*value]
    width, height = numbers[-1], of_rows if weight.dim() == 3 else numbers[0]
    return int(height), int(width)


def _row(x: Value, node: Node) -> Value:
    """[batch, channels, length] as a map of one row."""
    if len(x.shape) != 2:
        raise QuantizationError("its operand must be [batch, channels, length]")
    return x.at(x.index.unsqueeze(1), node)


def _line(x: Value) -> Value:
    """The inverse of `_row`."""
    return x.at(x.index.squeeze(1))


def _swapped(x: Value, node: Node) -> Value:
    return x.at(x.index.mT, node)
