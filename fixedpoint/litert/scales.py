"""The scales of the tensors of int8.tflite, with which its runtimes compute what the program computes.

Activations have scales of exact powers of two. LiteRT multiplies an accumulator by `s_x * s_w / s_y` in fixed point and
rounds twice; with an exact power of two the first rounding drops a bit and moves the second one. So the scale of a
filter is the greatest float32 below 2**-e: the multiplier's mantissa is then 2**31 - 128, the first rounding gives the
accumulator back, below 2**23 in magnitude, and one rounding is left, which has no ties in portable arithmetic.
"""

import numpy as np

from fixedpoint.errors import QuantizationError
from fixedpoint.program import Program

MIN_INT16_SHIFT = -6  # least shift of an accumulator in the 16-bit kernel


def power_of_two(exponent: np.ndarray | int, owner: str) -> np.ndarray:
    """2**-exponent, float32 [n].

    Raises:
        QuantizationError: If it or a float32 number beside it is not normal; names `owner`.
    """
    if np.any(np.abs(exponent) > 125):
        raise QuantizationError(f"{owner} has an exponent of {exponent}, whose scale is no normal float32 number")
    return np.ldexp(np.float32(1), np.negative(np.atleast_1d(exponent)))


def filter_scale(exponent: np.ndarray, owner: str) -> np.ndarray:
    """The greatest float32 numbers below 2**-exponent; raises as `power_of_two` does."""
    return np.nextafter(power_of_two(exponent, owner), np.float32(0))


def logit_exponent(program: Program, logits: str) -> int:
    """The exponent of logits of a type; int16 has up to 8 more bits, as many as make no tie and can be shifted.

    Raises:
        QuantizationError: If no exponent is possible.
    """
    assert program.int8_logit_exponent is not None
    if logits == "int8":
        return program.int8_logit_exponent
    shifts = program.shift(program.last_layer).tolist()
    for more in range(8, -1, -1):
        if min(shifts) - more >= MIN_INT16_SHIFT and not any(k >= 2 and k - more == 1 for k in shifts):
            return program.int8_logit_exponent + more
    raise QuantizationError(
        f"int16 logits shift accumulators by {MIN_INT16_SHIFT} and more, and int8 ones by {min(shifts)}"
    )
