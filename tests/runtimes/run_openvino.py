"""A script of `apart.py` that runs an .onnx file in OpenVINO, on the CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
from apart import Answer, answer
from batches import batches, real


def run(x: np.ndarray, file: str, precision: str | None, names: list[str], traced: int) -> Answer:
    """The logits of all int8 images, and the tensors `names` of the first `traced` ones.

    Args:
        precision: The hint for what is not int8; None: OpenVINO's default.
    """
    model = _compile(file, precision)
    is_whole = model.input().get_element_type() == openvino.Type.i8
    prepared = (lambda x: x) if is_whole else real
    logits = np.concatenate([model(prepared(batch))[0].reshape(len(batch), -1) for batch in batches(x)])
    if not traced:
        return logits, {}
    _, *tensors = _compile(file, precision, names)(prepared(x[:traced])).values()
    return logits, {name: np.array(value) for name, value in zip(names, tensors, strict=True)}


def _compile(file: str, precision: str | None, outputs: Sequence[str] = ()) -> Any:
    core = openvino.Core()
    model = core.read_model(file)
    for name in outputs:
        model.add_outputs(name)
    hint = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    return core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, **hint})


if __name__ == "__main__":
    answer(run)
