"""Counts the multiply-accumulates and parameters of a network, in total and by layer."""

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from storage.errors import InputError
from storage.printable import printable

with warnings.catch_warnings(action="ignore", category=FutureWarning):  # importing fvcore scripts a loss of its own
    from fvcore.nn.jit_analysis import JitModelAnalysis
    from fvcore.nn.jit_handles import (
        addmm_flop_jit,
        bmm_flop_jit,
        conv_flop_jit,
        einsum_flop_jit,
        linear_flop_jit,
        matmul_flop_jit,
    )

# fvcore counts one multiply-accumulate as one "flop". Its estimates for norms and pooling are left out.
MAC_OPERATORS: dict[str, Callable] = {
    "aten::_convolution": conv_flop_jit,
    "aten::linear": linear_flop_jit,
    "aten::addmm": addmm_flop_jit,
    "aten::mm": matmul_flop_jit,
    "aten::matmul": matmul_flop_jit,
    "aten::bmm": bmm_flop_jit,
    "aten::einsum": einsum_flop_jit,
}
# fvcore silently skips these, as it does operators that only move or describe data.
SKIPPED_ARITHMETIC = ("aten::relu", "aten::relu_", "aten::clamp", "aten::clamp_", "aten::max")


SLASH = "\u2215"  # in the place of a slash, which separates modules in a trace


class _Analysis(JitModelAnalysis):
    """fvcore's analysis, for names of modules with slashes, too."""

    def _get_aliases(self, model: nn.Module) -> dict[str | nn.Module, str]:
        plain = {key: name.replace("/", SLASH) for key, name in super()._get_aliases(model).items()}
        return plain | {name: name for name in plain.values()}


@dataclass(frozen=True)
class LayerCost:
    """The cost of one module for one image, without its submodules."""

    name: str
    type: str
    macs: int
    params: int


@dataclass(frozen=True)
class Operations:
    """The cost of a network for one image.

    Attributes:
        macs: multiply-accumulates of convolutions and matrix products.
        params: number of parameters.
        uncounted: occurrences, by name, of operators that compute but are not counted in `macs`.
        layers: every module that multiplies or has parameters, in the network's order; the first of those that share
            parameters has them.
    """

    macs: int
    params: int
    uncounted: dict[str, int]
    layers: list[LayerCost]


def count_operations(model: nn.Module, input_shape: tuple[int, ...]) -> Operations:
    """Count by tracing `model` on the CPU, which puts it into evaluation mode.

    Args:
        input_shape: 1 x channels x height x width.

    Raises:
        InputError: if the shape is not that of one image, or the model does not take it.
    """
    if len(input_shape) != 4 or input_shape[0] != 1 or min(input_shape) < 1:
        raise InputError(f"input shape {input_shape} must be 1,channels,height,width, each at least 1")
    skipped: Counter[str] = Counter()

    def count_skipped(kind: str) -> Callable:
        def handle(inputs: list, outputs: list) -> Counter:
            skipped[kind] += 1
            return Counter()

        return handle

    analysis = _Analysis(model.eval(), torch.zeros(input_shape))
    analysis.set_op_handle(**MAC_OPERATORS, **{kind: count_skipped(kind) for kind in SKIPPED_ARITHMETIC})
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    try:
        macs = analysis.by_module()
    except MemoryError:
        raise
    except Exception as error:  # a network may raise anything
        reason = printable(" ".join(str(error).split()) or type(error).__name__, 300)
        raise InputError(f"the model does not take an input of shape {input_shape}: {reason}") from error

    layers, counted = [], set()
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        children = [(prefix + child).replace("/", SLASH) for child, _ in module.named_children()]
        own = macs[name.replace("/", SLASH)] - sum(macs[child] for child in children)
        new = {p for p in module.parameters(recurse=False) if p not in counted}
        counted |= new
        params = sum(p.numel() for p in new)
        if own or params:
            layers.append(LayerCost(name, type(module).__name__, int(own), params))
    return Operations(
        macs=int(macs[""]),
        params=sum(p.numel() for p in model.parameters()),
        uncounted=dict(sorted((analysis.unsupported_ops() + skipped).items())),
        layers=layers,
    )
