"""Each form of a model as a function from pixels to logits."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from fixedpoint.c.runtime import CModel
from fixedpoint.litert.runtime import LitertModel
from fixedpoint.onnx.runtime import OnnxModel
from fixedpoint.program import Program, power_of_two
from fixedpoint.program.integer import integer_input, integer_logits
from fixedpoint.quantize.qat import FakeQuantModel
from imagedb.reader import ImageDatabase
from pipeline.databases import check_model
from pipeline.model_files import FILES, MADE_BY, NO_LITERT, float_model, read_model, stored_program
from pipeline.params import Params
from pipeline.paths import require
from storage.model_file import ModelInfo, StoredModel

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Form:
    """A model as a function.

    Attributes:
        path: Its file.
        info: What the file says about it.
        logits_of: float32 [batch, classes] of network input float32 [batch, 3, size, size].
    """

    path: Path
    info: ModelInfo
    logits_of: Logits

    def __call__(self, x: Tensor) -> Tensor:
        return self.logits_of(x)

    def check_classes(self, database: ImageDatabase) -> None:
        """Make sure that the model's classes are those of a database of as many.

        Raises:
            ValueError: Naming the first that differs.
        """
        for theirs, ours in zip(self.info.class_names, database.class_names, strict=True):
            if theirs != ours:
                raise ValueError(f"{self.path} has the class {theirs!r} where {database.path} has {ours!r}")


def load_form(step: str, path: str | Path | None, device: torch.device, params: Params) -> Form:
    """A form of the model from its file, or from a checkpoint of its training.

    Raises:
        FileNotFoundError: Naming the missing file and, of the pipeline's own, the command that makes it.
        ValueError: If the file is not one of this form, or not for the pictures that `params` describe.
    """
    if step == "litert" and path is None and NO_LITERT.exists():
        raise ValueError(NO_LITERT.read_text().strip())
    path = require(FILES[step], MADE_BY[step]) if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"model file {path} does not exist")
    if step.startswith("onnx"):
        model = OnnxModel(path, "default", params.execution.threads)
        form = Form(path, _onnx_info(step, path), lambda x: torch.from_numpy(model(x.cpu().numpy())))
    elif step == "litert":
        litert = LitertModel(path, "xnnpack", params.execution.threads)
        form = Form(path, _exported_info(path, litert.metadata), litert_logits(litert))
    else:
        stored = read_model(path, step)
        form = Form(path, stored.info, _logits(stored, device))
    check_model(path, form.info, params)
    return form


def c_logits(program: Program, sources: str | Path) -> Logits:
    """The logits of the C form of an integer program, compiled from the files in the folder `sources`."""
    model, scale = CModel(require(sources, "make export-c")), power_of_two(-program.logit_exponent)
    return lambda x: torch.tensor(model(integer_input(x.cpu()).numpy())) * scale


def litert_logits(model: LitertModel) -> Logits:
    """The logits of a .tflite file, which are int8 or int16 there."""
    return lambda x: torch.from_numpy(model(integer_input(x.cpu()).numpy())) * 2.0**-model.exponent


def _logits(stored: StoredModel, device: torch.device) -> Logits:
    if stored.form == "float":
        return float_model(stored).to(device).to(memory_format=torch.channels_last)
    program = stored_program(stored)
    if stored.form == "int":
        return integer_logits(program, device)
    return FakeQuantModel(program).to(device).eval()


def _onnx_info(step: str, path: Path) -> ModelInfo:
    exported = onnx.load(path)
    int8 = any(
        tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8) for tensor in exported.graph.initializer
    )
    if int8 != (step == "onnx_int8"):
        raise ValueError(f"{path} holds {'an int8' if int8 else 'a float'} model, which --step {step} does not take")
    return _exported_info(path, {entry.key: json.loads(entry.value) for entry in exported.metadata_props})


def _exported_info(path: Path, metadata: Mapping[str, Any]) -> ModelInfo:
    try:
        classes = metadata["class_names"]
        return ModelInfo(
            metadata["network"], {}, len(classes), metadata["image_size"], metadata["color_space"], classes
        )
    except KeyError as error:
        raise ValueError(f"{path} has no {error.args[0]} in its metadata: no stage wrote it") from None
