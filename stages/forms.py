"""The forms of a model, from the file of each to a function from pixels to logits."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fixedpoint.capture import capture
from fixedpoint.fold import fold
from fixedpoint.integer import IntegerEvaluator, integer_input
from fixedpoint.program import Program, power_of_two
from fixedpoint.qat import FakeQuantModel
from fixedpoint.runtime import OnnxModel
from models import create_model
from models.storage import StoredModel, load_model
from stages.cli import require

FILES = {
    "float": Path("artifacts/float/model.safetensors"),
    "ptq": Path("artifacts/ptq/model.safetensors"),
    "qat": Path("artifacts/qat/model.safetensors"),
    "int": Path("artifacts/int/model.safetensors"),
    "onnx_float": Path("artifacts/onnx/float.onnx"),
    "onnx_int8": Path("artifacts/onnx/int8_qoperator.onnx"),
}
MADE_BY = {
    "float": "make train-float",
    "ptq": "make calibrate",
    "qat": "make train-qat",
    "int": "make convert-int",
    "onnx_float": "make export-onnx",
    "onnx_int8": "make export-onnx",
}
Logits = Callable[[Tensor], Tensor]


def float_model(stored: StoredModel) -> torch.nn.Module:
    """The network of a float model file, in eval mode.

    Raises:
        ValueError: If the weights in the file are not those of the network it names.
    """
    info = stored.info
    model = create_model(info.name, info.num_classes, info.image_size, info.arguments)
    try:
        model.load_state_dict(stored.tensors)
    except RuntimeError as error:
        raise ValueError(f"the weights in the file do not fit {info.name}: {' '.join(str(error).split())}") from None
    return model.eval()


def float_program(stored: StoredModel) -> Program:
    """The folded program of a float model file."""
    return fold(capture(float_model(stored), (3, stored.info.image_size, stored.info.image_size)))


def stored_program(stored: StoredModel) -> Program:
    """The program of a ptq, qat or int model file."""
    return Program.from_json(stored.program, stored.tensors)


def load_form(step: str, path: str | Path | None, device: torch.device, threads: int) -> Logits:
    """The logits float32 [batch, classes] of network input float32 [batch, 3, size, size], by the model file of a form.

    Raises:
        FileNotFoundError: Naming the command that makes the missing file.
        ValueError: If the file is not one of this form.
    """
    path = require(path or FILES[step], MADE_BY[step])
    if step.startswith("onnx"):
        model = OnnxModel(path, "default", threads)
        return lambda x: torch.from_numpy(model(x.cpu().numpy()))
    stored = load_model(path, (step,))
    if step == "float":
        return float_model(stored).to(device).to(memory_format=torch.channels_last)
    program = stored_program(stored)
    if step == "int":
        return integer_logits(program)
    return FakeQuantModel(program).to(device).eval()


def integer_logits(program: Program) -> Logits:
    """The logits of an integer program, its accumulators times their powers of two: exact in float32."""
    evaluator = IntegerEvaluator(program)

    def logits(x: Tensor) -> Tensor:
        return evaluator.logits(integer_input(x)).float() * power_of_two(-program.logit_exponent).to(x.device)

    return logits
