"""The model file of each form in the pipeline, checkpoints of training in its place, and the network or program."""

from pathlib import Path

import torch
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program import Program
from fixedpoint.quantize.qat import FakeQuantModel
from models.registry import create_model
from storage.model_file import ModelInfo, StoredModel, load_model

FILES = {
    "float": Path("artifacts/float/model.safetensors"),
    "ptq": Path("artifacts/ptq/model.safetensors"),
    "qat": Path("artifacts/qat/model.safetensors"),
    "int": Path("artifacts/int/model.safetensors"),
    "onnx_float": Path("artifacts/onnx/float.onnx"),
    "onnx_int8": Path("artifacts/onnx/int8_qoperator.onnx"),
    "litert": Path("artifacts/litert/int8.tflite"),
}
MADE_BY = {
    "float": "make train-float",
    "ptq": "make calibrate",
    "qat": "make train-qat",
    "int": "make convert-int",
    "onnx_float": "make export-onnx",
    "onnx_int8": "make export-onnx",
    "litert": "make export-litert",
}
GOLDEN = Path("artifacts/golden")
# What export_litert writes in place of the file where the arithmetic is exact8: why there is none.
NO_LITERT = FILES["litert"].with_name("none.txt")


def read_model(path: Path, form: str) -> StoredModel:
    """A model file of a form; or, of a checkpoint of float training or QAT (.pt), the model whose scores it has.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is neither, not whole, or holds another form.
    """
    if path.suffix != ".pt":
        return load_model(path, (form,))
    with path.open("rb") as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # what a damaged file makes PyTorch raise has no common class
            raise ValueError(f"{path} is damaged, or no checkpoint") from None
    try:
        weights, contents = state["kept"], state["model_file"]
        found, info, program = contents["form"], ModelInfo(**contents["info"]), contents["program"]
    except (KeyError, TypeError):
        raise ValueError(f"{path} is no checkpoint of this version's train_float or train_qat") from None
    if found != form:
        raise ValueError(f"{path} is a checkpoint of form {found!r}, expected {form!r}")
    if form == "float":
        return StoredModel(form, weights, info, program)
    model = FakeQuantModel(Program.from_json(program, contents["constants"]))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit its program: {' '.join(str(error).split())}") from None
    return StoredModel(form, model.trained().constants, info, program)


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
