"""The .tflite files in LiteRT and in TensorFlow Lite for Microcontrollers (TFLM).

Each function returns the logits of the int8 images, in the type that the file is named after, and the int8 tensors of
the first `traced` ones.
"""

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from apart import Answer
from batches import batches
from subjects import Subject

from fixedpoint.litert.runtime import LitertModel
from fixedpoint.litert.writer import tensor_names


def names(subject: Subject) -> list[str]:
    """The int8 tensors that a .tflite file has in common with its program."""
    return tensor_names(subject.program)


def litert(dtype: str, kernels: str, subject: Subject, x: np.ndarray, traced: int) -> Answer:
    file = subject.folder / f"{dtype}.tflite"
    model = LitertModel(file, kernels)
    logits = np.concatenate([model(batch) for batch in batches(x)])
    return logits, LitertModel(file, kernels, tensors=True).tensors(x[:traced]) if traced else {}


def tflm(dtype: str, subject: Subject, x: np.ndarray, traced: int) -> Answer:
    model = _tflm(dtype, subject, preserve=False)
    logits = np.concatenate([_run(model, image) for image in x])
    if not traced:
        return logits, {}
    # TFLM counts tensors as LiteRT does, which knows their names
    file = str(subject.folder / f"{dtype}.tflite")
    reader = Interpreter(file, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    index = {details["name"]: details["index"] for details in reader.get_tensor_details()}
    model, tensors = _tflm(dtype, subject, preserve=True), {name: [] for name in names(subject)}
    for image in x[:traced]:
        _run(model, image)
        for name, values in tensors.items():
            values.append(model.GetTensor(index[name], 0)["tensor_data"].transpose(0, 3, 1, 2).copy())
    return logits, {name: np.concatenate(values) for name, values in tensors.items()}


def _run(model: Any, image: np.ndarray) -> np.ndarray:
    """TFLM's logits [1, classes] of an image [channels, height, width]."""
    model.set_input(np.ascontiguousarray(image.transpose(1, 2, 0)[None]), 0)
    model.invoke()
    return model.get_output(0)


def _tflm(dtype: str, subject: Subject, preserve: bool) -> Any:
    """TFLM's interpreter, which keeps every tensor if `preserve` is set."""
    from tflite_micro import runtime  # make test-runtimes installs it

    content = (subject.folder / f"{dtype}.tflite").read_bytes()
    arena = 2 * len(content) + 4 * sum(value[:1].nbytes for value in subject.tensors.values()) + 2**24
    config = runtime.InterpreterConfig
    kind = config.kPreserveAllTensors if preserve else config.kAllocationRecording
    return runtime.Interpreter.from_bytes(content, arena_size=arena, intrepreter_config=kind)
