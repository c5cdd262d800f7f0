"""What train_float and train_qat share: curves, progress, checkpoints for going on, best and last weights."""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from dvclive import Live
from torch import Tensor, nn
from tqdm import tqdm

from stages.cli import alone, runs_folder
from stages.databases import check_same_classes, plain_batches, training_batches
from stages.params import Params
from training.augment import normalize
from training.checkpoint import Checkpoint, digest_files, run_key
from training.engine import Fitted, fit
from training.losses import LossOf
from training.recipe import Augmentation, Recipe
from training.score import predict, score

CODE = [Path(folder) for folder in ("models", "imagedb", "training", "fixedpoint", "stages")]


def fit_stage(
    stage: str,
    model: nn.Module,
    recipe: Recipe,
    augment: Augmentation,
    params: Params,
    loss_of: LossOf,
    files: Sequence[Path] = (),
    logits_of: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda model: model,
    **options: Any,
) -> Fitted:
    """Train `model`, with DVCLive curves in plots/<stage>, and checkpoints in $RUNS_DIR (default: runs).

    Args:
        stage: "float" or "qat".
        model: On the device to train on.
        recipe: How.
        augment: Of the training pictures.
        params: All parameters; those that change no result are not part of the run's key.
        loss_of: What is minimized.
        files: From which `model` and `loss_of` were made, if not from the parameters alone.
        logits_of: What is scored of a model: a function of the network's input.
        options: `score_start` and `project` of `training.engine.fit`.
    """
    train, val = training_batches(params, augment, recipe.batch_size), plain_batches(params)
    databases = [data.pixels.database for data in (train, val)]
    check_same_classes(*databases)
    device = next(model.parameters()).device
    key = run_key(
        recipe=recipe.model_dump(),
        augment=augment.model_dump(),
        params=params.model_dump(include={"seed", "input", "model", "validation"}),
        machine=params.machine.model_dump(exclude={"workers"}),
        inputs=[digest_files([file]) for file in files] + [database.header.digest for database in databases],
        code=digest_files([path for folder in CODE for kind in ("*.py", "*.c") for path in folder.glob(kind)]),
        versions=[version(package) for package in ("torch", "torchvision", "timm", "numpy", "pillow")],
    )
    folder = runs_folder() / f"{stage}-{key}"

    def validate(network: nn.Module) -> dict[str, float]:
        logits = logits_of(network)

        def of_pixels(pixels: Tensor) -> Tensor:
            return logits(normalize(pixels.to(device)).contiguous(memory_format=torch.channels_last))

        return score(*predict(of_pixels, val))

    with (
        alone(folder),
        Live(f"plots/{stage}", dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False) as live,
    ):

        def report(row: dict[str, float]) -> None:
            live.step = row["epoch"]
            figures = {name: value for name, value in row.items() if name != "epoch"}
            for name, value in figures.items():
                live.log_metric(name, value, timestamp=False)
            live.make_summary()
            text = "  ".join(f"{name} {value:.6g}" for name, value in figures.items())
            print(f"epoch {live.step}/{recipe.epochs}  {text}", flush=True)

        def progress(steps: Iterable, total: int, label: str) -> Iterable:
            return tqdm(steps, total=total, desc=label, unit="batch", leave=False, disable=None)

        checkpoint = Checkpoint(folder)
        return fit(model, recipe, train, loss_of, validate, checkpoint, report=report, progress=progress, **options)
