"""Model files: tensors in safetensors, everything else in one JSON header, which holds a SHA-256 of both."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from storage.errors import InputError
from storage.files import whole_file

FORMAT_VERSION = 5
FLOATS = torch.float16, torch.bfloat16, torch.float32, torch.float64
INTEGERS = torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64


@dataclass(frozen=True)
class ModelInfo:
    """What is needed to build the network again and to prepare its input.

    Attributes:
        name: name of the network for `models.registry.create_model`.
        arguments: further arguments of its constructor, as JSON values.
        num_classes: number of logits.
        image_size: height and width of the input in pixels.
        color_space: colour space of the input.
        class_names: the name of each logit's class.
        normalization: "mean" and "std" if the network has an input normalization of its own (`Normalized`).
        resample: filter by which its images are resized; files from before there was a choice do not name it.
    """

    name: str
    arguments: dict
    num_classes: int
    image_size: int
    color_space: str
    class_names: list[str]
    normalization: dict[str, list[float]] | None = None
    resample: str = "bilinear"


@dataclass(frozen=True)
class StoredModel:
    """The contents of a model file.

    Attributes:
        form: the form of the model, such as "int".
        tensors: the tensors by name, on the CPU.
        info: the network and its input.
        program: the integer program as JSON values; None in forms without one.
    """

    form: str
    tensors: dict[str, Tensor]
    info: ModelInfo
    program: dict | None


def save_model(
    path: str | Path, form: str, tensors: dict[str, Tensor], info: ModelInfo, program: dict | None = None
) -> None:
    """Write a model file, whole or not at all; equal contents give equal bytes.

    Args:
        tensors: the tensors by name, on any device; of those that share memory, each is stored.
        program: JSON values; the order of keys is not preserved.

    Raises:
        OSError: if the file cannot be written.
    """
    header = {"format_version": FORMAT_VERSION, "form": form, "info": asdict(info), "program": program}
    stored = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    header["sha256"] = _digest(header, stored)
    # One metadata entry, because safetensors writes several entries in an order that differs between processes.
    contents = save(stored, {"model": json.dumps(header, sort_keys=True, allow_nan=False)})
    with whole_file(path, durable=True) as partial:
        partial.write_bytes(contents)


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the header without its digest, and of the name, type, shape and bytes of each tensor."""
    values = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def refuse_pointer(path: str | Path) -> None:
    """Raise InputError if a file is the pointer that git-lfs leaves in place of a file that it has not fetched."""
    with Path(path).open("rb") as file:
        if file.read(16) == b"version https://":
            raise InputError(f"{path} is a pointer of git-lfs; `git lfs pull` fetches the file itself")


def load_model(path: str | Path, forms: tuple[str, ...]) -> StoredModel:
    """Read a model file that holds one of `forms`.

    Raises:
        FileNotFoundError: if the file does not exist.
        InputError: if it is not a model file, has another format version, or holds another form.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"model file {path} does not exist")
    refuse_pointer(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file, or not a whole one: {error}") from error
    try:
        header = json.loads(metadata["model"])
        version = header["format_version"]
        if version != FORMAT_VERSION:
            raise InputError(f"{path} has format version {version!r}, supported is {FORMAT_VERSION}")
        if header["sha256"] != _digest(header, tensors):
            raise InputError(f"{path} is damaged or was edited: its SHA-256 is not the one in its header")
        form, info, program = header["form"], read_info(header["info"], path), header["program"]
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(f"{path} has no model header: no stage of this repository wrote it") from None
    if form not in forms:
        raise InputError(f"{path} holds a model in form {form!r}, expected {' or '.join(forms)}")
    check_weights(tensors, path)
    return StoredModel(form, tensors, info, program)


def read_info(values: Mapping[str, Any], path: str | Path) -> ModelInfo:
    """The description of a model, from the JSON values in a file.

    Raises:
        InputError: If a value is missing, of another type, or not possible; names the file.
    """
    try:
        info = ModelInfo(**values)
    except TypeError:
        raise InputError(f"{path} does not describe its model as this version does") from None
    numbers, names = (info.num_classes, info.image_size), info.class_names
    right = {
        "name": isinstance(info.name, str),
        "arguments": isinstance(info.arguments, dict),
        "num_classes and image_size": all(type(number) is int and number > 0 for number in numbers),
        "color_space": isinstance(info.color_space, str),
        "resample": isinstance(info.resample, str),
        "class_names": isinstance(names, list) and all(isinstance(name, str) for name in names),
        "normalization": info.normalization is None or _is_normalization(info.normalization),
    }
    if wrong := [what for what, is_right in right.items() if not is_right]:
        raise InputError(f"{path} describes a model with an impossible {wrong[0]}")
    if len(names) != info.num_classes:
        raise InputError(f"{path} has {len(names)} class names for {info.num_classes} classes")
    return info


def _is_normalization(values: object) -> bool:
    if not isinstance(values, dict) or values.keys() != {"mean", "std"}:
        return False
    triples = [each for each in values.values() if isinstance(each, list) and len(each) == 3]
    numbers = all(type(number) in (int, float) and abs(number) < inf for each in triples for number in each)
    return len(triples) == 2 and numbers and min(values["std"]) > 0


def check_weights(weights: object, path: str | Path) -> None:
    """Make sure that what a file holds are tensors by name, their values finite, and no variance below 0.

    Raises:
        InputError: If not; names the file, the first tensor, and the channel in it.
    """
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise InputError(f"{path} holds no weights by name")
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.dtype not in (*FLOATS, *INTEGERS):
            raise InputError(f"{path}: {name} is no dense tensor of real numbers")
        # aminmax keeps NaN, and is 20 times as fast as isfinite
        if tensor.dtype in FLOATS and tensor.numel() and not all(each.isfinite() for each in tensor.aminmax()):
            raise InputError(f"{path}: {name} holds values that are not finite{_first(~tensor.isfinite())}")
        if name.endswith("running_var") and (tensor < 0).any():
            raise InputError(f"{path}: {name} holds a variance below 0{_first(tensor < 0)}")


def _first(wrong: Tensor) -> str:
    """The first channel with a wrong value, for a message; nothing for a single number."""
    return f", first in channel {int(wrong.nonzero()[0, 0])}" if wrong.dim() else ""
