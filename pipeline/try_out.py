"""A network on its first images, before hours of training."""

import copy

import torch
from torch import Tensor, nn

from models.own import line_of
from models.own_source import is_own, locate
from pipeline.params import Params
from storage.errors import InputError
from storage.model_file import ModelInfo


def try_out(model: nn.Module, info: ModelInfo, params: Params) -> None:
    """Make sure that a network takes images of each size and gives logits, in training only if it is trained.

    Raises:
        InputError: If not; names the parameter that decides it.
    """
    sizes = {info.image_size: "input.size"}
    if params.epochs:
        sizes |= {size: "train.sizes" for size in (params.train.sizes or {}).values() if size not in sizes}
    for size, parameter in sizes.items():
        if params.epochs:
            _try_size(model, info, True, min(2, params.batch_size), parameter, size)
        _try_size(model, info, False, 2, parameter, size)


def _try_size(model: nn.Module, info: ModelInfo, training: bool, images: int, parameter: str, size: int) -> None:
    try:
        with torch.no_grad():
            logits = copy.deepcopy(model).train(training)(torch.zeros(images, 3, size, size))
    except MemoryError:
        raise
    except Exception as error:  # a network may raise anything, such as an IndexError or a bare AssertionError
        reason = str(error).partition("\n")[0] or type(error).__name__
        if images == 1 and training and "more than 1 value per channel" in reason:
            raise InputError(f"batch_size 1 is not allowed for {info.name}: BatchNorm needs two images") from None
        place = line_of(error, locate(info.name)) if is_own(info.name) else ""
        raise InputError(f"{info.name} does not take images of {parameter} {size}: {reason}{place}") from None
    if not isinstance(logits, Tensor) or logits.shape != (images, info.num_classes):
        given = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        when = "in training" if training else "in evaluation"
        raise InputError(
            f"{info.name} gives {given} {when}, not logits [images, {info.num_classes}]: see model.arguments"
        )
