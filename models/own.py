"""Functions of the user's own in a file or a module, such as nets/mine.py:build, which makes a network."""

import importlib.util
import sys
from collections.abc import Callable
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from models.own_source import Source, locate, split_name
from storage.errors import InputError
from storage.printable import printable


def build(name: str, num_classes: int | None, arguments: dict[str, Any]) -> nn.Module:
    """Call the user's function as `function(num_classes=num_classes, **arguments)`; None: without num_classes.

    Raises:
        InputError: If the file, the module or the function does not exist or raises an error, or what it gives is no
            network with weights; the message names the line of the user's code.
    """
    if "num_classes" in arguments:
        raise InputError(f"model.name {name}: num_classes cannot be among model.arguments, model.num_classes gives it")
    function = split_name(name)[1]
    make, source = load_function(name, "model.name")
    given = ({} if num_classes is None else {"num_classes": num_classes}) | arguments
    call = f"{function}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
    network = run_own(lambda: make(**given), f"model.name {name}: {printable(call, 300)}", source)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"model.name {name}: {printable(call, 300)} gives {_kind(network)}, must give a torch.nn.Module"
        )
    network = network.module if isinstance(network, nn.DataParallel) else getattr(network, "_orig_mod", network)
    values = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    if empty := [key for key, each in values.items() if is_lazy(each) or each.is_meta]:
        raise InputError(f"model.name {name}: {empty[0]} has no size or no values yet, as in lazy layers: give it them")
    if not any(True for _ in network.parameters()):
        raise InputError(f"model.name {name}: the network has no weights")
    return network.cpu()


def load_function(name: str, parameter: str) -> tuple[Callable[..., Any], Source]:
    """A function of the user's own, and where its code is, which runs.

    Args:
        name: A name for which `models.own_source.is_own` is true.
        parameter: The parameter that has it, for messages.

    Raises:
        InputError: If there is no such function, or the import of its module raises an error.
    """
    source, what = locate(name, parameter), f"{parameter} {name}"
    return _function(_load(source, what), split_name(name)[1], what), source


def _load(source: Source, what: str) -> ModuleType:
    if str(source.root) not in sys.path:
        sys.path.append(str(source.root))
    importlib.invalidate_caches()
    module = run_own(lambda: _imported(source), f"{what}: the import of {source.file.name}", source)
    if Path(module.__file__ or "").resolve() != source.file:
        raise InputError(f"{what}: the name {source.module} is also that of {module.__file__}: rename yours")
    return module


def _imported(source: Source) -> ModuleType:
    if source.module:
        return importlib.import_module(source.module)
    spec = importlib.util.spec_from_file_location(f"own_{source.file.stem}", source.file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def _function(module: ModuleType, function: str, what: str) -> Callable[..., Any]:
    try:
        found = attrgetter(function)(module)
    except AttributeError:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = ", ".join(get_close_matches(function, known) or known[:5]) or "nothing that can be called"
        raise InputError(f"{what}: there is no {function}; there is: {near}") from None
    if not callable(found) or isinstance(found, nn.Module):
        raise InputError(f"{what}: {function} is {_kind(found)}, must be a function")
    return found


def run_own(code: Callable[[], Any], what: str, source: Source) -> Any:
    """The result of the user's code; what it raises is one line that begins with `what`."""
    try:
        return code()
    except (InputError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # it may raise anything
        reason = printable(" ".join(f"{type(error).__name__} {error}".split()), 300)
        raise InputError(f"{what} raises {reason}{line_of(error, source)}{_clash(error, source)}") from error


def line_of(error: BaseException, source: Source) -> str:
    """The last line of the user's code that an error passed through."""
    place, trace = "", error.__traceback__
    while trace:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(source.root):
            place = f" ({file.relative_to(source.root)}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place


def _clash(error: BaseException, source: Source) -> str:
    """What to do if a name beside the user's file is taken by another package."""
    top = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if not top or not any((source.root / each).exists() for each in (top, f"{top}.py")):
        return ""
    return (
        f"; the name {top} is also that of {getattr(sys.modules.get(top), '__file__', 'another module')}: rename yours"
    )


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
