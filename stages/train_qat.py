"""Quantization-aware training: artifacts/qat/model.safetensors (best validation top-1) and last.safetensors.

python -m stages.train_qat [--checkpoint artifacts/ptq/model.safetensors] [--teacher artifacts/float/model.safetensors]

Each epoch is scored as the integer model that it converts to; epoch 0 is the calibrated model.
"""

import argparse
from pathlib import Path
from typing import cast

from pipeline.cli import run
from pipeline.forms import FLOAT, PTQ, QAT, stored_program
from pipeline.params import Params, load_params
from storage.errors import InputError


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=PTQ.path, type=Path)
    parser.add_argument("--teacher", default=FLOAT.path, type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

import torch
from torch import nn

from fixedpoint.program.integer import integer_logits
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel
from pipeline.databases import check_model
from pipeline.execution import execution
from pipeline.fitting import Course, Trainee, fit_stage
from pipeline.float_model import float_model
from pipeline.machine import prepare
from training.engine import Fitted
from training.losses import distilled_loss, label_loss


def main() -> None:
    arguments = parse_arguments()
    params = load_params()
    device = prepare(params.execution)
    files = [arguments.checkpoint]
    stored = PTQ.load(arguments.checkpoint)
    check_model(arguments.checkpoint, stored.info, params)
    program = stored_program(stored)
    model = FakeQuantModel(program).to(device)
    recipe = params.qat
    loss_of = label_loss(recipe.label_smoothing, recipe.loss, recipe.target_threshold)
    if recipe.distill:
        files.append(arguments.teacher)
        teacher = _teacher(files[1], stored.info.class_names, params).to(device).to(memory_format=torch.channels_last)
        loss_of = distilled_loss(loss_of, execution(params.execution).of(teacher), recipe.distill, recipe.temperature)

    def save(fitted: Fitted) -> None:
        for name, weights in {"last": fitted.last, "model": fitted.best}.items():
            model.load_state_dict(weights)
            QAT.save(model.trained(), stored.info, name)

    trainee = Trainee(
        stage="qat",
        model=model,
        info=stored.info,
        program=program,
        files=files,
        logits_of=lambda network: integer_logits(convert(cast(FakeQuantModel, network).trained()), device),
        save=save,
        project=lambda network: cast(FakeQuantModel, network).project(),
    )
    fit_stage(trainee, Course(recipe, recipe.augment, loss_of, score_start=True), params)


def _teacher(path: Path, class_names: list[str], params: Params) -> nn.Module:
    stored = FLOAT.load(path)
    check_model(path, stored.info, params)
    if stored.info.class_names != class_names:
        raise InputError(f"{path} has other classes than the model it is to teach")
    return float_model(stored)


if __name__ == "__main__":
    run(main)
