"""A random change of training pixels that code of the user's own makes."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Change = Callable[[Tensor, torch.Generator], Tensor]  # of RGB pixels, uint8 [3, height, width], into other ones


class Extra(NamedTuple):
    """A change, and the seed of its generator."""

    change: Change
    seed: int

    def __call__(self, pixels: Tensor) -> Tensor:
        """The changed pixels on the CPU; `pixels` on any device stay as they are."""
        return self.change(pixels.cpu().clone(), torch.Generator().manual_seed(self.seed))
