"""Fold: BatchNorm into the convolution or linear beside it, ReLU and other clamps into the operation before them."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, prod

import torch
from torch import Tensor

from fixedpoint.program import (
    INPUT,
    INPUT_EXPONENT,
    AvgPool,
    BatchNorm,
    Clamp,
    Conv,
    Flatten,
    Op,
    Pad,
    Program,
    per_input,
)
from fixedpoint.program.names import allowed_name
from fixedpoint.program.scaling import scaled, with_copies

# Numbers of this magnitude saturate to those of the image's ends, -1 and 127 / 128, and lose no more than a step or so.
WITHIN_IMAGE = 1 + 2.0 ** -(INPUT_EXPONENT + 1)
Merged = tuple[Op, dict[str, Tensor]]  # what replaces two operations, and its constants


def fold(program: Program) -> Program:
    """The same function without BatchNorm and with as few separate clamps as possible.

    A BatchNorm goes into the convolution or linear before it, if nothing else reads that; else into the one after it;
    else, as between a concatenation and a ReLU, it becomes a depthwise 1x1 convolution.

    Logits must be accumulators. Where they are none, as behind a pool or a ReLU, a depthwise 1x1 convolution of ones is
    appended, or the 1x1 convolution before a pool changes places with it.

    A pad of the image with values that the image cannot have reads a copy of it, and so does such a clamp.
    """
    program = _merge(program, BatchNorm.kind, _into_weights)
    program = _behind_pad(program)
    for op in program.ops:
        if op.kind == BatchNorm.kind:
            program = _into_next(program, op)
    return _with_logits(_beyond_image(_merge(program, Clamp.kind, _into_bounds)))


def _beyond_image(program: Program) -> Program:
    """The program in which a pad or a clamp of the image reads a copy, if it gives values that the image cannot have.

    The exponent of the image is fixed, and so is that of a pad of it: a value of 20 would become 127 / 128.
    """
    held = {INPUT}
    for op in program.ops:
        if not op.keeps_exponent or op.inputs[0] not in held:
            continue
        low, high = (end if bound is None else bound for bound, end in zip(op.clamp, (-inf, inf), strict=True))
        values = op.value if isinstance(op, Pad) else [min(max(end, low), high) for end in (-1.0, 1.0)]
        if all(value is None or abs(value) <= WITHIN_IMAGE for value in values):
            held.add(op.name)
        else:
            program = with_copies(program, op, op.inputs)
    return program


def _with_logits(program: Program) -> Program:
    """The program with a convolution or linear without activation at its end, if it gives one value a class."""
    last = next((op for op in reversed(program.ops) if op.kind != Flatten.kind), program.ops[0])
    result = program.ops[-1].shape
    if prod(result) != result[0] or (last.weighted and last.clamp == (None, None)):
        return program
    before = next((op for op in program.ops if op.name in last.inputs), last)
    if isinstance(last, AvgPool) and _is_pointwise(before, program):
        pool = replace(last, inputs=before.inputs, shape=(program.shapes[before.inputs[0]][0], *last.shape[1:]))
        moved = {before.name: [], last.name: [pool, replace(before, inputs=(pool.name,), shape=last.shape)]}
        ops = [new for op in program.ops for new in moved.get(op.name, [op])]
        tail = [replace(op, inputs=(before.name,)) if op.inputs == (last.name,) else op for op in ops]
        return replace(
            program, ops=tuple(op if op.name == before.name else new for op, new in zip(ops, tail, strict=True))
        )
    name = allowed_name("classes", program.shapes)
    ones, zeros = torch.ones(result[0]), torch.zeros(result[0])
    made, constants = scaled(name, program.output, result, ones, zeros, program.shapes)
    return replace(program, ops=(*program.ops, *made), constants=program.constants | constants)


def _is_pointwise(op: Op, program: Program) -> bool:
    """Whether `op` computes each pixel from that pixel alone, and one operation reads it."""
    return (
        isinstance(op, Conv)
        and (op.clamp, op.stride, op.padding) == ((None, None), (1, 1), (0, 0))
        and program.constants[f"{op.name}.weight"][0, 0].numel() == 1
        and len(program.readers(op.name)) == 1
    )


def _merge(program: Program, kind: str, into: Callable[[Program, Op, Op], Merged | None]) -> Program:
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
        ops[current.inputs[0]], changed = merged
        constants = {k: v for k, v in constants.items() if k.rpartition(".")[0] != op.name} | changed
        renamed[op.name] = current.inputs[0]
    return replace(program, ops=tuple(ops.values()), constants=constants)


def _into_weights(program: Program, before: Op, norm: Op) -> Merged | None:
    if before.factor_and_offset is None or before.clamp != (None, None):
        return None
    scale, shift = (program.constants[f"{norm.name}.{key}"].double() for key in ("scale", "shift"))
    factor, offset = (f"{before.name}.{key}" for key in before.factor_and_offset)
    weight, bias = program.constants[factor].double(), program.constants[offset].double()
    weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
    return before, {factor: weight.float(), offset: (bias * scale + shift).float()}


def _behind_pad(program: Program) -> Program:
    """Let a pad of the normalized image come first, with what the BatchNorm turns into its values."""
    norm = next((op for op in program.ops if op.kind == BatchNorm.kind and op.inputs == (INPUT,)), None)
    readers = program.readers(norm.name) if norm else []
    if norm is None or len(readers) != 1 or not isinstance(readers[0], Pad) or None in readers[0].value:
        return program
    scale, shift = (program.constants[f"{norm.name}.{key}"].double() for key in ("scale", "shift"))
    if (scale == 0).any():
        return program
    pad = readers[0]
    values = (torch.tensor(pad.value, dtype=torch.float64) - shift) / scale
    first = replace(pad, inputs=(INPUT,), value=tuple(values.tolist()))
    then = replace(norm, inputs=(pad.name,), shape=pad.shape)
    others = (op for op in program.ops if op not in (norm, pad))
    ops = [replace(op, inputs=tuple(norm.name if name == pad.name else name for name in op.inputs)) for op in others]
    return replace(program, ops=(first, then, *ops))


def _into_next(program: Program, norm: Op) -> Program:
    """Fold `norm` into the convolution or linear that alone reads it, or else make it a convolution."""
    scale, shift = (program.constants[f"{norm.name}.{key}"].double() for key in ("scale", "shift"))
    constants = {k: v for k, v in program.constants.items() if k.rpartition(".")[0] != norm.name}
    readers = program.readers(norm.name)
    reader = readers[0] if len(readers) == 1 and readers[0].weighted else None
    padding = reader.padding if isinstance(reader, Conv) else (0, 0)
    replaced: dict[str, list[Op]] = {norm.name: []}
    can_pad = norm.inputs == (INPUT,) and bool((scale != 0).all())
    if reader is not None and (not any(padding) or can_pad):
        constants |= _scaled_inputs(reader, constants, scale, shift)
        source = norm.inputs[0]
        if isinstance(reader, Conv) and any(padding):  # pad with what the BatchNorm turns into zero
            rows, columns = padding
            shape = (norm.shape[0], norm.shape[1] + 2 * rows, norm.shape[2] + 2 * columns)
            around = tuple((-shift / scale).tolist())
            replaced[norm.name] = [Pad(norm.name, norm.inputs, shape, (rows, rows, columns, columns), around)]
            source = norm.name
            reader = replace(reader, padding=(0, 0))
        replaced[reader.name] = [replace(reader, inputs=(source,))]
    else:
        replaced[norm.name], made = scaled(
            norm.name, norm.inputs[0], norm.shape, scale.float(), shift.float(), program.shapes
        )
        constants |= made
    ops = [new for op in program.ops for new in replaced.get(op.name, [op])]
    return replace(program, ops=tuple(ops), constants=constants)


def _scaled_inputs(op: Op, constants: dict[str, Tensor], scale: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """The constants of a conv or linear that reads x where `op` reads `x * scale + shift`."""
    weight, bias = (constants[f"{op.name}.{key}"].double() for key in ("weight", "bias"))
    bias = bias + (weight * per_input(shift, op, weight)).flatten(1).sum(dim=1)
    return {f"{op.name}.weight": (weight * per_input(scale, op, weight)).float(), f"{op.name}.bias": bias.float()}


def _into_bounds(program: Program, before: Op, clamp: Op) -> Merged | None:
    if not before.takes_clamp:
        return None
    # two clamps without a common range cannot be one: the later one decides, so both stay
    low, high = ([b for b in pair if b is not None] for pair in zip(before.clamp, clamp.clamp, strict=True))
    if low and high and max(low) > min(high):
        return None
    return replace(before, clamp=(max(low, default=None), min(high, default=None))), {}
