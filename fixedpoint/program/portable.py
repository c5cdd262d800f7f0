"""Portable arithmetic: a program whose results do not depend on how a runtime rounds, and the proof of that.

Runtimes differ only in ties: they round to even, up, away from zero, or twice. So a portable program has no ties:
weights are even, the parity of biases keeps accumulators away from ties (`fixedpoint.program.constants`), add and
concat need no rounding because their operands have their result's exponent, and a mean is a convolution.
docs/arithmetic.md has the derivation, and the runtimes.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from math import prod
from typing import TypeGuard

import torch
from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program import (
    INPUT,
    INPUT_EXPONENT,
    PORTABLE,
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv,
    Evaluator,
    Flatten,
    Lookup,
    MaxPool,
    Op,
    Pad,
    Program,
    Rearrange,
    Select,
    per_input,
)
from fixedpoint.program.bounds import check_exactness, layer_bounds
from fixedpoint.program.constants import layer_grid
from fixedpoint.program.leaky import leaky_relu
from fixedpoint.program.operation import Shape
from fixedpoint.program.scaling import with_copies

WEIGHT_LIMIT = 126
# Runtimes round twice, or scale by a float32 product: either is off by less than 1 up to the first limit, and beyond it
# a shift by at most MAX_SHIFT saturates. XNNPACK multiplies by less than 256.
SAFE_ACCUMULATOR, MIN_SHIFT, MAX_SHIFT = 2**23, -7, 15
MOST_NAMES = 4  # of operations that a message says the same of


def lower(program: Program) -> Program:
    """A folded float program in the operations of portable arithmetic; it computes the same.

    An average pool becomes a convolution of each channel by itself, with one even weight. Where no such weight is
    exactly 1 / n, the weights that read the mean take back the error, if only weights read it. A LeakyReLU becomes
    what `leaky.leaky_relu` makes of it. What is added to the image or joined with it meets a copy of that.

    Raises:
        QuantizationError: If the arithmetic does not have some of the operations; says why (`refusals`).
    """
    for op in program.ops:
        if _is_leaky(op):
            slopes = torch.full(op.shape[:1], op.arguments[0])
            ops, constants = leaky_relu(op.name, op.inputs[0], op.shape, slopes, op.clamp, program.shapes)
            program = program.with_replaced(op, ops).with_constants(**constants)
    if why := "; ".join(refusals(program.ops)):
        raise QuantizationError(f"{why}; set arithmetic (calibrate.arithmetic) to exact8")
    program = _beside_image(replace(program, arithmetic=PORTABLE, weight_limit=WEIGHT_LIMIT))
    for op in program.ops:
        if isinstance(op, AvgPool):
            program = _mean_as_conv(program, op)
        elif isinstance(op, Add) and len(op.inputs) > 2:
            program = _in_pairs(program, op)
    return program


def refusals(ops: Sequence[Op]) -> list[str]:
    """Why portable arithmetic does not have some of these operations, means over too many values among them."""
    found: dict[str, list[str]] = {}
    for op in ops:
        if op.not_portable and not _is_leaky(op):
            found.setdefault(op.not_portable, []).append(op.name)
    some = [f"{_listed(names)} ({why})" for why, names in found.items()]
    reasons = [f"portable arithmetic has no products of tensors and no tables: {', '.join(some)}"] if some else []
    for op in ops:
        if isinstance(op, AvgPool):
            try:
                mean_weight(prod(op.kernel))
            except QuantizationError as error:
                reasons.append(f"{op.name}: {error}")
    return reasons


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= MOST_NAMES else names[: MOST_NAMES - 1]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def mean_weight(count: int) -> tuple[int, int]:
    """The even integer w and the exponent e for which w * 2**-e is nearest to 1 / count; w is the least of these."""
    greatest = min(WEIGHT_LIMIT, (SAFE_ACCUMULATOR - 2) // (128 * count))
    exponent = (count * greatest).bit_length() - 1
    weight = 2 * round(2**exponent / (2 * count))
    while weight > greatest:
        exponent -= 1
        weight = 2 * round(2**exponent / (2 * count))
    if weight < 2:
        raise QuantizationError(f"a mean over {count} values has no weight in portable arithmetic")
    while weight % 4 == 0:
        weight, exponent = weight // 2, exponent - 1
    return weight, exponent


def _mean_as_conv(program: Program, pool: AvgPool) -> Program:
    count, channels = prod(pool.kernel), pool.shape[0]
    weight, exponent = mean_weight(count)
    real = weight * 2.0**-exponent
    conv = Conv(
        pool.name,
        pool.inputs,
        pool.shape,
        pool.stride,
        (0, 0),
        (1, 1),
        channels,
        fixed=True,
        clamp=pool.clamp,
    )
    constants = {
        f"{pool.name}.weight": torch.full((channels, 1, *pool.kernel), real),
        f"{pool.name}.bias": torch.zeros(channels),
        f"{pool.name}.weight_exponent": torch.full((channels,), exponent, dtype=torch.int32),
    }
    factor = 1 / (real * count)
    scaled = scaled_readers(program, pool.name, torch.full((channels,), factor, dtype=torch.float64))
    if factor != 1 and scaled is not None and _is_scalable(pool):
        constants = scaled | constants
    ops = tuple(conv if op is pool else op for op in program.ops)
    return replace(program, ops=ops, constants=program.constants | constants)


def scaled_readers(program: Program, name: str, factors: Tensor) -> dict[str, Tensor] | None:
    """The weights that take back a division of channel c of the tensor `name` by `factors[c]`.

    None if an operation that reads the tensor has no weights, and none after it can do that.
    """
    constants: dict[str, Tensor] = {}
    for op in program.readers(name):
        known = replace(program, constants=program.constants | constants)
        if op.weighted:
            weight = known.constants[f"{op.name}.weight"].double()
            changed: dict[str, Tensor] | None = {f"{op.name}.weight": (weight * per_input(factors, op, weight)).float()}
        elif isinstance(op, Concat):
            channels = {x: program.shapes[x][0] for x in op.inputs}
            parts = [factors if x == name else torch.ones(channels[x], dtype=torch.float64) for x in op.inputs]
            joins_channels = op.axis == 0 and _is_scalable(op)
            changed = scaled_readers(known, op.name, torch.cat(parts)) if joins_channels else None
        elif isinstance(op, Flatten | Select | Rearrange):
            moved = _moved(op, factors, program.shapes[name])
            changed = None if moved is None else scaled_readers(known, op.name, moved)
        elif (isinstance(op, AvgPool | MaxPool | Clamp) and _is_scalable(op)) or _pads_with_zeros(op):
            changed = scaled_readers(known, op.name, factors)
        else:
            changed = None
        if changed is None:
            return None
        constants |= changed
    return constants


def _moved(op: Op, factors: Tensor, operand: Shape) -> Tensor | None:
    """The factors of the channels of what `op` moves, given those of its operand; None if they differ in a channel."""
    each = factors.reshape(1, -1, *[1] * (len(operand) - 1)).expand(1, *operand)
    found = getattr(Evaluator(), op.kind)(op, each).reshape(op.shape[0], -1)
    return found[:, 0] if bool((found == found[:, :1]).all()) else None


def _is_leaky(op: Op) -> TypeGuard[Lookup]:
    """Whether `op` is a LeakyReLU, a table that need not be one."""
    return isinstance(op, Lookup) and op.function == "leaky_relu"


def _pads_with_zeros(op: Op) -> bool:
    return isinstance(op, Pad) and {*op.value} == {0.0}


def _is_scalable(op: Op) -> bool:
    """Whether a positive factor passes through the clamp of `op`."""
    return set(op.clamp) <= {None, 0}


def _beside_image(program: Program) -> Program:
    """Free from the image's exponent, which is fixed, what would have to share it, and would saturate at 1.

    Sums and concatenations read copies of the image and of what has its exponent. A clamp of that, whose exponent
    cannot avoid that a bound lies halfway between two integers, gets the bounds that are integers.
    """
    held = {INPUT}
    for op in program.ops:
        of_image = [name for name in dict.fromkeys(op.inputs) if name in held]
        if of_image and (op.keeps_exponent or (isinstance(op, Concat) and _is_alone(op, held))):
            held.add(op.name)
            low, high = (b if b is None else round(b * 2**INPUT_EXPONENT) / 2**INPUT_EXPONENT for b in op.clamp)
            program = program.with_replaced(op, [replace(op, clamp=(low, high))])
        elif op.shares_exponent:
            program = with_copies(program, op, of_image)
    return program


def _is_alone(op: Op, held: Collection[str]) -> bool:
    """Whether what `op` joins is all in `held`, so that no value is new."""
    return {*op.inputs} <= {*held} and op.clamp == (None, None)


def _in_pairs(program: Program, op: Add) -> Program:
    """Split a sum of several tensors into sums of two, which the runtimes have."""
    first, *others = op.inputs
    ops: list[Op] = []
    for i, other in enumerate(others[:-1], start=1):
        ops.append(Add(f"{op.name}.sum{i}", (first, other), op.shape))
        first = ops[-1].name
    ops.append(replace(op, inputs=(first, others[-1])))
    return program.with_replaced(op, ops)


def prove(program: Program) -> None:
    """Prove that an integer program is exact in float32 and, in portable arithmetic, the same in every runtime.

    Raises:
        QuantizationError: If it is not (`bounds.check_exactness`, `check_portable`), or has float weights.
    """
    if not program.is_integer:
        raise QuantizationError("the program has float weights, where integers must be")
    check_exactness(program)
    if program.is_portable:
        check_portable(program)


def check_portable(program: Program) -> None:
    """Prove that no result of an integer program depends on how a runtime rounds.

    Raises:
        QuantizationError: If one does; names the operation and, for a conv or linear, the channel.
    """
    if program.int8_logit_exponent is None:
        raise QuantizationError("a portable program needs an exponent of its int8 logits, and this one has none")
    for op in program.ops:
        if op.not_portable or isinstance(op, AvgPool):
            raise QuantizationError(f"{op.name} is a {op.kind}, which portable arithmetic does not have")
        exponents = {name: program.exponents.get(name) for name in (*op.inputs, op.name)}
        if op.shares_exponent and len({*exponents.values()}) > 1:
            raise QuantizationError(f"{op.name}: operands and result must have one exponent, not {exponents}")
        if isinstance(op, Add) and len(op.inputs) > 2:
            raise QuantizationError(f"{op.name} adds {len(op.inputs)} tensors, but runtimes clip each partial sum")
        if op.name in program.exponents:
            _check_clamp(program, op)
    bounds = layer_bounds(program)
    for op in program.ops:
        if op.weighted:
            _check_layer(program, op, bounds[op.name])


def _check_layer(program: Program, op: Op, bound: Tensor) -> None:
    weight, bias = (program.constants[f"{op.name}.{name}"].long() for name in ("weight", "bias"))
    shift, (step, offset) = program.shift(op), layer_grid(program, op)
    checks = {
        "an odd weight": (weight % 2 != 0).flatten(1).any(dim=1),
        "a bias that lets its accumulators be ties": bias % step != offset,
        f"a shift below {MIN_SHIFT}": shift < MIN_SHIFT,
        f"a shift above {MAX_SHIFT} and accumulators that can reach 2**23": (shift > MAX_SHIFT)
        & (bound >= SAFE_ACCUMULATOR),
    }
    for what, wrong in checks.items():
        if wrong.any():
            c = int(wrong.int().argmax())
            raise QuantizationError(
                f"{op.name}: channel {c} has {what} (bias {int(bias[c])}, shift {int(shift[c])}, accumulators up to "
                f"{int(bound[c])}), so runtimes may round it differently"
            )


def _check_clamp(program: Program, op: Op) -> None:
    """Refuse a bound halfway between two integers: the runtime rounds bounds, too, and that is a tie."""
    for bound in op.clamp:
        scaled = 0.0 if bound is None else bound * 2.0 ** program.exponents[op.name]
        if abs(scaled) < 128 and scaled % 1 == 0.5:
            raise QuantizationError(
                f"{op.name}: its clamp at {bound:g} is {scaled:g} of its steps, halfway between integers"
            )
