"""Networks that were trained with an input normalization of their own."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

CACHED = 2**17  # values that stay in a CPU's cache between two passes over them


class Normalization(nn.Module):
    """Maps pixels p, given as (p - 128) / 128, to `(p / 255 - mean) / std`.

    Args:
        mean: The mean of each channel, of pixels in 0..1.
        std: The standard deviation of each channel, not 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]):
        super().__init__()
        self.register_buffer("mean", (255 * torch.tensor(mean).reshape(-1, 1, 1) - 128) / 128)
        self.register_buffer("std", 255 * torch.tensor(std).reshape(-1, 1, 1) / 128)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Normalized(nn.Sequential):
    """A network after its normalization.

    `fixedpoint.capture.fold` moves the scales into the weights of the first convolution, and the means into its bias.
    So the integer model sees all 256 values of a pixel. An int8 tensor of normalized values could not hold them: its
    step is a power of two, 2^-5 for ImageNet's statistics, while that of a pixel is 2^-5.8.
    """

    normalization: Normalization
    network: nn.Module

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__(OrderedDict(normalization=Normalization(mean, std), network=network))


def normalize(pixels: Tensor) -> Tensor:
    """The network's input for uint8 pixels p: float32 (p - 128) / 128, exact."""
    x, offset = torch.empty_like(pixels, dtype=torch.float32), torch.tensor(-1.0)
    count = len(pixels) if pixels.is_cuda else max(1, CACHED // max(1, pixels[:1].numel()))
    for part, converted in zip(pixels.split(count), x.split(count), strict=True):
        torch.add(offset, converted.copy_(part), alpha=1 / 128, out=converted)  # one pass instead of two
    return x
