"""Weights from a file of timm, of torchvision or of this repository."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from timm.models import clean_state_dict, load_state_dict
from torch import Tensor, nn

from models.layers import find_layers
from models.normalization import Normalized
from storage import files
from storage.errors import InputError
from storage.model_file import check_weights, refuse_pointer


def load_weights(model: nn.Module, path: str | Path, sha256: str, new_layers: Sequence[str]) -> None:
    """Load a state dict into `model`, or into the network of a `Normalized` one.

    Args:
        path: A safetensors file, or a PyTorch file, which is read without running code in it. It may hold the state
            dict itself or a training checkpoint with one, in which averaged (EMA) weights are preferred.
        sha256: The SHA-256 of the file, in hexadecimal, so that no other file of that name is used.
        new_layers: Names of layers, such as "fc", that keep their current weights, whatever the file holds for them.

    Raises:
        FileNotFoundError: If the file does not exist.
        InputError: If the file is another one, cannot be read without running code, or does not fit the network; or
            if the network lacks one of `new_layers`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"train.init_from.file {path} does not exist")
    refuse_pointer(path)
    found = files.sha256(path)
    if found != sha256:
        raise InputError(f"train.init_from.file {path} has sha256 {found}, but train.init_from.sha256 is {sha256}")
    weights = _read(path)
    check_weights(weights, f"train.init_from.file {path}")
    network = model
    if isinstance(model, Normalized):
        network, weights = model.network, _of_network(weights, model, path)

    find_layers(model, new_layers, "train.init_from.new_layers")
    new = tuple(f"{name}." for name in new_layers)
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith(new)}
    expected = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(new)}
    if differences := _differences(expected, weights):
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        shown = "; ".join(differences[name] for name in sorted(differences)[:3])
        where = sorted({name.rpartition(".")[0] for name in differences})
        solved = len(where) <= 3 and set(where) <= {name for name, _ in network.named_modules() if name}
        hint = f"; train.init_from.new_layers [{', '.join(where)}] would leave what differs random" if solved else ""
        raise InputError(f"train.init_from.file {path} does not fit: {shown}{more}{hint}")
    network.load_state_dict(weights, strict=False)  # only the new layers are missing


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix != ".safetensors":
            with torch.serialization.safe_globals([Namespace]):  # in timm's checkpoints
                contents = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(contents, dict) and "scored" in contents:  # of this repository; its `model` is not averaged
                return clean_state_dict(contents["scored"])
        return load_state_dict(str(path), weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # the errors of PyTorch's reader have no common class
        reason = " ".join(str(error).split())
        raise InputError(f"train.init_from.file {path} cannot be read as weights: {reason[:200]}") from None


def _of_network(weights: dict[str, Tensor], model: Normalized, path: Path) -> dict[str, Tensor]:
    """The weights under their names in `model.network`; files of this repository also hold the normalization."""
    own = model.normalization.state_dict(prefix="normalization.")
    if not own.keys() <= weights.keys():
        return weights
    if not all(torch.equal(weights[name], own[name]) for name in own):
        raise InputError(f"train.init_from.file {path} was trained with another normalization than model.normalization")
    return {name.removeprefix("network."): tensor for name, tensor in weights.items() if name not in own}


def _differences(expected: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, str]:
    """Why weights do not fit the network, by the name of the tensor."""
    differences = {name: f"{name} is missing" for name in expected.keys() - found.keys()}
    differences |= {name: f"the network has no {name}" for name in found.keys() - expected.keys()}
    for name in expected.keys() & found.keys():
        if found[name].shape != expected[name].shape:
            differences[name] = f"{name} is {list(found[name].shape)} and not {list(expected[name].shape)}"
        elif expected[name].is_floating_point() and not found[name].is_floating_point():
            differences[name] = f"{name} is {found[name].dtype} and not {expected[name].dtype}"
    return differences
