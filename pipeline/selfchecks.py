"""Programs to flash, with some of the golden images: each prints PASS or the first logit that differs."""

import numpy as np
import torch
from torch import Tensor

from fixedpoint.c.files import NAME
from fixedpoint.c.selfcheck import c_selfcheck, golden_count
from fixedpoint.litert.selfcheck import tflm_selfcheck
from fixedpoint.litert.writer import logit_exponent
from fixedpoint.program import Program
from fixedpoint.program.integer import IntegerEvaluator, rounded_logits


def c_check(program: Program, images: np.ndarray, name: str = NAME) -> str:
    """The text of selfcheck.c.

    Args:
        images: int8 [n, 3, height, width]; the first ones of them are taken, as many as go into a small flash.
        name: Of the functions that network.c has.
    """
    images, accumulators = _first(program, images)
    return c_selfcheck(program, images, accumulators.numpy(), name)


def litert_check(program: Program, model: bytes, type_of_logits: str, images: np.ndarray) -> dict[str, bytes]:
    """The files of the self-check for TensorFlow Lite for Microcontrollers, by name.

    Args:
        model: The .tflite file of the program.
        type_of_logits: Those of the file, int8 or int16.
        images: As in `c_check`.
    """
    images, accumulators = _first(program, images)
    exponent, dtype = logit_exponent(program, type_of_logits), getattr(torch, type_of_logits)
    logits = rounded_logits(program, accumulators, exponent, dtype).numpy()
    return {name: text.encode() for name, text in tflm_selfcheck(model, images, logits).items()}


def _first(program: Program, images: np.ndarray) -> tuple[np.ndarray, Tensor]:
    images = images[: golden_count(images)]
    return images, IntegerEvaluator(program)(torch.from_numpy(images)).flatten(1)
