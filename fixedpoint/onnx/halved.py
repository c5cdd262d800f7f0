"""Halves of even weights: 7 bits, for kernels that add two products of uint8 and int8 in saturating 16 bits.

In portable arithmetic the weights are even, and the biases odd, or even where the shift k is 1. So an accumulator is
2a + 1 or 2a, and half the weights give a. The nearest integer to (2a + 1) / 2^k is a / 2^(k - 1), rounded half up. No
runtime is told how to round: the zero point is added to a, so that no result is negative, and the scale is the next
float32 above the power of two, which lifts each tie and moves nothing else over one.
"""

from typing import NamedTuple

import numpy as np

SHIFTS = (1, 15)  # the least and the greatest


class Halved(NamedTuple):
    """What a QLinearConv takes for a convolution. Its zero point is 0, and its result q + `zero_point` of `halved`.

    Attributes:
        weight: int8, within [-63, 63].
        bias: int32 [out].
        scale: Scale of the weights, float32 [out].
    """

    weight: np.ndarray
    bias: np.ndarray
    scale: np.ndarray


def halved(
    weight: np.ndarray, bias: np.ndarray, scale: np.ndarray, shift: np.ndarray, zero_point: int
) -> Halved | None:
    """The same convolution with half the weights; None if a weight is odd, or a bias or a shift does not allow it.

    What gives less than 256 is below 2^(k + 7) <= 2^22 with the zero point. The scale, and the rounding of the product,
    lift such a number by more than nothing and by at most 1.5 * 2^-23 of it, which is less than the 1 to the next tie.

    Args:
        weight: int8 [out, ...].
        bias: int32 [out], to be added to the accumulators.
        scale: Scale of the weights, powers of two, float32 [out].
        shift: By how many bits the accumulators are shifted right, int32 [out].
        zero_point: Of the result, 0 or 128.
    """
    is_odd = bias % 2 != 0
    if np.any(weight % 2) or shift.min() < SHIFTS[0] or shift.max() > SHIFTS[1] or np.any(is_odd == (shift == 1)):
        return None
    zero = zero_point * 2 ** (shift - 1)
    return Halved(weight // 2, (bias // 2 + zero).astype(np.int32), np.nextafter(2 * scale, np.float32(np.inf)))
