"""The numbers are those of PyTorch, draw by draw."""

import numpy as np
import pytest
import torch

from pixels.draws import Draws

SEEDS = [0, 1, 5489, 2**32 - 1, 2**32, 2**63 - 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_all_kinds_in_turn_are_those_of_a_generator(seed):
    """More of them than the state has words, so that it is renewed twice."""
    draws, generator, random = Draws(seed), torch.Generator().manual_seed(seed), np.random.default_rng(0)
    for _ in range(500):
        low, high = np.sort(random.uniform(-2, 2, 2)).tolist()
        count, probability = int(2 ** random.uniform(0, 62)), float(random.uniform())
        assert draws.uniform(low, high) == torch.empty(1).uniform_(low, high, generator=generator)
        assert draws.integer(count) == torch.randint(count, (), generator=generator)
        assert draws.chance(probability) == (torch.rand(1, generator=generator) < probability)


@pytest.mark.parametrize("count", [1, 2, 2**28 - 1, 2**28, 2**32])
def test_integers_of_all_sizes(count):
    draws, generator = Draws(1), torch.Generator().manual_seed(1)
    for _ in range(20):
        assert draws.integer(count) == torch.randint(count, (), generator=generator)


def test_a_chance_is_compared_in_float32():
    first = Draws(3).uniform()
    assert not Draws(3).chance(first)
    assert not Draws(3).chance(first + 2**-40), "which is `first` in float32"
    assert Draws(3).chance(first + 2**-24)
    assert not any(Draws(seed).chance(0) for seed in range(50))
    assert all(Draws(seed).chance(1) for seed in range(50))


def test_a_seed_counts_as_in_pytorch():
    """Its lowest 32 bits do."""
    assert Draws(7).uniform() == Draws(2**32 + 7).uniform() != Draws(8).uniform()
