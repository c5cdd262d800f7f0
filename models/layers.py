"""The layers of a network by name."""

from collections.abc import Sequence
from difflib import get_close_matches

from torch import nn

from models.normalization import Normalized
from storage.errors import InputError


def find_layers(model: nn.Module, names: Sequence[str], parameter: str) -> list[nn.Module]:
    """The layers with the given names, such as "fc" or "stages.0", in a network or in that of a `Normalized` one.

    Args:
        parameter: The parameter that holds the names, for messages.

    Raises:
        InputError: If a layer does not exist or has no weights; the message has near matches.
    """
    network = model.network if isinstance(model, Normalized) else model
    named = network.named_modules(remove_duplicate=False)  # a layer may have several names
    layers = {name: module for name, module in named if name and module.state_dict()}
    for name in names:
        if name not in layers:
            near = ", ".join(get_close_matches(name, layers)) or "none"
            raise InputError(f"{parameter}: the network has no layer {name!r}; near matches: {near}")
    return [layers[name] for name in names]
