"""The .onnx files in ONNX Runtime, today's and a two-year-old one, and in OpenVINO.

Each function returns the logits of the int8 images, and every int8 tensor of the first `traced` ones.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import run_onnxruntime
from apart import Answer, ask
from installed import OLD_ONNXRUNTIME, PACKAGES
from subjects import Subject


def onnxruntime(form: str, mode: str, subject: Subject, x: np.ndarray, traced: int) -> Answer:
    return run_onnxruntime.run(x, **_request(subject, form, traced), mode=mode)


def old_onnxruntime(form: str, mode: str, subject: Subject, x: np.ndarray, traced: int) -> Answer:
    request = _request(subject, form, traced) | {"mode": mode}
    return ask("run_onnxruntime.py", OLD_ONNXRUNTIME, x, request)


def openvino(
    form: str,
    precision: str | None,
    subject: Subject,
    x: np.ndarray,
    traced: int,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """On the CPU.

    Args:
        precision: The hint for what is not int8; None: OpenVINO's default.
        environment: Further environment variables.
    """
    request = _request(subject, form, traced) | {"precision": precision}
    return ask("run_openvino.py", PACKAGES, x, request, environment)


def _request(subject: Subject, form: str, traced: int) -> dict:
    return {"file": str(subject.folder / f"{form}.onnx"), "names": [*subject.tensors], "traced": traced}
