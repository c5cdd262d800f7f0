"""What train_float and train_qat share: a run with its data, processes, checkpoints, curves, and files at the end."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from dvclive import Live
from torch import Tensor, nn

from evaluation.score import predict, score
from fixedpoint.program import Program
from models.normalization import normalize
from pipeline.code import dependencies
from pipeline.databases import check_same_classes, plain_batches, training_batches
from pipeline.execution import execution
from pipeline.launch import start_processes
from pipeline.params import Params
from pipeline.paths import runs_folder
from pipeline.progress import Display, Watchman, noted_signals
from pixels.augmentation import Augmentation
from pixels.batches import OrderedBatches, Share
from storage.files import alone
from storage.model_file import ModelInfo
from training.checkpoint import Checkpoints, digest_files, run_key
from training.distributed import Group, joined
from training.engine import Fitted, Observer, Row, Stopped, fit
from training.losses import LossOf
from training.mixing import Mixing
from training.recipe import Recipe
from training.step import TrainingStep


def fit_stage(
    stage: str,
    model: nn.Module,
    recipe: Recipe,
    augment: Augmentation,
    params: Params,
    loss_of: LossOf,
    info: ModelInfo,
    save: Callable[[Fitted], None],
    files: Sequence[Path] = (),
    settings: Mapping[str, object] | None = None,
    sizes: Mapping[int, int] | None = None,
    program: Program | None = None,
    logits_of: Callable[[nn.Module], Callable[[Tensor], Tensor]] = lambda model: model,
    score_start: bool = False,
    **options: Any,
) -> None:
    """Train `model`, with DVCLive curves in plots/<stage>, and checkpoints in $RUNS_DIR (default: runs).

    Args:
        stage: "float" or "qat".
        model: On the device to train on.
        recipe: How.
        augment: Of the training pictures.
        params: All parameters; those that change no result are not part of the run's key.
        loss_of: What is minimized.
        info: Of the model, for those who find a checkpoint of it.
        save: Writes artifacts/<stage>, in one process alone.
        files: From which `model` and `loss_of` were made, if not from the parameters alone.
        settings: What else decides the result, JSON values.
        sizes: Of the training pictures, by the first epoch that has them; by default the input's.
        program: That a QAT model trains.
        logits_of: What is scored of a model: a function of the network's input.
        score_start: As of `training.engine.fit`.
        options: `frozen` and `project` of `training.step.TrainingStep`.
    """
    device = next(model.parameters()).device
    share = Share(int(os.environ.get("RANK", 0)), recipe.processes, recipe.accumulate)
    train = training_batches(params, augment, recipe.batch_size, share, sizes)
    val = plain_batches(params, share=share)
    some = next(iter(train.values()))
    databases = [data.pixels.database for data in (some, val)]
    check_same_classes(*databases)
    start_processes(recipe.processes, params.execution.threads)
    with ExitStack() as stack:
        signals = stack.enter_context(noted_signals())
        group = stack.enter_context(joined(recipe.processes, device))
        key = run_key(
            recipe=recipe.model_dump(),
            augment=augment.model_dump(),
            settings=settings,
            params=params.model_dump(include={"seed", "input", "model", "validation"}),
            execution=params.execution.model_dump(),
            inputs=[digest_files([file]) for file in files] + [database.header.digest for database in databases],
            code=dependencies(f"train_{stage}"),
        )
        folder = runs_folder() / f"{stage}-{key}"
        minutes = params.machine.checkpoint_minutes
        observer: Observer = Watchman(math.inf, signals)  # process 0 alone looks at the clock
        if group.rank == 0:
            stack.enter_context(alone(f"artifacts/{stage}"))
            stack.enter_context(alone(folder))
            live = Live(f"plots/{stage}", dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)
            stack.enter_context(live)
            observer = Display(live, folder, recipe.epochs, some.steps, recipe.batch_size, minutes, signals)

        def validate(network: nn.Module, between: Callable[[], None]) -> Row:
            return score(*predict_together(logits_of(network), val, len(info.class_names), group, device, between))

        step = TrainingStep(
            model,
            recipe,
            loss_of,
            execution(params.execution),
            group,
            Mixing(recipe, params.model.num_classes) if recipe.mixes else None,
            **options,
        )
        describe = {
            "model_file": {
                "form": stage,
                "info": asdict(info),
                "program": program.to_json() if program else None,
                "constants": program.constants if program else {},
            },
            "params": params.model_dump(mode="json"),
            "revision": _revision(),
        }
        checkpoints = Checkpoints(folder, params.machine.checkpoints, group)
        try:
            fitted = fit(step, train, validate, checkpoints, score_start, describe, observer)
        except Stopped:
            if group.rank == 0:
                print(f"stopped; the state is in {folder}, and the same command goes on from it", file=sys.stderr)
            sys.exit(128 + (signals or [signal.SIGTERM])[0])  # the signal may have come to another process
        if group.rank == 0:
            save(fitted)


def predict_together(
    logits_of: Callable[[Tensor], Tensor],
    val: OrderedBatches,
    classes: int,
    group: Group,
    device: torch.device,
    between: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """Logits and labels of all validation images, in order, of which each process computes its batches."""

    def of_pixels(pixels: Tensor) -> Tensor:
        between()
        return logits_of(normalize(pixels.to(device)).contiguous(memory_format=torch.channels_last))

    rounds = group.greatest(len(val))
    logits, labels = predict(of_pixels, val) if len(val) else (torch.empty(0, classes), torch.empty(0).long())
    for _ in range(rounds - len(val)):
        between()  # as often as in every process
    logits, labels, order = (torch.cat(group.gather(own)) for own in (logits, labels, torch.tensor(val.indices)))
    order = order.argsort()
    return logits[order], labels[order]


def _revision() -> str | None:
    """The commit of the code, with -dirty if files have changed since; None where there is no git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except FileNotFoundError:
        return None
