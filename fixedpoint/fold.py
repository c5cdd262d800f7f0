"""Fold: BatchNorm into the convolution or linear before it, ReLU and other clamps into the operation before them."""

from dataclasses import replace

from fixedpoint.program import SAME_EXPONENT_KINDS, WEIGHTED_KINDS, BatchNorm, Clamp, Op, Program


def fold(program: Program) -> Program:
    """The same function without BatchNorm and with as few separate clamps as possible.

    Raises:
        ValueError: If a BatchNorm does not follow a convolution or linear of which it is the only reader.
    """
    program = _merge(program, BatchNorm.kind, _into_weights)
    left = [op.name for op in program.ops if op.kind == BatchNorm.kind]
    if left:
        raise ValueError(f"batch_norm {left[0]} does not follow a convolution or linear that it could be folded into")
    return _merge(program, Clamp.kind, _into_bounds)


def _merge(program: Program, kind: str, into) -> Program:
    """Merge each operation of `kind` into the one before it where `into(program, before, op)` allows it.

    `into` gives the operation that replaces both, which keeps the name of the first, and its constants; or None.
    """
    ops: dict[str, Op] = {}
    constants = dict(program.constants)
    renamed: dict[str, str] = {}
    readers = [name for op in program.ops for name in op.inputs]
    for op in program.ops:
        current = replace(op, inputs=tuple(renamed.get(name, name) for name in op.inputs))
        before = ops.get(current.inputs[0])
        merged = None
        if op.kind == kind and before is not None and readers.count(op.inputs[0]) == 1:
            merged = into(replace(program, constants=constants), before, current)
        if merged is None:
            ops[current.name] = current
            continue
        ops[before.name], changed = merged
        constants = {k: v for k, v in constants.items() if k.rpartition(".")[0] != op.name} | changed
        renamed[op.name] = before.name
    return replace(program, ops=tuple(ops.values()), constants=constants)


def _into_weights(program: Program, before: Op, norm: Op):
    if before.kind not in WEIGHTED_KINDS or before.clamp != (None, None):
        return None
    scale, shift = (program.constants[f"{norm.name}.{key}"].double() for key in ("scale", "shift"))
    weight, bias = (program.constants[f"{before.name}.{key}"].double() for key in ("weight", "bias"))
    weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
    return before, {
        f"{before.name}.weight": weight.float(),
        f"{before.name}.bias": (bias * scale + shift).float(),
    }


def _into_bounds(program: Program, before: Op, clamp: Op):
    if before.kind in SAME_EXPONENT_KINDS - {Clamp.kind}:
        return None
    # two clamps that exclude each other are no single one: the later one decides, so both stay
    low, high = ([b for b in pair if b is not None] for pair in zip(before.clamp, clamp.clamp, strict=True))
    bounds = (max(low, default=None), min(high, default=None))
    if None not in bounds and bounds[0] > bounds[1]:
        return None
    return replace(before, clamp=bounds), {}
