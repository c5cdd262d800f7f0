"""Networks by name: those of this package, of timm and of torchvision, and the user's own."""

from difflib import get_close_matches
from typing import Any

import timm
import torchvision
from timm.models import is_model_in_modules
from torch import nn
from torchvision.models import get_model, list_models

from models import vargconvnet as vargconvnet  # its import registers VarGConvNet with timm
from models.normalization import Normalized
from models.own import build
from models.own_source import is_own
from storage.errors import InputError
from storage.printable import printable

TORCHVISION = "torchvision/"
OWN_NETWORK = "a network of your own is nets/mine.py:FUNCTION or PACKAGE.MODULE:FUNCTION"


def create_model(
    name: str, num_classes: int | None, image_size: int, arguments: dict, normalization: dict | None = None
) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: the name of a model of timm, "torchvision/" and the name of a model of torchvision, or the name
            of a network of the user's own, whose code runs (`models.own`).
        num_classes: number of logits; None for the model's own default.
        image_size: height and width of the input in pixels, which VarGConvNet checks against its stride.
        arguments: further arguments of the model's constructor.
        normalization: "mean" and "std", lists of three, that normalize the network's input, pixels in 0..1; None: the
            input is (p - 128) / 128 of pixels p.

    Raises:
        InputError: if the model is unknown (the message has near matches), or does not take the arguments.
    """
    network = build(name, num_classes, arguments) if is_own(name) else _known(name, num_classes, image_size, arguments)
    return Normalized(network, **normalization) if normalization else network


def _known(name: str, num_classes: int | None, image_size: int, arguments: dict[str, Any]) -> nn.Module:
    """A network of this package, of timm or of torchvision."""
    library, short = ("torchvision", name.removeprefix(TORCHVISION)) if name.startswith(TORCHVISION) else ("timm", name)
    known = list_models(module=torchvision.models) if library == "torchvision" else timm.list_models()
    if short not in known:
        near = ", ".join(get_close_matches(short, known)) or f"none; {OWN_NETWORK}"
        raise InputError(f"model {short!r} is not known to {library}; near matches: {near}")
    given: dict[str, Any] = {"num_classes": num_classes, "pretrained": False, "checkpoint_path": ""}
    if library == "torchvision":
        given = {"weights": None} | ({} if num_classes is None else {"num_classes": num_classes})
    elif is_model_in_modules(name, ["vargconvnet"]):
        given["img_size"] = image_size
    if clash := sorted(given.keys() & arguments.keys()):
        raise InputError(f"model {name}: {', '.join(clash)} cannot be among the arguments")
    try:
        return (get_model if library == "torchvision" else timm.create_model)(short, **given, **arguments)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # what wrong values make a network raise has no common class
        reason = printable(" ".join(f"{type(error).__name__} {error}".split()), 300)
        shown = printable(str(arguments), 300)
        raise InputError(f"model {name} does not take the arguments {shown}: {reason}") from error
