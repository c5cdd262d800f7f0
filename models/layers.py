"""Layers of a network by name."""

from collections.abc import Sequence
from difflib import get_close_matches

from torch import nn

from models.normalization import Normalized


def find_layers(model: nn.Module, names: Sequence[str], parameter: str) -> list[nn.Module]:
    """The named layers of a network, or of the network of a `Normalized` one, as "fc" or "stages.0".

    Args:
        parameter: Where the names come from, for messages.

    Raises:
        ValueError: Naming a layer that is not there or has no weights, with near matches.
    """
    network = model.network if isinstance(model, Normalized) else model
    layers = {name: module for name, module in network.named_modules() if name and module.state_dict()}
    for name in names:
        if name not in layers:
            near = ", ".join(get_close_matches(name, layers)) or "none"
            raise ValueError(f"{parameter}: the network has no layer {name!r}; near matches: {near}")
    return [layers[name] for name in names]
