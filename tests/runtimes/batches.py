"""Images in the form and number that runtimes take."""

import numpy as np

BATCH = 100  # images at a time


def real(x: np.ndarray) -> np.ndarray:
    """The float32 input for an int8 one."""
    return x.astype(np.float32) / 128


def batches(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]
