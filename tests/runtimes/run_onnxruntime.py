"""Runs an .onnx file in ONNX Runtime; as a script of `apart.py`, in the version that is first on the path."""

import numpy as np
from apart import Answer, answer
from batches import batches, real

from fixedpoint.onnx.graph import OUTPUT
from fixedpoint.onnx.runtime import OnnxModel


def run(x: np.ndarray, file: str, mode: str, names: list[str], traced: int) -> Answer:
    """The logits of all int8 images, and the tensors `names` of the first `traced` ones."""
    model = OnnxModel(file, mode)
    logits = np.concatenate([model(real(batch)) for batch in batches(x)])
    if not traced:
        return logits, {}
    tensors = OnnxModel(file, mode, outputs=names).tensors(real(x[:traced]))
    return logits, {name: value for name, value in tensors.items() if name != OUTPUT}


if __name__ == "__main__":
    answer(run)
