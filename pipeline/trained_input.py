"""What a network that was trained elsewhere sees of an image: from options, or from what its library publishes."""

import argparse
from typing import Any

from models.own_source import is_own
from models.published import FILTERS, Published, published, without_tag
from models.registry import create_model
from pipeline.framing import resize_for
from pipeline.params import Params, check_params
from pipeline.yaml_file import parse_yaml
from storage.errors import InputError

ANY_SIZE = 224  # of which every network can be made


def trained_input(params: Params, given: argparse.Namespace) -> tuple[Params, list[str]]:
    """The parameters `input`, `model` and `calibrate` for the options of tools/quantize.py.

    Returns:
        All parameters with these in place, and a line for each of them that says where it is from.

    Raises:
        InputError: If an option is not allowed, or one is missing for a network of which nothing is published.
    """
    known = published(given.model)
    lacking = [option for option in ("size", "normalization") if getattr(given, option) is None]
    if known is None and lacking:
        if not is_own(given.model):
            create_model(without_tag(given.model), None, ANY_SIZE, {})  # its message says more of an unknown name
        raise InputError(
            f"nothing is published on how images are prepared for {given.model}: add "
            f"{' and '.join(f'--{option}' for option in lacking)}, as in its training"
        )
    size, of_size = (known.size, known.source) if known and given.size is None else (given.size, "--size")
    found: dict[str, tuple[Any, str]] = {
        "model.name": (without_tag(given.model), ""),
        "model.normalization": _normalization(given.normalization, known),
        "input.size": (size, of_size),
        "input.resize": _resize(given.resize, size, known),
        "input.resample": _resample(given.resample, known),
        "input.color_space": (given.color_space, "--color-space") if given.color_space else ("rgb", "unless stated"),
    }
    values = params.model_dump(mode="json")
    values["model"] |= {"num_classes": None, "arguments": parse_yaml(given.arguments, "--arguments") or {}}
    for option in ("images", "arithmetic", "reconstruction"):
        if (value := getattr(given, option)) is not None:
            values["calibrate"][option] = value
    if values["calibrate"]["arithmetic"] == "portable":
        values["calibrate"]["weight_bits"] = 8
    for name, (value, _) in found.items():
        block, key = name.split(".")
        values[block][key] = value
    said = [f"{name}: {value}" + (f"  ({where})" if where else "") for name, (value, where) in found.items()]
    return check_params(values, "the options"), said


def _normalization(option: str | None, known: Published | None) -> tuple[dict[str, list[float]] | None, str]:
    if option == "none":
        return None, "--normalization none: (p - 128) / 128"
    if option is None:
        assert known is not None
        return {"mean": [*known.mean], "std": [*known.std]}, known.source
    try:
        mean, std = ([float(number) for number in part.split(",")] for part in option.split("/"))
    except ValueError:
        raise InputError(
            f"--normalization {option} is not allowed, must be as 0.485,0.456,0.406/0.229,0.224,0.225, or none"
        ) from None
    return {"mean": mean, "std": std}, "--normalization"


def _resize(option: int | None, size: int, known: Published | None) -> tuple[int, str]:
    if option is not None:
        return option, "--resize"
    if known is None:
        return size, "as the size: the whole short side"
    return resize_for(size, known.crop), f"size / {known.crop:g}, the crop of {known.source}"


def _resample(option: str | None, known: Published | None) -> tuple[str, str]:
    if option is not None:
        return option, "--resample"
    if known is None:
        return FILTERS[0], "unless stated"
    if known.resample == known.filter:
        return known.filter, known.source
    return known.filter, f"in the place of {known.resample} of {known.source}"
