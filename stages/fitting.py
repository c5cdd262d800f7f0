"""What train_float and train_qat share: curves, progress, checkpoints for going on, best and last weights."""

import os
from importlib.metadata import version
from pathlib import Path

import torch
from dvclive import Live
from torch import nn
from tqdm import tqdm

from stages.databases import plain_batches, training_batches
from stages.params import Params
from training.augment import normalize
from training.checkpoint import Checkpoint, digest_files, run_key
from training.engine import Fitted, fit
from training.recipe import Recipe
from training.score import predict, score

CODE = [Path(folder) for folder in ("models", "imagedb", "training", "fixedpoint", "stages")]


def fit_stage(stage: str, model: nn.Module, recipe: Recipe, params: Params, model_digest: str) -> Fitted:
    """Train `model`, with DVCLive curves in plots/<stage>, and checkpoints in $RUNS_DIR (default: runs).

    Args:
        stage: "float" or "qat".
        model: On the device to train on.
        recipe: How.
        params: All parameters; those that change no result are not part of the run's key.
        model_digest: Of what `model` was made from, if not from the parameters alone.
    """
    train, val = training_batches(params, recipe), plain_batches(params)
    databases = [data.dataset.database for data in (train.loader, val)]
    if databases[0].class_names != databases[1].class_names:
        raise ValueError(f"{databases[0].path} and {databases[1].path} have different classes")
    device = next(model.parameters()).device
    key = run_key(
        recipe=recipe.model_dump(),
        params=params.model_dump(include={"seed", "augment", "input", "model", "validation"}),
        machine=params.machine.model_dump(exclude={"workers"}),
        inputs=[model_digest, *(database.header.digest for database in databases)],
        code=digest_files([path for folder in CODE for path in folder.glob("*.py")]),
        versions=[version(package) for package in ("torch", "torchvision", "timm", "numpy", "pillow")],
    )
    folder = Path(os.environ.get("RUNS_DIR", "runs")) / f"{stage}-{key}"

    def validate(network: nn.Module) -> dict[str, float]:
        def logits_of(pixels):
            return network(normalize(pixels.to(device)).contiguous(memory_format=torch.channels_last))

        return score(*predict(logits_of, val))

    with Live(f"plots/{stage}", dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False) as live:

        def report(row: dict[str, float]) -> None:
            for name, value in row.items():
                live.log_metric(name, value, timestamp=False)
            live.next_step()
            figures = "  ".join(f"{name} {value:.6g}" for name, value in row.items())
            print(f"epoch {live.step}/{recipe.epochs}  {figures}", flush=True)

        def progress(steps, total: int, label: str):
            return tqdm(steps, total=total, desc=label, unit="batch", leave=False, disable=None)

        return fit(model, recipe, train, validate, Checkpoint(folder), report, progress)
