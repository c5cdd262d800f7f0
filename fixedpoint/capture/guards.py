"""What is asked of a network before it is captured, and what PyTorch says of it in one line."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fixedpoint.capture.exported import first_line
from fixedpoint.errors import QuantizationError

RUNS_DIFFER = "two runs of the network in eval mode differ"
RANDOM = f"{RUNS_DIFFER}: it draws random numbers"


@contextmanager
def in_one_line(module: nn.Module, input_shape: tuple[int, int, int]) -> Iterator[None]:
    """Whatever `module` or torch.export raises becomes a QuantizationError of one line; its log is silent."""
    running: list[str] = []

    def ends(*_: object) -> None:
        running.pop()

    hooks = []
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for name, each in module.named_modules():
            hooks.append(each.register_forward_hook(ends))
            hooks.append(each.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        yield
    except (MemoryError, QuantizationError):
        raise
    except Exception as error:  # what a network can make PyTorch raise has no common class
        sizes, where = ", ".join(map(str, input_shape)), f" in {running[-1]}" if running and running[-1] else ""
        raise QuantizationError(
            f"the network cannot be captured for inputs [batch, {sizes}]{where}: {_reason(error)}{other_types(module)}"
        ) from error
    finally:
        logging.disable(level)
        for hook in hooks:
            hook.remove()


def other_types(module: nn.Module) -> str:
    """What to do about tensors of another floating type than that of the images."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    types = {name: value.dtype for name, value in tensors.items() if value.is_floating_point()}
    others = [f"{name} is {str(dtype).removeprefix('torch.')}" for name, dtype in types.items() if dtype != torch.float]
    return f"; {others[0]}: call .float() first" if others else ""


def _reason(error: Exception) -> str:
    if type(error).__name__ != "GuardOnDataDependentSymNode":  # its import takes long
        return first_line(error)
    found = re.search(r'The following call raised this error:\s+File "(.*)", line (\d+).*\n\s*(.*)', str(error))
    line = f" (`{found[3].strip()}`, {Path(found[1]).name}:{found[2]})" if found else ""
    return f"what it computes next, or a number in it, depends on the values of the image{line}"


def without_not_finite(module: nn.Module) -> str:
    """Make NaN and infinite numbers of a module zeros, so that all else can be looked at.

    Returns:
        What holds them, naming one tensor; empty if nothing does.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    for name in bad:
        tensors[name].nan_to_num_(0.0, 0.0, 0.0)
    more = f", and so do {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"the network's tensor {bad[0]} holds NaN or infinite numbers{more}" if bad else ""


def check_copyable(module: nn.Module) -> None:
    """Refuse tensors that a hook has computed from others, as the old weight_norm does, which cannot be copied."""
    for path, each in module.named_modules():
        for key, value in vars(each).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                raise QuantizationError(
                    f"the network's tensor {path}.{key} is computed outside of forward, as by the old weight_norm: "
                    "call torch.nn.utils.remove_weight_norm or remove_spectral_norm first"
                )


def two_outputs(module: nn.Module, x: Tensor) -> tuple[Any, str]:
    """The network's output for `x`, and what is wrong with it: nothing if a second run gives the same, bit for bit.

    Raises:
        QuantizationError: If the output is no tensor, and no dict, list or tuple of any.
    """
    before = _state(module)
    first, second = module(x.clone()), module(x.clone())
    if not isinstance(first, Tensor):
        parts = f" of {', '.join(map(str, first))}" if isinstance(first, Mapping) else ""
        kind = type(first).__name__
        fault = f"the network must give one tensor of logits, not a {kind}{parts}: pick one in forward"
        entries = first.values() if isinstance(first, Mapping) else first if isinstance(first, list | tuple) else ()
        if type(first) in (dict, list, tuple) and any(isinstance(each, Tensor) for each in entries):
            return first, fault
        raise QuantizationError(fault)
    if not first.isfinite().all():
        return first, "the network gives infinite numbers or NaN for numbers from -1 to 1"
    if torch.equal(first, second):
        return first, ""
    changed = [name for name, value in _state(module).items() if not _equal(before.get(name), value)]
    return first, f"{RUNS_DIFFER}: {changed[0]} changes" if changed else RANDOM


def _state(module: nn.Module) -> dict[str, object]:
    """The tensors and plain attributes of a module and those in it."""
    state: dict[str, object] = {name: value.clone() for name, value in module.state_dict().items()}
    for path, each in module.named_modules():
        plain = {key: value for key, value in vars(each).items() if isinstance(value, int | float | str)}
        state |= {f"{path}.{key}".removeprefix("."): value for key, value in plain.items()}
    return state


def _equal(left: object, right: object) -> bool:
    return torch.equal(left, right) if isinstance(left, Tensor) and isinstance(right, Tensor) else left == right
