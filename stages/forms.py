"""Each form of a model as a function from pixels to logits."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
from torch import Tensor

from fixedpoint.c_runtime import CModel
from fixedpoint.integer import integer_input, integer_logits
from fixedpoint.program import Program, power_of_two
from fixedpoint.qat import FakeQuantModel
from fixedpoint.runtime import OnnxModel
from models.storage import ModelInfo, load_model
from stages.cli import require
from stages.databases import check_model, open_database
from stages.model_files import FILES, MADE_BY, float_model, stored_program
from stages.params import Params

Logits = Callable[[Tensor], Tensor]


def load_form(step: str, path: str | Path | None, device: torch.device, params: Params) -> Logits:
    """The logits float32 [batch, classes] of network input float32 [batch, 3, size, size], by the model file of a form.

    Raises:
        FileNotFoundError: Naming the command that makes the missing file.
        ValueError: If the file is not one of this form, or not for the pictures that `params` describe.
    """
    path = require(FILES[step], MADE_BY[step]) if path is None else Path(path)
    if step.startswith("onnx"):
        model = OnnxModel(path, "default", params.machine.threads)
        _check(path, _exported_info(path), params)
        return lambda x: torch.from_numpy(model(x.cpu().numpy()))
    stored = load_model(path, (step,))
    _check(path, stored.info, params)
    if step == "float":
        return float_model(stored).to(device).to(memory_format=torch.channels_last)
    program = stored_program(stored)
    if step == "int":
        return integer_logits(program, device)
    return FakeQuantModel(program).to(device).eval()


def c_logits(program: Program, sources: str | Path) -> Logits:
    """The logits of the C form of an integer program, compiled from the files in the folder `sources`."""
    model, scale = CModel(require(sources, "make export-c")), power_of_two(-program.logit_exponent)
    return lambda x: torch.tensor(model(integer_input(x.cpu()).numpy())) * scale


def _exported_info(path: Path) -> ModelInfo:
    said = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    classes = said["class_names"]
    return ModelInfo(said["network"], {}, len(classes), said["image_size"], said["color_space"], classes)


def _check(path: Path, info: ModelInfo, params: Params) -> None:
    check_model(path, info, params)
    database = open_database(params, "val")
    for theirs, ours in zip(info.class_names, database.class_names, strict=True):
        if theirs != ours:
            raise ValueError(f"{path} has the class {theirs!r} where {database.path} has {ours!r}")
