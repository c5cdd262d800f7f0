"""Trained weights that a network can start from for new images."""

from pathlib import Path
from typing import Any

from models.published import published
from models.registry import create_model
from models.trained import described, find_start
from pipeline.framing import USUAL
from pipeline.quantizable import arithmetic_for
from pipeline.survey import Choice, Prepared, Weights
from pipeline.trained_input import ANY_SIZE
from storage.errors import InputError


def weights_for(model: dict[str, Any], tagged: str, file: Path, size: int | None) -> Weights:
    """The weights in `file`, which must be those of a network but for its last layer.

    Args:
        model: The parameters `model`.
        tagged: Its name, with the tag of the weights if it has one, as resnet18.a1_in1k has.
        size: The side of the input; None: that of their training.

    Raises:
        FileNotFoundError: If there is no such file.
        InputError: If they are another network's, or nobody says how its images were prepared.
    """
    prepared = _prepared(model, tagged, file, size)
    start = find_start(model["name"], file, size or prepared.size, model["arguments"])
    return Weights(file, start.classes, start.last, prepared)


def network_in(file: Path) -> dict[str, Any]:
    """The name and the arguments of the network in a model file of this repository.

    Raises:
        InputError: If the file is no such one.
    """
    if not (info := described(file)):
        raise InputError(f"{file} does not say of which network it is: add NETWORK, e.g. NETWORK=resnet18")
    return {"name": info.name, "arguments": info.arguments}


def _prepared(model: dict[str, Any], tagged: str, file: Path, size: int | None) -> Prepared:
    name = model["name"]
    if info := described(file):
        return Prepared(str(file), info.image_size, USUAL, info.resample, info.color_space, info.normalization)
    if known := published(tagged):
        normalization = {"mean": [*known.mean], "std": [*known.std]}
        return Prepared(known.source, known.size, known.crop, known.filter, "rgb", normalization)
    create_model(name, 2, size or ANY_SIZE, model["arguments"])  # whose message says more of a name that is unknown
    raise InputError(
        f"nothing is published on how images are prepared for {name}, and {file} does not say it: leave the checkpoint "
        "out, then set train.init_from, model.normalization and input in params.yaml as in its training"
    )


def arithmetic_choice(model: dict[str, Any], classes: int, size: int) -> Choice:
    """The arithmetic that a network needs, which is tried.

    Raises:
        InputError: If it cannot be made, or not be quantized; names all causes.
    """
    network = create_model(model["name"], classes, size, model["arguments"], model["normalization"])
    return Choice("calibrate.arithmetic", *arithmetic_for(network, model["name"], size))
