"""Random numbers of one sample: those of torch.Generator, without a tensor for each."""

from functools import cache

from pixels.build_native import load

_native = cache(load)


class Draws:
    """The numbers that PyTorch draws on the CPU, one by one, from a generator with this seed.

    Args:
        seed: Its lowest 32 bits count, as in PyTorch.
    """

    def __init__(self, seed: int):
        module = _native()
        self._lib, self._random = module.lib, module.ffi.new("Random *")
        self._lib.seed_random(self._random, seed & 0xFFFFFFFF)

    def uniform(self, low: float = 0, high: float = 1) -> float:
        """A number from `low` to `high`, computed in float32, as by `torch.Tensor.uniform_`."""
        return self._lib.draw_uniform(self._random, low, high)

    def integer(self, count: int) -> int:
        """A number from 0 to `count` - 1, as by `torch.randint`."""
        return self._lib.draw_integer(self._random, count)

    def chance(self, probability: float) -> bool:
        """Whether a number from 0 to 1 is below `probability`, compared in float32, as PyTorch does."""
        return bool(self._lib.draw_chance(self._random, probability))
