"""Float training: artifacts/float/model.safetensors (best validation top-1), last.safetensors, curves in plots/float.

python -m stages.train_float
"""

import argparse

import torch
from torch import nn

from models import create_model
from models.pretrained import load_weights
from models.storage import ModelInfo, save_model
from stages.cli import alone, run
from stages.databases import open_database
from stages.fitting import fit_stage
from stages.machine import prepare
from stages.params import load_params
from training.losses import label_loss


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    params = load_params()
    device = prepare(params.machine)
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
    if params.model.checkpoint and params.model.checkpoint_sha256:
        load_weights(model, params.model.checkpoint, params.model.checkpoint_sha256)
    _try_out(model, info)
    model.to(device)
    recipe = params.float_recipe
    with alone("artifacts/float"):
        fitted = fit_stage("float", model, recipe, params.augment, params, label_loss(recipe.label_smoothing))
        save_model("artifacts/float/last.safetensors", "float", fitted.last, info)
        save_model("artifacts/float/model.safetensors", "float", fitted.best, info)


def _try_out(model: nn.Module, info: ModelInfo) -> None:
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, info.image_size, info.image_size))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{info.name} does not take pictures of input.size {info.image_size}: {reason}") from None


if __name__ == "__main__":
    run(main)
