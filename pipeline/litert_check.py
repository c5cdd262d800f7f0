"""The self-check of the .tflite file on golden images: a program to flash with TensorFlow Lite for Microcontrollers."""

import numpy as np
import torch

from fixedpoint.litert.selfcheck import tflm_selfcheck
from fixedpoint.litert.writer import logit_exponent
from fixedpoint.program import Program
from fixedpoint.program.integer import rounded_logits
from pipeline.c_check import first_of


def litert_check(program: Program, model: bytes, type_of_logits: str, images: np.ndarray) -> dict[str, bytes]:
    """The files of the self-check, by name.

    Args:
        model: The .tflite file of the program.
        type_of_logits: Those of the file, int8 or int16.
        images: As in `pipeline.c_check.c_check`.
    """
    images, accumulators = first_of(program, images)
    exponent, dtype = logit_exponent(program, type_of_logits), getattr(torch, type_of_logits)
    logits = rounded_logits(program, accumulators, exponent, dtype).numpy()
    return {name: text.encode() for name, text in tflm_selfcheck(model, images, logits).items()}
