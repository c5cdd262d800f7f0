"""Weights from a file of timm, of torchvision or of this repository."""

import hashlib
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from timm.models import clean_state_dict, load_state_dict
from torch import Tensor, nn

from models.layers import find_layers
from models.normalization import Normalized
from storage.model_file import refuse_pointer


def load_weights(model: nn.Module, path: str | Path, sha256: str, new_layers: Sequence[str]) -> None:
    """Load a state dict into `model`, or into the network of a `Normalized` one.

    Args:
        path: A safetensors file, or a PyTorch file, which is read without running any code in it. It may hold the state
            dict itself or a training checkpoint with one; averaged (EMA) weights in it are preferred.
        sha256: Of the file, in hexadecimal: another file of that name is not taken for it.
        new_layers: Names of layers, such as "fc", that keep the weights they have; the file may lack them or hold
            others.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another file, cannot be read without running code, or does not fit the network; or if the
            network has no such layer.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"train.init_from.file {path} does not exist")
    refuse_pointer(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"train.init_from.file {path} has sha256 {found}, but train.init_from.sha256 is {sha256}")
    weights = _read(path)
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
        raise ValueError(f"train.init_from.file {path} does not fit: {shown}{more}{hint}")
    network.load_state_dict(weights, strict=False)  # the new layers alone are missing


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix != ".safetensors":
            with torch.serialization.safe_globals([Namespace]):  # of timm's checkpoints
                contents = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(contents, dict) and "kept" in contents:  # this repository's, where `model` is not averaged
                return clean_state_dict(contents["kept"])
        return load_state_dict(str(path), weights_only=True)
    except Exception as error:  # what a file of anything else makes PyTorch's reader raise has no common class
        reason = " ".join(str(error).split())
        raise ValueError(f"train.init_from.file {path} cannot be read as weights: {reason[:200]}") from None


def _of_network(weights: dict[str, Tensor], model: Normalized, path: Path) -> dict[str, Tensor]:
    """The weights as the network inside `model` names them; files of this repository also hold the normalization."""
    own = model.normalization.state_dict(prefix="normalization.")
    if not own.keys() <= weights.keys():
        return weights
    if not all(torch.equal(weights[name], own[name]) for name in own):
        raise ValueError(f"train.init_from.file {path} was trained with another normalization than model.normalization")
    return {name.removeprefix("network."): tensor for name, tensor in weights.items() if name not in own}


def _differences(expected: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, str]:
    """What keeps weights from fitting, by the name of the tensor."""
    differences = {name: f"{name} is missing" for name in expected.keys() - found.keys()}
    differences |= {name: f"{name} is not of the network" for name in found.keys() - expected.keys()}
    for name in expected.keys() & found.keys():
        if found[name].shape != expected[name].shape:
            differences[name] = f"{name} is {list(found[name].shape)} and not {list(expected[name].shape)}"
    return differences
