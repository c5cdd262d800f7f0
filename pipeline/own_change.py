"""The change of training pixels that `augment.extra` names, code of the user's own."""

import torch
from torch import Tensor

from models.own import load_function, run_own
from models.own_source import is_own
from pixels.extra import Change
from storage.errors import InputError


def own_change(name: str | None, parameter: str) -> Change | None:
    """The function `name` as a change; what it raises, or gives that is no pixels, is one line. None for no name.

    Args:
        name: As nets/mine.py:noise.
        parameter: The parameter that has it, for messages.

    Raises:
        InputError: If there is no such function.
    """
    if name is None:
        return None
    if not is_own(name):
        raise InputError(f"{parameter} {name} is not allowed, must be FILE.py:FUNCTION, such as nets/mine.py:noise")
    function, source = load_function(name, parameter)

    def change(pixels: Tensor, generator: torch.Generator) -> Tensor:
        shape = pixels.shape
        changed = run_own(lambda: function(pixels, generator), f"{parameter} {name}", source)
        if not isinstance(changed, Tensor) or changed.dtype != torch.uint8 or changed.shape != shape:
            given = f"{changed.dtype} {list(changed.shape)}" if isinstance(changed, Tensor) else type(changed).__name__
            raise InputError(f"{parameter} {name} gives {given}, must give a tensor of torch.uint8 {list(shape)}")
        return changed

    return change
