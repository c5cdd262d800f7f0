"""Float training: artifacts/float/model.safetensors (best validation top-1), last.safetensors, curves in plots/float.

python -m stages.train_float
"""

import argparse
import copy

import torch
from torch import Tensor, nn

from models.layers import find_layers
from models.pretrained import load_weights
from models.registry import create_model
from pipeline.cli import run
from pipeline.databases import open_database
from pipeline.fitting import Course, Trainee, fit_stage
from pipeline.forms import FLOAT
from pipeline.logits import float_logits
from pipeline.machine import prepare
from pipeline.params import load_params
from pipeline.quantizable import refuse_unquantizable
from storage.errors import InputError
from storage.model_file import ModelInfo, save_model
from training.engine import Fitted
from training.losses import label_loss
from training.recipe import FineTuning


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params = load_params()
    device = prepare(params.execution)
    info = ModelInfo(
        name=params.model.name,
        arguments=params.model.arguments,
        num_classes=params.model.num_classes,
        image_size=params.input.size,
        color_space=params.input.color_space,
        class_names=open_database(params, "train").class_names,
        normalization=params.model.normalization.model_dump(mode="json") if params.model.normalization else None,
    )
    torch.manual_seed(params.seed)
    model = create_model(info.name, info.num_classes, info.image_size, info.arguments, info.normalization)
    train = params.train
    if train.init_from:
        load_weights(model, train.init_from.file, train.init_from.sha256, train.init_from.new_layers)
    for size in {info.image_size, *(train.sizes or {}).values()}:
        parameter = "input.size" if size == info.image_size else "train.sizes"
        _try_out(model, info.name, parameter, size, info.num_classes, min(2, params.batch_size))
    refuse_unquantizable(model, params)
    recipe = params.float_recipe

    def save(fitted: Fitted) -> None:
        save_model(FLOAT.path.with_stem("last"), FLOAT.name, fitted.last, info)
        save_model(FLOAT.path, FLOAT.name, fitted.best, info)

    trainee = Trainee(
        stage="float",
        model=model.to(device),
        info=info,
        program=None,
        files=(),
        logits_of=lambda network: float_logits(network, device),
        save=save,
        frozen=find_layers(model, train.freeze, "train.freeze"),
    )
    course = Course(
        recipe,
        params.augment,
        label_loss(recipe.label_smoothing, recipe.loss, recipe.target_threshold),
        sizes=train.sizes,
        settings=train.model_dump(include={"sizes", *FineTuning.model_fields}),
    )
    fit_stage(trainee, course, params)


def _try_out(model: nn.Module, network: str, parameter: str, size: int, classes: int, images: int = 2) -> None:
    for mode in (copy.deepcopy(model).train(), model.eval()):
        try:
            with torch.no_grad():
                logits = mode(torch.zeros(images, 3, size, size))
        except MemoryError:
            raise
        except Exception as error:  # a network may raise anything, such as an IndexError or a bare AssertionError
            reason = str(error).partition("\n")[0] or type(error).__name__
            if images == 1 and mode.training and "more than 1 value per channel" in reason:
                raise InputError(f"batch_size 1 is not allowed for {network}: BatchNorm needs two images") from None
            raise InputError(f"{network} does not take images of {parameter} {size}: {reason}") from None
        if not isinstance(logits, Tensor) or logits.shape != (images, classes):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            when = "in training" if mode.training else "in evaluation"
            raise InputError(f"{network} gives {given} {when}, not logits [images, {classes}]: see model.arguments")


if __name__ == "__main__":
    run(main)
