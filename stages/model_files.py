"""The model file of each form in the pipeline, and the network or program in it."""

from pathlib import Path

from torch import nn

from fixedpoint.capture import capture
from fixedpoint.fold import fold
from fixedpoint.program import Program
from models import create_model
from models.storage import ModelInfo, StoredModel

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


def float_model(stored: StoredModel) -> nn.Module:
    """The network of a float model file, in eval mode.

    Raises:
        ValueError: If the weights in the file are not those of the network it names.
    """
    info = stored.info
    model = create_model(info.name, info.num_classes, info.image_size, info.arguments, info.normalization)
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


def metadata(info: ModelInfo) -> dict:
    """What an exported file says about the network and its pictures."""
    return {
        "network": info.name,
        "class_names": info.class_names,
        "color_space": info.color_space,
        "image_size": info.image_size,
    }
