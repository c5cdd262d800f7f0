"""Networks by name: those of this package and every other one that timm knows."""

from difflib import get_close_matches

import timm
from timm.models import is_model_in_modules
from torch import nn

from models import vargconvnet as vargconvnet  # its import registers VarGConvNet with timm


def create_model(name: str, num_classes: int | None, image_size: int, arguments: dict) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: a model of timm's registry.
        num_classes: number of logits; None for the model's own default.
        image_size: height and width of the input in pixels, which VarGConvNet checks against its stride.
        arguments: further arguments of the model's constructor.

    Raises:
        ValueError: naming an unknown model with its near matches, or the argument that the model does not take.
    """
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models())
        raise ValueError(f"model {name!r} is not known to timm; near matches: {', '.join(near) or 'none'}")
    given = {"num_classes": num_classes, "pretrained": False, "checkpoint_path": ""}
    if is_model_in_modules(name, ["vargconvnet"]):
        given["img_size"] = image_size
    if clash := sorted(given.keys() & arguments.keys()):
        raise ValueError(f"model {name}: {', '.join(clash)} cannot be among the arguments")
    try:
        return timm.create_model(name, **given, **arguments)
    except TypeError as error:
        raise ValueError(f"model {name} does not take the arguments {arguments}: {error}") from error
