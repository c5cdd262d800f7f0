"""The integer program: its operations, the program itself, and what runs it."""

from fixedpoint.program.evaluator import Evaluator, ModuleEvaluator, parameter_name
from fixedpoint.program.exponents import per_channel, per_input, power_of_two
from fixedpoint.program.moves import Concat, Flatten, MaxPool, Pad, Rearrange, Select
from fixedpoint.program.operation import Bounds, Op, Pair
from fixedpoint.program.ops import OPS, Add, AvgPool, BatchNorm, Clamp, Conv, Linear, Lookup, Mul, is_fixed
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
    "ModuleEvaluator",
    "Mul",
    "Op",
    "Pad",
    "Pair",
    "Program",
    "Rearrange",
    "Select",
    "is_fixed",
    "parameter_name",
    "per_channel",
    "per_input",
    "power_of_two",
]
