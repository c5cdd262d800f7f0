"""Exponentials in functions that have a name: `1 / (1 + exp(-x))` is a sigmoid, `log(1 + exp(x))` softplus."""

from dataclasses import replace
from typing import Any

import torch
from torch.fx import Node

from fixedpoint.capture.elementwise import Elementwise, constant
from fixedpoint.capture.names import reason
from fixedpoint.capture.values import Exponential, Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Lookup


class Exponentials(Elementwise):
    """One method for each operation."""

    def aten_exp(self, node: Node, a: dict) -> Exponential:
        return Exponential(a["self"])

    def aten_add(self, node: Node, a: dict) -> Any:
        x, other = a["self"], a["other"]
        if isinstance(other, Exponential):
            x, other = other, x
        if not isinstance(x, Exponential):
            return super().aten_add(node, a)
        if x.plus_one or isinstance(other, Value | Exponential) or constant(other).tolist() != 1 or a["alpha"] != 1:
            raise QuantizationError(Exponential.why_not)
        return replace(x, plus_one=True)

    def aten_reciprocal(self, node: Node, a: dict) -> Value:
        x = _with_plus_one(a["self"], True, "reciprocal")
        return self.each(node, Lookup, self.affine(node, x, -1, 0), function="sigmoid", arguments=())

    def aten_div(self, node: Node, a: dict) -> Value:
        x, other = a["self"], a["other"]
        if not any(isinstance(each, Exponential) for each in (x, other)) or a.get("rounding_mode") is not None:
            return super().aten_div(node, a)
        if not isinstance(other, Exponential):
            raise QuantizationError(Exponential.why_not)
        gate = self.aten_reciprocal(node, {"self": other})
        if not isinstance(x, Exponential):
            return self.aten_mul(node, {"self": x, "other": gate})
        if x.plus_one or x.x.base != other.x.base or not torch.equal(x.x.positions, other.x.positions):
            raise QuantizationError(Exponential.why_not)
        return self.each(node, Lookup, x.x, function="sigmoid", arguments=())  # exp(x) / (1 + exp(x))

    aten_divide = aten_true_divide = aten_div

    def aten_log(self, node: Node, a: dict) -> Value:
        return self.each(node, Lookup, _with_plus_one(a["self"], True, "log"), function="softplus", arguments=())

    def aten_log1p(self, node: Node, a: dict) -> Value:
        return self.each(node, Lookup, _with_plus_one(a["self"], False, "log1p"), function="softplus", arguments=())


def _with_plus_one(value: Any, plus_one: bool, name: str) -> Value:
    """The x of an exponential, with 1 added or not, that the operation `name` reads."""
    if not isinstance(value, Exponential) or value.plus_one != plus_one:
        raise QuantizationError(Exponential.why_not if isinstance(value, Exponential) else reason(name))
    return value.x
