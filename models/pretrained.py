"""Weights to start from: a file of timm, of torchvision, of a common trainer or of this repository."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.layers import find_layers
from models.layouts import Weights, find_weights
from models.normalization import Normalized
from models.weights_file import read_contents
from storage import files
from storage.errors import InputError
from storage.model_file import check_weights
from storage.printable import printable

ANOTHER = "; the network must be the one that was saved, with its arguments"


def load_weights(model: nn.Module, path: str | Path, sha256: str, new_layers: Sequence[str]) -> str:
    """Load weights into `model`, or into the network of a `Normalized` one.

    Args:
        path: A safetensors file, or a PyTorch file, which is read without running code in it. It may hold the state
            dict itself or a training checkpoint with one (`models.layouts`), in which averaged (EMA) weights are
            preferred.
        sha256: The SHA-256 of the file, in hexadecimal, so that no other file of that name is used.
        new_layers: Names of layers, such as "fc", that keep their current weights, whatever the file holds for them.

    Returns:
        A line that says which of the file's weights were taken.

    Raises:
        FileNotFoundError: If the file does not exist.
        InputError: If the file is another one, cannot be read without running code, does not fit the network, or
            holds several weights that do; or if the network lacks one of `new_layers`.
    """
    path = Path(path)
    what = f"train.init_from.file {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{what} is a folder" if path.is_dir() else f"{what} does not exist")
    found = files.sha256(path)
    if found != sha256:
        raise InputError(
            f"{what} has sha256 {found}, but train.init_from.sha256 is {sha256}: set it, if you mean this file"
        )
    return take_weights(model, read_weights(path, what), path, what, new_layers)


def read_weights(path: Path, what: str) -> Any:
    """The contents of a file; of a checkpoint of this repository the weights that are scored, which may be averaged.

    Raises:
        InputError: As `models.weights_file.read_contents`.
    """
    contents = read_contents(path, what)
    return {"scored": contents["scored"]} if isinstance(contents, dict) and "scored" in contents else contents


def take_weights(
    model: nn.Module, contents: Any, path: Path, what: str, new_layers: Sequence[str] | None = None
) -> str:
    """Load the weights among the contents of a file into `model`, or into the network of a `Normalized` one.

    Args:
        contents: The result of `read_weights`.
        path: The file, for the line that is returned.
        what: The file's name in messages.
        new_layers: As in `load_weights`; None: there is no such parameter, and messages do not speak of it.

    Returns:
        A line that says which of the file's weights were taken.

    Raises:
        InputError: As `load_weights`.
    """
    network = model.network if isinstance(model, Normalized) else model
    expected = dict(network.state_dict(keep_vars=True))
    weights = find_weights(contents, expected, what)
    check_weights(weights.tensors, what)
    passed_over = ", ".join(_without_normalization(weights, model, what))

    find_layers(model, new_layers or (), "train.init_from.new_layers")
    new = tuple(f"{name}." for name in new_layers or ())
    tensors = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith(new)}
    expected = {name: tensor for name, tensor in expected.items() if not name.startswith(new)}
    if differences := _differences(expected, tensors):
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        shown = "; ".join(differences[name] for name in sorted(differences)[:3])
        where = sorted({name.rpartition(".")[0] for name in differences})
        solved = len(where) <= 3 and set(where) <= {name for name, _ in network.named_modules() if name}
        hint = f"; train.init_from.new_layers [{', '.join(where)}] would leave what differs random" if solved else ""
        raise InputError(f"{what} does not fit: {shown}{more}{ANOTHER if new_layers is None else hint}")
    network.load_state_dict(tensors, strict=False)  # only the new layers are missing
    left = f"; passed over: {printable(passed_over, 100)}" if passed_over else ""
    return f"{len(tensors)} tensors from {path}, {weights.name}{left}"


def _without_normalization(weights: Weights, model: nn.Module, what: str) -> list[str]:
    """The names that were passed over, without those of an equal normalization in a file of this repository."""
    before = f"{weights.prefix.removesuffix('network.')}normalization."
    theirs = {name.removeprefix(before): value for name, value in weights.left.items() if name.startswith(before)}
    if not weights.prefix.endswith("network.") or theirs.keys() != {"mean", "std"}:
        return [*weights.left]
    own = model.normalization.state_dict() if isinstance(model, Normalized) else {}
    if own.keys() != theirs.keys() or not all(torch.equal(theirs[name], own[name]) for name in own):
        raise InputError(f"{what} does not fit: it was trained with another normalization than model.normalization")
    return [name for name in weights.left if not name.startswith(before)]


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, str]:
    """Why weights do not fit the network, by the name of the tensor.

    A tensor with several names needs one of them. BatchNorm's counts, which old files do not have, may be missing.
    """
    names = defaultdict(list)
    for name, tensor in expected.items():
        names[id(tensor)].append(name)
    missing = {name for same in names.values() if not found.keys() & {*same} for name in same}
    differences = {name: f"{name} is missing" for name in missing if not name.endswith("num_batches_tracked")}
    differences |= {name: f"the network has no {name}" for name in found.keys() - expected.keys()}
    for name in expected.keys() & found.keys():
        first = next(other for other in names[id(expected[name])] if other in found)
        if found[name].shape != expected[name].shape:
            differences[name] = f"{name} is {list(found[name].shape)} and not {list(expected[name].shape)}"
        elif expected[name].is_floating_point() and not found[name].is_floating_point():
            differences[name] = f"{name} is {found[name].dtype} and not {expected[name].dtype}"
        elif first != name and not torch.equal(found[name], found[first]):
            differences[name] = f"{name} is not {first}, which it is in the network"
    return differences
