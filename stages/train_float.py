"""Float training: artifacts/float/model.safetensors (best validation top-1), last.safetensors, curves in plots/float.

python -m stages.train_float
"""

import argparse

import torch

from models import create_model
from models.pretrained import load_weights
from models.storage import ModelInfo, save_model
from stages.cli import run
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
        normalization=params.model.normalization and params.model.normalization.model_dump(mode="json"),
    )
    torch.manual_seed(params.seed)
    model = create_model(info.name, info.num_classes, info.image_size, info.arguments, info.normalization)
    if params.model.checkpoint:
        load_weights(model, params.model.checkpoint, params.model.checkpoint_sha256)
    model.to(device)
    recipe = params.float_recipe
    fitted = fit_stage("float", model, recipe, params.augment, params, label_loss(recipe.label_smoothing))
    save_model("artifacts/float/last.safetensors", "float", fitted.last, info)
    save_model("artifacts/float/model.safetensors", "float", fitted.best, info)


if __name__ == "__main__":
    run(main)
