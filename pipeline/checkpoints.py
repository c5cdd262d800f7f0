"""What a checkpoint stores about its run, and the model in it."""

import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from torch import Tensor

from fixedpoint.program import Program
from fixedpoint.quantize.qat import FakeQuantModel
from pipeline.params import Params
from storage.errors import InputError
from storage.model_file import ModelInfo, StoredModel, check_weights, load_model, read_info
from training.checkpoint import read_state


class ModelContents(TypedDict):
    """What a model file holds besides the weights; `info` is a `ModelInfo`, a float model has no `program`."""

    form: str
    info: dict[str, Any]
    program: dict | None
    constants: dict[str, Tensor]


class About(TypedDict):
    """The description of a run in its checkpoints; `params` is all of params.yaml, `revision` a commit."""

    model_file: ModelContents
    params: dict[str, Any]
    revision: str | None


def about(form: str, info: ModelInfo, program: Program | None, params: Params) -> About:
    """The description that the checkpoints of a run hold.

    Args:
        form: The model's form.
        info: The model's description.
        program: The program that a QAT model trains; None for a float model.
        params: All parameters.
    """
    described = program.to_json() if program else None
    contents = ModelContents(
        form=form, info=asdict(info), program=described, constants=program.constants if program else {}
    )
    return About(model_file=contents, params=params.model_dump(mode="json"), revision=_revision())


def _revision() -> str | None:
    """The commit of the code, with -dirty if files have changed since; None where there is no git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except FileNotFoundError:
        return None


def read_model(path: Path, form: str) -> StoredModel:
    """Read a model file of a form, or the scored model of a checkpoint (.pt) of float training or QAT.

    Raises:
        OSError: If the file cannot be read.
        InputError: If the file is neither of these, is damaged, or holds another form.
    """
    if path.suffix != ".pt":
        return load_model(path, (form,))
    state: Mapping[str, Any] = read_state(path.read_bytes(), path)
    try:
        weights, contents = state["scored"], state["about"]["model_file"]
        found, info, program = contents["form"], read_info(contents["info"], path), contents["program"]
    except (KeyError, TypeError):
        raise InputError(f"{path} is no checkpoint of this version's train_float or train_qat") from None
    check_weights(weights, path)
    if found != form:
        raise InputError(f"{path} is a checkpoint of form {found!r}, expected {form!r}")
    if form == "float":
        return StoredModel(form, weights, info, program)
    model = FakeQuantModel(Program.from_json(program, contents["constants"]))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the weights in {path} do not fit its program: {' '.join(str(error).split())}") from None
    return StoredModel(form, model.trained().constants, info, program)
