import math

import numpy as np
import pytest

from fixedpoint.litert.scales import filter_scale, power_of_two


def test_powers_of_two_are_exact():
    exponents = np.arange(-125, 126)
    assert power_of_two(exponents, "x").tolist() == [math.ldexp(1, -e) for e in range(-125, 126)]
    assert power_of_two(3, "x").tolist() == [0.125]
    for beyond in (-126, 126):
        with pytest.raises(ValueError, match=f"x has an exponent of {beyond}, whose scale is no normal float32"):
            power_of_two(beyond, "x")


@pytest.mark.parametrize("exponent", [-20, -1, 0, 7, 30])
@pytest.mark.parametrize("accumulator", [1, 3, 12345, 2**22 + 1, 2**23 - 1, -(2**23) + 1])
def test_the_first_rounding_by_the_multiplier_of_a_filter_gives_the_accumulator_back(exponent, accumulator):
    """LiteRT takes the mantissa of a scale as an integer of 31 bits, and rounds the high half of the double product."""
    mantissa, power = math.frexp(float(filter_scale(np.array([exponent]), "x")[0]))
    multiplier = round(mantissa * 2**31)
    assert (multiplier, power) == (2**31 - 128, -exponent)
    assert (accumulator * multiplier + 2**30) >> 31 == accumulator
