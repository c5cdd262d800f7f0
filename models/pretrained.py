"""Weights from a file of timm or torchvision."""

import hashlib
from pathlib import Path

from timm.models import load_state_dict
from torch import nn

from models.normalization import Normalized
from models.storage import refuse_pointer


def load_weights(model: nn.Module, path: str | Path, sha256: str) -> None:
    """Load a state dict into `model`, or into the network of a `Normalized` one.

    Args:
        path: A safetensors file, or a PyTorch file, which is read without running any code in it. It may hold the state
            dict itself or a training checkpoint with one; averaged (EMA) weights in it are preferred.
        sha256: Of the file, in hexadecimal: another file of that name is not taken for it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is another file, cannot be read without running code, or does not fit the network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"model.checkpoint {path} does not exist")
    refuse_pointer(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"model.checkpoint {path} has sha256 {found}, but model.checkpoint_sha256 is {sha256}")
    network = model.network if isinstance(model, Normalized) else model
    try:
        weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # what a file of anything else makes PyTorch's reader raise has no common class
        reason = " ".join(str(error).split())
        raise ValueError(f"model.checkpoint {path} cannot be read as weights: {reason[:200]}") from None
    expected = network.state_dict()
    differences = [
        *(f"{name} is missing" for name in expected.keys() - weights.keys()),
        *(f"{name} is not of the network" for name in weights.keys() - expected.keys()),
        *(
            f"{name} is {list(weights[name].shape)} and not {list(expected[name].shape)}"
            for name in expected.keys() & weights.keys()
            if weights[name].shape != expected[name].shape
        ),
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(f"model.checkpoint {path} does not fit: {'; '.join(sorted(differences)[:3])}{more}")
    network.load_state_dict(weights)
