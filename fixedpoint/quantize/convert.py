"""Conversion: the float constants of a calibrated program are rounded once more and stored as integers."""

from dataclasses import replace

import torch

from fixedpoint.program import Program
from fixedpoint.program.constants import integer_biases, integer_weights, layer_grid
from fixedpoint.program.portable import prove


def convert(program: Program) -> Program:
    """The integer program: int8 weights, int32 biases, int32 weight exponents.

    Nothing is estimated here, so it computes exactly what the QAT model computes.

    Raises:
        QuantizationError: If an operation would not be exact or, in portable arithmetic, not the same in every runtime
            (`portable.prove`), or a constant or an exponent is not allowed (`Program.check`); names it.
    """
    program.check()
    constants = dict(program.constants)
    for op in program.ops:
        if op.weighted:
            weight, bias = (constants[f"{op.name}.{name}"] for name in ("weight", "bias"))
            exponent = constants[f"{op.name}.weight_exponent"]
            constants[f"{op.name}.weight"] = integer_weights(program, weight, exponent).to(torch.int8)
            wide = integer_biases(bias, program.accumulator_exponent(op), layer_grid(program, op))
            constants[f"{op.name}.bias"] = wide.clamp(-(2**31), 2**31 - 1).to(torch.int32)
    converted = replace(program, constants=constants)
    prove(converted)
    return converted
