"""What a file of weights holds: safetensors, or a PyTorch file, of which no code is run."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from storage.errors import InputError
from storage.model_file import refuse_pointer

SAVE = "save its weights alone where it was made, torch.save(model.state_dict(), FILE)"


def read_contents(path: Path, what: str) -> Any:
    """The contents of a file: dictionaries, lists, numbers, texts and tensors, on the CPU.

    Objects of other classes, such as the settings and callbacks that trainers store beside the weights, become empty
    dictionaries: their code is not run, and what they hold is not read.

    Args:
        what: The file's name in messages.

    Raises:
        InputError: If it is no file of weights, is itself an object of another class, such as a network, or names a
            function of Python, which has no place in a file of weights.
    """
    refuse_pointer(path)
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if path.suffix == ".safetensors" or head[8:] == b"{":
            return load_file(path)
        foreign = get_unsafe_globals_in_checkpoint(path) if head.startswith(b"PK") else ["argparse.Namespace"]
        if functions := sorted(name for name in foreign if name.startswith("builtins.")):
            raise InputError(f"{what} cannot be read as weights: it calls {', '.join(functions)}; {SAVE}")
        with safe_globals([(_stand_in(name), name) for name in foreign]):
            contents = torch.load(path, map_location="cpu", weights_only=True)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # the errors of PyTorch's reader have no common class
        reason = " ".join(str(error).split()) or type(error).__name__
        if not head or "failed reading zip archive" in reason:
            raise InputError(f"{what} cannot be read as weights: it is cut off or damaged; copy it again") from None
        # PyTorch goes on with advice to run the code in it; a KeyError has a number that is none of pickle's
        if reason.startswith("Weights only load failed") or isinstance(error, KeyError):
            reason = "it is neither safetensors nor a dictionary of tensors in PyTorch's format"
        raise InputError(f"{what} cannot be read as weights: {reason[:200]}; {SAVE}") from None
    if name := class_of(contents):
        raise InputError(f"{what} is a {name}, which only its own code can read: {SAVE}")
    return contents


def class_of(value: object) -> str | None:
    """The name of the class that an empty dictionary of `read_contents` stands for; None for other values."""
    return getattr(value, "stands_for", None) if isinstance(value, OrderedDict) else None


def _stand_in(name: str) -> type:
    """A class in place of another: its objects are empty dictionaries that know the other's name, NumPy's are nothing.

    PyTorch's reader gives items to dictionaries alone, and a state of NumPy's form to none of them.
    """

    def empty(cls: type, *args: object, **named: object) -> OrderedDict:
        made: Any = OrderedDict()
        made.stands_for = name
        return made

    inside = {"__init__": _pass_over, "__setstate__": _pass_over} if name.startswith("numpy.") else {"__new__": empty}
    return type("StandIn", (), inside)


def _pass_over(self: object, *args: object) -> None:
    pass
