"""The self-check of the C form on golden images: a program to flash, which prints PASS or the first difference."""

import numpy as np
import torch
from torch import Tensor

from fixedpoint.c.files import NAME
from fixedpoint.c.selfcheck import c_selfcheck, golden_count
from fixedpoint.program import Program
from fixedpoint.program.integer import IntegerEvaluator


def c_check(program: Program, images: np.ndarray, name: str = NAME) -> str:
    """The text of selfcheck.c.

    Args:
        images: int8 [n, 3, height, width]; the first ones of them are taken, as many as go into a small flash.
        name: Of the functions that network.c has.
    """
    images, accumulators = first_of(program, images)
    return c_selfcheck(program, images, accumulators.numpy(), name)


def first_of(program: Program, images: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """The first ones of images, as many as go into a small flash, and their accumulators, int32 [n, classes]."""
    images = images[: golden_count(images)]
    return images, IntegerEvaluator(program)(torch.from_numpy(images)).flatten(1)
