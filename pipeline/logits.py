"""Networks and QAT programs in PyTorch as functions of pixels; `integer_logits` does the same for integer programs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fixedpoint.program import Program
from fixedpoint.quantize.qat import FakeQuantModel
from models.normalization import normalize

Logits = Callable[[Tensor], Tensor]  # float32 [batch, classes] of uint8 pixels [batch, 3, size, size]


def float_logits(network: nn.Module, device: torch.device) -> Logits:
    """The logits function of a network on `device`."""
    return lambda pixels: network(normalize(pixels.to(device)).contiguous(memory_format=torch.channels_last))


def qat_logits(program: Program, device: torch.device) -> Logits:
    """The logits function of a program as QAT computes it."""
    model = FakeQuantModel(program).to(device).eval()
    return lambda pixels: model(normalize(pixels.to(device)))
