"""The elementwise functions that a network can have."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

# By the name of the ATen operation, each called as f(x, *arguments).
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}
ARGUMENTS = {"elu": 1, "leaky_relu": 1}  # how many; others have none
