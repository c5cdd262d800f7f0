"""Float training: artifacts/float/model.safetensors (best validation top-1), last.safetensors, curves in plots/float.

python -m stages.train_float
"""

from pipeline.cli import no_arguments, run
from pipeline.forms import FLOAT
from pipeline.params import load_params

if __name__ == "__main__":
    no_arguments(__doc__)  # --help and mistakes, before the imports that take seconds

import torch

from models.layers import find_layers
from models.pretrained import load_weights
from models.registry import create_model
from pipeline.counts import look_ahead
from pipeline.databases import open_database
from pipeline.fitting import Course, Trainee, fit_stage
from pipeline.logits import float_logits
from pipeline.machine import prepare
from pipeline.quantizable import refuse_unquantizable
from pipeline.try_out import try_out
from storage.model_file import ModelInfo, check_weights, save_model
from training.distributed import own_rank
from training.engine import Fitted
from training.losses import label_loss
from training.recipe import FineTuning


def main() -> None:
    params = load_params()
    device = prepare(params.execution)
    class_names = open_database(params, "train" if params.epochs else "val").class_names
    info = ModelInfo(
        name=params.model.name,
        arguments=params.model.arguments,
        num_classes=len(class_names),
        image_size=params.input.size,
        color_space=params.input.color_space,
        resample=params.input.resample,
        class_names=class_names,
        normalization=params.model.normalization.model_dump(mode="json") if params.model.normalization else None,
    )
    torch.manual_seed(params.seed)
    model = create_model(info.name, info.num_classes, info.image_size, info.arguments, info.normalization)
    train = params.train
    look_ahead(params)
    check_weights(dict(model.state_dict()), info.name)
    if train.init_from:
        taken = load_weights(model, train.init_from.file, train.init_from.sha256, train.init_from.new_layers)
        if own_rank(train.processes) == 0:
            print(taken)
    try_out(model, info, params)
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


if __name__ == "__main__":
    run(main)
