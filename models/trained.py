"""A network that was trained elsewhere, from its name and a file of weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from models.layouts import find_weights
from models.pretrained import ANOTHER, read_weights, take_weights
from models.registry import create_model
from storage.errors import InputError
from storage.model_file import ModelInfo, read_info


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
    path, what = Path(path), f"checkpoint {path}"
    contents = _contents(path)
    sizes = _by_classes(name, image_size, arguments)
    classes = _classes(find_weights(contents, sizes.two, what).tensors, sizes, what)
    if classes is None:
        last = ", ".join(sizes.growth) or "layer that the number of classes decides"
        raise InputError(f"{what} does not fit {name}: it has no {last}{ANOTHER}")
    model = create_model(name, classes, image_size, arguments, normalization)
    taken = take_weights(model, contents, path, f"{what} (for {name})")
    return Trained(model.eval(), classes, taken)


class Start(NamedTuple):
    """Weights that a network for other classes can start from.

    Attributes:
        classes: The number of classes that they are for; None: they have no last layer.
        last: The layers that the number of classes decides.
    """

    classes: int | None
    last: list[str]


def find_start(name: str, path: str | Path, image_size: int, arguments: dict[str, Any]) -> Start:
    """How the weights in a file fit the network `name`, whatever their number of classes.

    Args:
        name: As in `models.registry.create_model`, and so are `image_size` and `arguments`.
        path: As in `models.pretrained.load_weights`.

    Raises:
        FileNotFoundError: If the file does not exist.
        InputError: If there is no such network, or the weights of its other layers are not all there.
    """
    path, what = Path(path), f"checkpoint {path}"
    contents = _contents(path)
    sizes = _by_classes(name, image_size, arguments)
    last = sorted({tensor.rpartition(".")[0] for tensor in sizes.growth})
    take_weights(create_model(name, 2, image_size, arguments), contents, path, f"{what} (for {name})", last)
    return Start(_classes(find_weights(contents, sizes.two, what).tensors, sizes, what), last)


def described(path: str | Path) -> ModelInfo | None:
    """What a model file of this repository says of its network and images; None of any other file.

    Raises:
        FileNotFoundError: If there is no such file.
        InputError: If it is a model file, and says what cannot be.
    """
    _require(Path(path))
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads((file.metadata() or {})["model"])["info"]
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
    return read_info(values, path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} is a folder" if path.is_dir() else f"there is no checkpoint {path}")


def _contents(path: Path) -> Any:
    _require(path)
    return read_weights(path, f"checkpoint {path}")


class _Sizes(NamedTuple):
    """The tensors of a network for two classes, and of those that grow with the classes the axis and by how much."""

    two: dict[str, Tensor]
    growth: dict[str, tuple[int, int]]


def _by_classes(name: str, image_size: int, arguments: dict[str, Any]) -> _Sizes:
    two, three = (create_model(name, count, image_size, arguments).state_dict() for count in (2, 3))
    growth = {
        tensor: (axis, large - size)
        for tensor, small in two.items()
        for axis, (size, large) in enumerate(zip(small.shape, three[tensor].shape, strict=True))
        if large != size
    }
    return _Sizes(two, growth)


def _classes(tensors: Mapping[str, Tensor], sizes: _Sizes, what: str) -> int | None:
    """The number of classes, by the shape of the first tensor whose shape the number decides; None without one.

    Raises:
        InputError: If it is below two.
    """
    for tensor, (axis, more) in sizes.growth.items():
        if tensor in tensors and tensors[tensor].dim() == sizes.two[tensor].dim():
            count = 2 + (tensors[tensor].shape[axis] - sizes.two[tensor].shape[axis]) // more
            if count < 2:
                raise InputError(f"{what} has a {tensor} for {count} class: two or more are needed")
            return count
    return None
