import numpy as np
import pytest

from fixedpoint.onnx.halved import halved


def made(weight=2, bias=1235, k=8, zero_point=128):
    """Halves of a convolution with one weight, whose operand and result have the scale 1."""
    return halved(np.int8([[weight]]), np.int32([bias]), np.float32([2.0**-k]), np.int32([k]), zero_point)


@pytest.mark.parametrize("zero_point", [0, 128])
@pytest.mark.parametrize("k", range(1, 16))
def test_the_result_is_the_nearest_integer(k, zero_point):
    bias = 1235 - (k == 1)
    halves = made(bias=bias, k=k, zero_point=zero_point)
    ties = np.arange(-600, 600) * 2 ** (k - 2) if k > 1 else np.arange(-600, 600)
    halves_of_sums = np.unique([*(ties[:, None] + np.arange(-3, 4)).flat, -(2**23), 2**23]) - bias // 2
    sums = (halves_of_sums + halves.bias[0]).astype(np.float32)
    found = np.rint(np.clip(sums * halves.scale[0], 0, 255)) - zero_point  # as a QLinearConv rounds
    accumulators = 2 * halves_of_sums + bias
    assert np.all(accumulators % 2**k != 2 ** (k - 1)), "portable arithmetic has no ties"
    exact = (accumulators + 2 ** (k - 1)) >> k
    assert np.array_equal(found, exact.clip(-zero_point, 255 - zero_point))
    half_even = np.rint((halves_of_sums + bias // 2) / 2.0 ** (k - 1)).clip(-zero_point, 255 - zero_point)
    assert k == 1 or np.any(half_even != found), "without the higher scale, ties would be lost"


def test_weights_have_seven_bits():
    assert made(weight=-126).weight.tolist() == [[-63]] and made(weight=126).weight.dtype == np.int8


@pytest.mark.parametrize(
    "odd",
    [
        {"weight": 3},
        {"bias": 1234},  # ties
        {"bias": 1235, "k": 1},  # half an integer
        {"k": 0},
        {"k": 16},  # float32 has too few bits
    ],
)
def test_what_cannot_be_halved_is_left(odd):
    assert made() is not None and made(**odd) is None
