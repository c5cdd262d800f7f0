"""The integer program: its operations, the program itself, and what runs it."""

from fixedpoint.program.evaluator import Evaluator
from fixedpoint.program.exponents import per_channel, per_input, power_of_two
from fixedpoint.program.ops import (
    OPS,
    Add,
    AvgPool,
    BatchNorm,
    Bounds,
    Clamp,
    Concat,
    Conv,
    Flatten,
    Linear,
    Lookup,
    MaxPool,
    Mul,
    Op,
    Pad,
    Pair,
    is_fixed,
)
from fixedpoint.program.program import EXACT8, INPUT, INPUT_EXPONENT, PORTABLE, Program

__all__ = [
    "EXACT8",
    "INPUT",
    "INPUT_EXPONENT",
    "OPS",
    "PORTABLE",
    "Add",
    "AvgPool",
    "BatchNorm",
    "Bounds",
    "Clamp",
    "Concat",
    "Conv",
    "Evaluator",
    "Flatten",
    "Linear",
    "Lookup",
    "MaxPool",
    "Mul",
    "Op",
    "Pad",
    "Pair",
    "Program",
    "is_fixed",
    "per_channel",
    "per_input",
    "power_of_two",
]
