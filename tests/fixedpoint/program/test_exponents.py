import math

import torch

from fixedpoint.program import Conv, Linear, per_channel, per_input, power_of_two


def test_power_of_two_is_exact():
    exponents = torch.arange(-126, 128, dtype=torch.int32)
    assert power_of_two(exponents).tolist() == [math.ldexp(1.0, e) for e in range(-126, 128)]
    exponents = torch.arange(-1022, 1024)
    doubles = power_of_two(exponents, torch.float64)
    assert doubles.dtype == torch.float64
    assert doubles.tolist() == [math.ldexp(1.0, e) for e in range(-1022, 1024)]


def test_per_channel_broadcasts_along_its_dimension():
    values, like = torch.arange(3), torch.zeros(3, 3, 3, 3)
    for dim in range(4):
        result = like + per_channel(values, like, dim)
        assert torch.equal(result.movedim(dim, 0).reshape(3, -1)[:, 0], values.float())
        assert torch.equal(result, result.movedim(dim, -1).sort(dim=-1).values.movedim(-1, dim))


def test_per_input_meets_the_weights_of_its_channel_in_every_group():
    values = torch.tensor([1.0, 2, 3, 4])
    found = values.new_ones(2, 4) * per_input(values, Linear("x", ("input",), (2,)), torch.ones(2, 4))
    assert found.tolist() == [[1, 2, 3, 4], [1, 2, 3, 4]]
    grouped = Conv("x", ("input",), (4, 1, 1), (1, 1), (0, 0), (1, 1), 2)
    weight = torch.ones(4, 2, 1, 3)  # the first two of four results see the first two of four channels
    found = weight * per_input(values, grouped, weight)
    assert found[:, :, 0].tolist() == [[[1] * 3, [2] * 3]] * 2 + [[[3] * 3, [4] * 3]] * 2
