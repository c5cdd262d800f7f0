"""Quantization-aware training: artifacts/qat/model.safetensors (best validation top-1) and last.safetensors.

python -m stages.train_qat [--checkpoint artifacts/ptq/model.safetensors] [--teacher artifacts/float/model.safetensors]

Each epoch, and the calibrated model as epoch 0, is scored as the integer model that it converts to.
"""

import argparse
from pathlib import Path
from typing import cast

import torch
from torch import nn

from fixedpoint.program.integer import integer_logits
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel
from pipeline.cli import run
from pipeline.databases import check_model
from pipeline.execution import execution
from pipeline.fitting import fit_stage
from pipeline.machine import prepare
from pipeline.model_files import FILES, MADE_BY, float_model, stored_program
from pipeline.params import Params, load_params
from pipeline.paths import require
from storage.model_file import load_model, save_model
from training.engine import Fitted
from training.losses import distilled_loss, label_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=FILES["ptq"], type=Path)
    parser.add_argument("--teacher", default=FILES["float"], type=Path)
    arguments = parser.parse_args()
    params = load_params()
    device = prepare(params.execution)
    files = [require(arguments.checkpoint, MADE_BY["ptq"])]
    stored = load_model(files[0], ("ptq",))
    check_model(files[0], stored.info, params)
    program = stored_program(stored)
    model = FakeQuantModel(program).to(device)
    recipe = params.qat
    loss_of = label_loss(recipe.label_smoothing, recipe.loss, recipe.target_threshold)
    if recipe.distill:
        files.append(require(arguments.teacher, MADE_BY["float"]))
        teacher = _teacher(files[1], stored.info.class_names, params).to(device).to(memory_format=torch.channels_last)
        loss_of = distilled_loss(loss_of, execution(params.execution).of(teacher), recipe.distill, recipe.temperature)

    def save(fitted: Fitted) -> None:
        for name, weights in {"last": fitted.last, "model": fitted.best}.items():
            model.load_state_dict(weights)
            program = model.trained()
            save_model(f"artifacts/qat/{name}.safetensors", "qat", program.constants, stored.info, program.to_json())

    fit_stage(
        "qat",
        model,
        recipe,
        recipe.augment,
        params,
        loss_of,
        stored.info,
        save,
        files=files,
        program=program,
        logits_of=lambda model: integer_logits(convert(cast(FakeQuantModel, model).trained()), device),
        score_start=True,
        project=FakeQuantModel.project,
    )


def _teacher(path: Path, class_names: list[str], params: Params) -> nn.Module:
    stored = load_model(path, ("float",))
    check_model(path, stored.info, params)
    if stored.info.class_names != class_names:
        raise ValueError(f"{path} has other classes than the model it is to teach")
    return float_model(stored)


if __name__ == "__main__":
    run(main)
