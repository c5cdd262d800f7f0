"""What must hold of the operations of a program and their constants, whoever made it."""

from collections.abc import Mapping, Sequence
from math import isfinite, prod

import torch
from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program.names import INPUT, check_name
from fixedpoint.program.operation import MOST_VALUES, Op, Shape
from fixedpoint.program.ops import Lookup, is_fixed


def check_operations(
    input_shape: Shape, ops: Sequence[Op], constants: Mapping[str, Tensor], calibrated: bool, integer: bool
) -> None:
    """Prove that operations can run one after the other on their constants.

    Args:
        input_shape: Channels, height, width.
        ops: The operations.
        constants: The tensors by `<op>.<constant>`.
        calibrated: Whether there must be exponents of weights, and tables.
        integer: Whether weights and biases must be integers.

    Raises:
        QuantizationError: If a name, an operand, an attribute or a constant is not allowed; names it.
    """
    if not ops:
        raise QuantizationError("the program has no operation")
    _check_size(INPUT, input_shape)
    shapes, left = {INPUT: input_shape}, set(constants)
    for op in ops:
        check_name(op.name, shapes)
        for name in op.inputs:
            op.require(name in shapes, f"it reads {ascii(name)[:80]}, which no operation before it computes")
        least, most = op.operands
        op.require(least <= len(op.inputs) <= most, f"it cannot read {len(op.inputs)} tensors")
        types = _constant_types(op, calibrated, integer)
        own = {name: _constant(op, name, dtype, constants) for name, dtype in types.items()}
        left -= {f"{op.name}.{name}" for name in types}
        sizes = {name: tuple(value.shape) for name, value in own.items()}
        shape = op.result_shape([shapes[name] for name in op.inputs], sizes)
        op.require(shape == op.shape, f"its shape must be {list(shape)}, not {list(op.shape)}")
        _check_size(op.name, shape)
        _check_clamp(op)
        if op.weighted and calibrated:
            op.require(sizes["weight_exponent"] == sizes["bias"], f"weight_exponent must be {list(sizes['bias'])}")
        if isinstance(op, Lookup) and calibrated:
            op.require(sizes["table"] == (256,), f"table must be [256], not {list(sizes['table'])}")
        if is_fixed(op):
            weight = own["weight"]
            op.require(bool((weight == weight[:, :, :1, :1]).all()), "the weights of a fixed mean must be equal")
        shapes[op.name] = shape
    if left:
        raise QuantizationError(f"no operation has the constant {ascii(min(left))[:80]}")


def _constant_types(op: Op, calibrated: bool, integer: bool) -> dict[str, torch.dtype]:
    """The constants that an operation has, each with its type."""
    is_integer = integer and op.weighted
    dtypes = (torch.int8, torch.int32) if is_integer else (torch.float32, torch.float32)
    types = dict(zip(op.factor_and_offset or (), dtypes, strict=False))
    if calibrated and op.weighted:
        types["weight_exponent"] = torch.int32
    if calibrated and isinstance(op, Lookup):
        types["table"] = torch.int8
    return types


def _constant(op: Op, name: str, dtype: torch.dtype, constants: Mapping[str, Tensor]) -> Tensor:
    value = constants.get(f"{op.name}.{name}")
    if value is None:
        raise QuantizationError(f"{op.name} ({op.kind}): the constant {name} is missing")
    op.require(value.dtype == dtype, f"{name} must be {dtype}, not {value.dtype}".replace("torch.", ""))
    op.require(min(value.shape, default=0) > 0, f"{name} is empty, or one number: {list(value.shape)}")
    op.require(bool(value.isfinite().all()), f"{name} holds infinite numbers or NaN")
    return value


def _check_size(name: str, shape: Shape) -> None:
    if min(shape) < 1 or prod(shape) > MOST_VALUES:
        raise QuantizationError(f"{name} has the shape {list(shape)}; allowed are sizes from 1, and 2**28 values")


def _check_clamp(op: Op) -> None:
    low, high = op.clamp
    op.require(op.takes_clamp or (low, high) == (None, None), "it takes no clamp")
    op.require(all(bound is None or isfinite(bound) for bound in op.clamp), f"clamp is not finite: {list(op.clamp)}")
    op.require(low is None or high is None or low <= high, f"clamp is empty: {list(op.clamp)}")
