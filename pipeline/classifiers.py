"""The forms of a model as functions of pixels: a class for each way to run one.

A class imports what runs its form when it loads one: scoring the integer model needs neither ONNX Runtime nor timm.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fixedpoint.program.integer import integer_logits, signed_pixels
from imagedb.reader import ImageDatabase
from pipeline.checkpoints import read_model
from pipeline.databases import check_model
from pipeline.forms import Form, stored_program
from pipeline.logits import Logits, float_logits, qat_logits
from pipeline.params import Params
from storage.errors import InputError
from storage.files import sha256
from storage.json_file import parse_json
from storage.model_file import ModelInfo, StoredModel, read_info


class Classifier(ABC):
    """A form as a function of pixels.

    Args:
        form: The form's row of `FORMS`.
        path: A model file of the form, or a checkpoint of its training.
        device: The device to compute on; some forms use the CPU only.
        params: All parameters.

    Attributes:
        path: The file.
        digest: Its SHA-256.
        info: The file's description of the model.

    Raises:
        InputError: If the file does not hold this form.
    """

    info: ModelInfo

    def __init__(self, form: Form, path: Path, device: torch.device, params: Params):
        self.path, self.digest = path, sha256(path)

    @abstractmethod
    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits float32 [batch, classes] of uint8 pixels [batch, 3, size, size]."""

    def check_classes(self, database: ImageDatabase) -> None:
        """Make sure that the model's classes are those of a database that has as many.

        Raises:
            InputError: If one differs; names the first.
        """
        for theirs, ours in zip(self.info.class_names, database.class_names, strict=True):
            if theirs != ours:
                raise InputError(f"{self.path} has the class {theirs!r} where {database.path} has {ours!r}")


def load_classifier(form: Form, path: str | Path | None, device: torch.device, params: Params) -> Classifier:
    """Load a form from `path`, or from its file in the pipeline if that is None.

    Raises:
        FileNotFoundError: If the file is missing; names it and, for the pipeline's own, the command that makes it.
        InputError: If the file does not hold this form, or is not for the images that `params` describe.
    """
    if path is None and form.absence:
        raise InputError(form.absence)
    path = form.require() if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"model file {path} does not exist")
    classifier = CLASSIFIERS[form.loader](form, path, device, params)
    check_model(path, classifier.info, params)
    return classifier


class Stored(Classifier):
    """A form that is stored in a model file or a checkpoint."""

    def __init__(self, form: Form, path: Path, device: torch.device, params: Params):
        super().__init__(form, path, device, params)
        stored = read_model(path, form.name)
        self.info = stored.info
        self.logits_of = self.function(stored, device)

    def __call__(self, pixels: Tensor) -> Tensor:
        return self.logits_of(pixels)

    @abstractmethod
    def function(self, stored: StoredModel, device: torch.device) -> Logits:
        """The model as a function."""


class FloatNetwork(Stored):
    """The float network, in PyTorch."""

    def function(self, stored: StoredModel, device: torch.device) -> Logits:
        from pipeline.float_model import float_model

        return float_logits(float_model(stored).to(device).to(memory_format=torch.channels_last), device)


class FakeQuantized(Stored):
    """A program with weights in float, as QAT computes it."""

    def function(self, stored: StoredModel, device: torch.device) -> Logits:
        return qat_logits(stored_program(stored), device)


class Integer(Stored):
    """The integer program, in PyTorch."""

    def function(self, stored: StoredModel, device: torch.device) -> Logits:
        return integer_logits(stored_program(stored), device)


class Onnx(Classifier):
    """An ONNX file in ONNX Runtime."""

    def __init__(self, form: Form, path: Path, device: torch.device, params: Params):
        import onnx

        from fixedpoint.onnx.runtime import OnnxModel

        super().__init__(form, path, device, params)
        self.model = OnnxModel(path, "default", params.execution.threads)
        exported, bytes_ = onnx.load(path), (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        is_integer = any(tensor.data_type in bytes_ for tensor in exported.graph.initializer)
        if is_integer != form.is_integer:
            holds = "an int8" if is_integer else "a float"
            raise InputError(f"{path} holds {holds} model, which --step {form.name} does not take")
        self.info = exported_info(path, {entry.key: parse_json(entry.value, path) for entry in exported.metadata_props})

    def __call__(self, pixels: Tensor) -> Tensor:
        return torch.from_numpy(self.model(signed_pixels(pixels).cpu().numpy()))


class LiteRt(Classifier):
    """A .tflite file in LiteRT."""

    def __init__(self, form: Form, path: Path, device: torch.device, params: Params):
        from fixedpoint.litert.runtime import LitertModel

        super().__init__(form, path, device, params)
        self.model = LitertModel(path, "xnnpack", params.execution.threads)
        self.info = exported_info(path, self.model.metadata)

    def __call__(self, pixels: Tensor) -> Tensor:
        return torch.from_numpy(self.model(signed_pixels(pixels).cpu().numpy())) * 2.0**-self.model.exponent


def exported_info(path: Path, metadata: Mapping[str, Any]) -> ModelInfo:
    """The description of the model in the metadata of an exported file.

    Raises:
        InputError: If an entry is missing or not possible.
    """
    try:
        values = {key: metadata[key] for key in ("class_names", "image_size", "color_space", "resample")}
        classes = values["class_names"]
        count = len(classes) if isinstance(classes, list) else 0
        return read_info(values | {"name": metadata["network"], "arguments": {}, "num_classes": count}, path)
    except KeyError as error:
        raise InputError(f"{path} has no {error.args[0]} in its metadata: no stage wrote it") from None


CLASSIFIERS = {each.__name__: each for each in (FloatNetwork, FakeQuantized, Integer, Onnx, LiteRt)}
