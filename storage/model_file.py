"""Model files: tensors in safetensors, everything else in one JSON header. Nothing is ever unpickled."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from storage.errors import InputError
from storage.files import whole_file

FORMAT_VERSION = 3


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
    """

    name: str
    arguments: dict
    num_classes: int
    image_size: int
    color_space: str
    class_names: list[str]
    normalization: dict[str, list[float]] | None = None


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
        tensors: the tensors by name, on any device.
        program: JSON values; the order of keys is not preserved.

    Raises:
        OSError: if the file cannot be written.
    """
    header = {"format_version": FORMAT_VERSION, "form": form, "info": asdict(info), "program": program}
    # One metadata entry, because safetensors writes several entries in an order that differs between processes.
    metadata = {"model": json.dumps(header, sort_keys=True, allow_nan=False)}
    contents = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    with whole_file(path, durable=True) as partial:
        partial.write_bytes(contents)


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
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path} has no model header: no stage of this repository wrote it") from None
    if version != FORMAT_VERSION:
        raise InputError(f"{path} has format version {version!r}, supported is {FORMAT_VERSION}")
    if header["form"] not in forms:
        raise InputError(f"{path} holds a model in form {header['form']!r}, expected {' or '.join(forms)}")
    return StoredModel(header["form"], tensors, ModelInfo(**header["info"]), header["program"])
