"""Exponents between which the operations can rescale: what is too fine to be seen beside others is made coarser.

All limits but those of products are of one kind: the exponent of one tensor is at most that of another plus some bits.
So exponents are lowered until all hold, in the way in which shortest paths are found (Bellman 1958,
https://doi.org/10.1090/qam/102435).
"""

from collections.abc import Collection, Iterator

from fixedpoint.program import INPUT, INPUT_EXPONENT, Add, AvgPool, Lookup, Mul, Op, Program, is_fixed
from fixedpoint.program.bounds import LIMIT, MAX_DIVISOR, MAX_SHIFT
from fixedpoint.program.portable import MIN_SHIFT

FINEST = 64  # with it, the scales of weights and accumulators are still normal float32 numbers
COARSEST = -126  # likewise
RESCALED = 30  # bits by which an int8 value is rescaled at most: long before, it becomes zero or saturates
APART = 100  # bits between operand and result of a table or of weights, whose own exponents lie between

Limit = tuple[str, str, int]  # the exponent of the first tensor is at most that of the second plus the bits


def within_limits(program: Program, exponents: dict[str, int], free: Collection[str] = ()) -> dict[str, int]:
    """The finest exponents up to these with which every operation can compute.

    Args:
        program: Any program.
        exponents: Exponents of at least the first tensors in `Program.shared_exponents`, except INPUT.
        free: First tensors that are always zero, so that their exponents may be finer than these, too.

    Returns:
        The exponents of the first tensors, INPUT included; those that INPUT limits may be finer than before.
    """
    shared = program.shared_exponents()
    limits = [(shared[fine], shared[coarse], bits) for fine, coarse, bits in _limits(program)]
    products = [[shared[name] for name in (*op.inputs, op.name)] for op in program.ops if isinstance(op, Mul)]
    squares = {result: 2 * INPUT_EXPONENT - RESCALED for a, b, result in products if a == b == INPUT}
    least = dict.fromkeys(shared.values(), COARSEST) | squares | {INPUT: INPUT_EXPONENT}
    least = _raised(least, limits)
    found = {first: INPUT_EXPONENT if first == INPUT else min(exponents[first], FINEST) for first in least}
    found = _raised({first: max(exponent, least[first]) for first, exponent in found.items()}, limits, free)
    ties = {(shared[op.name], e) for op in program.ops if program.is_portable and op.name in shared for e in _ties(op)}
    while True:
        before = dict(found)
        for fine, coarse, bits in limits:
            found[fine] = min(found[fine], found[coarse] + bits)
        for a, b, result in products:
            found[result] = min(found[result], found[a] + found[b] + RESCALED)
            for finer in sorted({a, b} - {INPUT}, key=found.__getitem__)[-1:]:
                found[finer] -= max(0, found[a] + found[b] - found[result] - RESCALED)
        for first, exponent in ties:
            found[first] -= first != INPUT and found[first] == exponent
        if found == before:
            return found


def _raised(values: dict[str, int], limits: list[Limit], names: Collection[str] | None = None) -> dict[str, int]:
    """The values, those of `names` (None: all) as much greater as the limits ask for."""
    while True:
        before = dict(values)
        for fine, coarse, bits in limits:
            if names is None or coarse in names:
                values[coarse] = max(values[coarse], values[fine] - bits)
        if values == before:
            return values


def _limits(program: Program) -> Iterator[Limit]:
    for op in program.ops:
        if op.name in program.raw:
            continue
        for name in op.inputs:
            if is_fixed(op):
                exponent = int(program.constants[f"{op.name}.weight_exponent"][0])
                yield op.name, name, exponent - MIN_SHIFT
                yield name, op.name, MAX_SHIFT - exponent
            elif not isinstance(op, Mul):
                bits = APART if op.weighted or isinstance(op, Lookup) else RESCALED
                yield op.name, name, bits
                yield name, op.name, bits
            if isinstance(op, AvgPool):
                yield name, op.name, ((MAX_DIVISOR - 1) // (op.kernel[0] * op.kernel[1])).bit_length() - 1
            if isinstance(op, Add):  # the sum of the coarsest operand and of all others, each finer by so many bits
                most = (LIMIT // 128 - 2) // (len(op.inputs) - 1)
                yield from ((name, other, most.bit_length() - 1) for other in op.inputs)


def _ties(op: Op) -> Iterator[int]:
    """The exponents with which a bound of the clamp of `op` lies halfway between two integers."""
    for bound in filter(None, op.clamp):
        numerator, denominator = bound.as_integer_ratio()
        yield denominator.bit_length() - 1 - (numerator & -numerator).bit_length()
