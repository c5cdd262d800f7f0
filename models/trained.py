"""A network that was trained elsewhere, from its name and a file of weights."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from models.layouts import find_weights
from models.pretrained import ANOTHER, read_weights, take_weights
from models.registry import create_model
from storage.errors import InputError


class Trained(NamedTuple):
    """A network with its weights, in eval mode, the number of its classes, and a line that says what was taken."""

    network: nn.Module
    classes: int
    taken: str


def load_trained(
    name: str, path: str | Path, image_size: int, arguments: dict[str, Any], normalization: dict[str, Any] | None
) -> Trained:
    """The network `name` with the weights in a file; the number of classes is that of the file's last layer.

    Args:
        name: As in `models.registry.create_model`, and so are `image_size`, `arguments` and `normalization`.
        path: As in `models.pretrained.load_weights`.

    Raises:
        FileNotFoundError: If the file does not exist.
        InputError: If there is no such network, or the weights are not all of the network's and no others.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} is a folder" if path.is_dir() else f"there is no checkpoint {path}")
    what = f"checkpoint {path}"
    contents = read_weights(path, what)
    classes = _classes(contents, name, image_size, arguments, what)
    model = create_model(name, classes, image_size, arguments, normalization)
    taken = take_weights(model, contents, path, f"{what} (for {name})")
    return Trained(model.eval(), classes, taken)


def _classes(contents: Any, name: str, image_size: int, arguments: dict[str, Any], what: str) -> int:
    """The number of classes, by the shape of the first tensor whose shape the number decides.

    Raises:
        InputError: If no such tensor is among the weights.
    """
    two, three = (create_model(name, count, image_size, arguments).state_dict() for count in (2, 3))
    tensors = find_weights(contents, two, what).tensors
    for tensor, small in two.items():
        growth = [large - size for size, large in zip(small.shape, three[tensor].shape, strict=True)]
        axis = next((axis for axis, more in enumerate(growth) if more), None)
        if axis is not None and tensor in tensors and tensors[tensor].dim() == small.dim():
            count = 2 + (tensors[tensor].shape[axis] - small.shape[axis]) // growth[axis]
            if count < 2:
                raise InputError(f"{what} has a {tensor} for {count} class: two or more are needed")
            return count
    last = ", ".join(tensor for tensor, small in two.items() if small.shape != three[tensor].shape)
    raise InputError(
        f"{what} does not fit {name}: it has no {last or 'layer that the number of classes decides'}{ANOTHER}"
    )
