"""Places the int8 tensors of a program in one block of memory, whose bytes several tensors use one after the other.

A tensor lives from the operation that computes it to the last one that reads it. An elementwise operation writes over
an operand that no later operation reads. Buffers are placed one by one, each into the smallest gap between those that
live at the same time: the largest first, and in a second attempt the longest-lived first; the smaller plan is used
(greedy by size: Pisarchyk and Lee 2020, https://arxiv.org/abs/2001.03288).
"""

from dataclasses import dataclass
from math import prod
from operator import itemgetter

import numpy as np

from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT, Conv, Flatten, Linear, Op, Program, Rearrange, Select
from fixedpoint.program.transposition import transpositions

LANES = 32  # of kernels.c: the terms of a sum are a multiple


@dataclass(frozen=True)
class Plan:
    """Offsets in bytes from the start of the block.

    Attributes:
        offsets: Offset of each int8 tensor. The network's input and the int32 logits belong to the caller, so they and
            views of them have none.
        patches: Offset of the values of `patch_bytes`, by the operation's name.
        peak: Size of the block in bytes.
    """

    offsets: dict[str, int]
    patches: dict[str, int]
    peak: int


@dataclass(eq=False)
class _Buffer:
    """Memory needed from operation `first` to operation `last`."""

    size: int
    first: int
    last: int


def plan(program: Program) -> Plan:
    """Place all tensors of an integer program, and prove the result with `check`."""
    index = {op.name: i for i, op in enumerate(program.ops)}
    tensors: dict[str, _Buffer | None] = dict.fromkeys({INPUT, *program.raw})
    patches: dict[str, _Buffer] = {}
    for i, op in enumerate(program.ops):
        if patch_bytes(program, op):
            patches[op.name] = _Buffer(patch_bytes(program, op), i, i)
        if op.name in tensors:
            continue
        if is_view(program, op):
            buffer = tensors[op.inputs[0]]
        else:
            operands = [tensors[name] for name in op.inputs] if op.in_place else []
            free = [b for b in operands if b and b.last == i and b.size == prod(op.shape)]
            buffer = free[0] if free else _Buffer(prod(op.shape), i, i)
        tensors[op.name] = buffer
        if buffer:
            buffer.last = max(buffer.last, index[program.last_reader.get(op.name, op.name)])
    placed = {name: buffer for name, buffer in tensors.items() if buffer}
    buffers = [*dict.fromkeys([*placed.values(), *patches.values()])]  # no set, whose order would vary
    largest, longest = (lambda b: (-b.size, b.first)), (lambda b: (b.first - b.last, -b.size, b.first))
    peak, offsets = min((_place(sorted(buffers, key=order)) for order in (largest, longest)), key=itemgetter(0))
    found = Plan({n: offsets[b] for n, b in placed.items()}, {n: offsets[b] for n, b in patches.items()}, peak)
    check(program, found)
    return found


def _place(buffers: list[_Buffer]) -> tuple[int, dict[_Buffer, int]]:
    """The size of the block and the offset of each buffer, placed in the given order."""
    offsets: dict[_Buffer, int] = {}
    for buffer in buffers:
        alive = [(offset, b.size) for b, offset in offsets.items() if b.first <= buffer.last and buffer.first <= b.last]
        gaps, end = [], 0
        for offset, size in sorted(alive):
            if offset - end >= buffer.size:
                gaps.append((offset - end, end))
            end = max(end, offset + size)
        offsets[buffer] = min(gaps)[1] if gaps else end
    return max(offset + b.size for b, offset in offsets.items()), offsets


def check(program: Program, plan: Plan) -> None:
    """Prove a plan by running the program on memory that holds the numbers of operations in place of their values.

    Raises:
        QuantizationError: If an operation would read what another has written over, or write over what it still reads.
    """
    sizes = {name: prod(shape) for name, shape in program.shapes.items()}
    memory = np.full(plan.peak, -1)
    writers: dict[str, int] = {}

    def read(op: Op, name: str) -> None:
        if (memory[plan.offsets[name] :][: sizes[name]] != writers[name]).any():
            raise QuantizationError(f"{op.name} would read {name} where something else has been written")

    def write(op: Op, offset: int, size: int, value: int) -> None:
        if offset < 0 or offset + size > plan.peak:
            raise QuantizationError(f"{op.name} would write beyond the {plan.peak} bytes of the plan")
        memory[offset:][:size] = value

    for i, op in enumerate(program.ops):
        operands = {name for name in op.inputs if name in plan.offsets}
        patch, size = plan.patches.get(op.name, 0), patch_bytes(program, op)
        write(op, patch, size, -1)
        for name in operands:
            read(op, name)
        if op.name not in plan.offsets:
            continue
        if is_view(program, op):
            writers[op.name] = writers[op.inputs[0]]
            read(op, op.name)
            continue
        writers[op.name] = i
        write(op, plan.offsets[op.name], sizes[op.name], i)
        if (memory[patch:][:size] != -1).any():
            raise QuantizationError(f"{op.name} would write over its patch")
        for name in operands:
            same_bytes = (plan.offsets[name], sizes[name]) == (plan.offsets[op.name], sizes[op.name])
            if not (same_bytes and op.in_place):
                read(op, name)


def is_view(program: Program, op: Op) -> bool:
    """Whether `op` moves nothing where maps are stored as [height, width, channels].

    A flatten moves nothing either that linear layers alone read: their weights are put in that order.
    """
    operand = program.shapes[op.inputs[0]]
    if isinstance(op, Select):
        return not op.changes(operand)
    if isinstance(op, Flatten) and all(isinstance(reader, Linear) for reader in program.readers(op.name)):
        return True
    return isinstance(op, Flatten | Rearrange) and not transpositions(operand, op)


def is_depthwise(program: Program, op: Op) -> bool:
    """Whether `op` is a convolution of each channel by itself, with an int8 result."""
    channels = program.shapes[op.inputs[0]][0]
    return isinstance(op, Conv) and op.groups == op.shape[0] == channels and op.name not in program.raw


def patch_bytes(program: Program, op: Op) -> int:
    """Bytes of the values from which `op` computes: those that a conv or linear gathers for one result, and zeros.

    A rearrange by several transpositions has a whole tensor of values between them.
    """
    if isinstance(op, Rearrange):
        return prod(op.shape) if len(transpositions(program.shapes[op.inputs[0]], op)) > 1 else 0
    if not op.weighted or is_depthwise(program, op):
        return 0
    return padded(program.constants[f"{op.name}.weight"][0].numel())


def padded(terms: int) -> int:
    """How many weights of an output channel kernels.c has for so many terms: the next multiple of LANES."""
    return -(-terms // LANES) * LANES
