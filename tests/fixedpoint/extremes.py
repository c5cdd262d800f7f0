"""Programs with every shift that an integer program may have, whose results are ties, beside ties, or saturated."""

import torch
from programs import build, conv

from fixedpoint.program import INPUT, Add, AvgPool, Concat, Mul, Op, Program


def all_values(*ops: Op, **arguments) -> Program:
    """A program for images of 16x16, all 256 values of a pixel."""
    return build((1, 16, 16), *ops, conv_head=True, **arguments)


def shifts() -> Program:
    """Accumulators that are ties or next to them, or nearly 2**24, for each possible shift."""
    cases = [(s, k << s >> 1) for s in range(1, 39) for k in (-255, -5, -3, -2, -1, 1, 2, 3, 5, 253, 255)]
    cases += [(s, sign * (2**24 - 2**9)) for s in range(-38, 39) for sign in (-1, 1)]
    cases += [(s, bias) for s in range(-38, 1) for bias in (-128, -2, -1, 0, 1, 127)]
    cases = [(s, bias, weight) for s, bias in cases if abs(bias) < 2**24 - 2**8 for weight in (0, 1)]
    shift, bias, weight = (torch.tensor(values, dtype=torch.int32) for values in zip(*cases, strict=True))
    program = all_values(
        conv("x", INPUT, (len(cases), 16, 16), padding=(0, 0)), kernels={"x": (1, 1)}, exponents={"x": 3}
    )
    constants = {"x.weight": weight.to(torch.int8).reshape(-1, 1, 1, 1), "x.bias": bias, "x.weight_exponent": shift - 4}
    return program.with_constants(**constants)


def pools() -> Program:
    sizes = [((2, 3), shift) for shift in (-50, -31, -17, -11, -10, -9, -8, -1, 0, 1, 14)]
    sizes += [((1, 7), 14), ((8, 8), -13)]
    ops = [AvgPool(f"p{i}", (INPUT,), (1, 2, 2), kernel, (8, 8)) for i, (kernel, _) in enumerate(sizes)]
    exponents = {f"p{i}": 7 - shift for i, (_, shift) in enumerate(sizes)}
    joined = Concat("joined", tuple(op.name for op in ops), (len(ops), 2, 2))
    return all_values(*ops, joined, exponents=exponents | {"joined": 7})


def elementwise() -> Program:
    shape = (1, 16, 16)
    ops: list[Op] = [conv("a", INPUT, shape, clamp=(-0.5, None))]
    exponents = {"a": -8}
    for shift in (-38, -9, -8, -7, -1, 0, 1, 8, 16, 24, 25, 26, 38):
        at = f"{shift}".replace("-", "m")
        ops += [
            Add(f"add{at}", (INPUT, "a", INPUT), shape, clamp=(None, 2.0)),
            Mul(f"mul{at}", (INPUT, "a"), shape, clamp=(0.0, None)),
            Concat(f"concat{at}", (INPUT,), shape),
        ]
        exponents |= {f"add{at}": 7 - shift, f"mul{at}": -1 - shift, f"concat{at}": 7 - shift}
    return all_values(*ops, exponents=exponents)


EXTREMES = {"shifts": shifts(), "pools": pools(), "elementwise": elementwise()}
