"""Networks by name: those of this package, of timm and of torchvision, and the user's own."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

from torch import nn

from models.normalization import Normalized
from models.own import build
from models.own_source import is_own
from models.vargconvnet import VARGCONVNETS
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
    """A network of this package, of timm or of torchvision, whose imports take a second or two."""
    make: Callable[..., nn.Module]
    given: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if name in VARGCONVNETS:
        make, given = VARGCONVNETS[name], given | {"img_size": image_size}
    elif name.startswith(TORCHVISION):
        make, given = _of_torchvision(name.removeprefix(TORCHVISION)), given | {"weights": None}
    else:
        make, given = _of_timm(name), given | {"pretrained": False, "checkpoint_path": ""}
    if clash := sorted(given.keys() & arguments.keys()):
        raise InputError(f"model {name}: {', '.join(clash)} cannot be among the arguments")
    try:
        return make(**given, **arguments)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # what wrong values make a network raise has no common class
        reason = printable(" ".join(f"{type(error).__name__} {error}".split()), 300)
        shown = printable(str(arguments), 300)
        raise InputError(f"model {name} does not take the arguments (model.arguments) {shown}: {reason}") from error


def _of_timm(name: str) -> Callable[..., nn.Module]:
    import timm

    _refuse_unknown(name, [*VARGCONVNETS, *timm.list_models()], "timm")
    return partial(timm.create_model, name)


def _of_torchvision(name: str) -> Callable[..., nn.Module]:
    import torchvision

    _refuse_unknown(name, torchvision.models.list_models(module=torchvision.models), "torchvision")
    return partial(torchvision.models.get_model, name)


def _refuse_unknown(name: str, known: list[str], library: str) -> None:
    if name not in known:
        near = ", ".join(get_close_matches(name, known)) or f"none; {OWN_NETWORK}"
        raise InputError(f"model {name!r} is not known to {library}; near matches: {near}")
