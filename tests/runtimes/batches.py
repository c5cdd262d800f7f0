"""Images as runtimes take them."""

import numpy as np

BATCH = 100  # images at a time


def real(x: np.ndarray) -> np.ndarray:
    """The float32 input of the int8 one."""
    return x.astype(np.float32) / 128


def batches(x: np.ndarray) -> list[np.ndarray]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]
