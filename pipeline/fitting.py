"""What train_float and train_qat share: a run with its data, processes, checkpoints, curves, and files at the end."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from evaluation.score import Scores, predict, score
from fixedpoint.program import Program
from pipeline.checkpoints import about
from pipeline.code import EXTRA, dependencies
from pipeline.databases import check_same_classes, plain_batches, training_batches
from pipeline.execution import execution
from pipeline.launch import start_processes
from pipeline.logits import Logits
from pipeline.own_change import own_change
from pipeline.params import Params
from pipeline.paths import runs_folder
from pipeline.progress import CheckpointTimer, Display, curves
from pipeline.signals import noted_signals
from pixels.augmentation import Augmentation
from pixels.batches import BatchPartition, OrderedBatches, TrainingBatches
from storage.errors import InputError
from storage.files import beside
from storage.lock import Lock
from storage.model_file import ModelInfo
from training.checkpoint import Checkpoints, digest_files, run_key
from training.distributed import Group, joined, own_rank
from training.engine import Fitted, Observer, Request, Stopped, fit
from training.losses import LossOf
from training.mixing import Mixing
from training.recipe import Recipe
from training.step import TrainingStep

POLL = 0.2  # seconds from one attempt to take a lock to the next


@dataclass(frozen=True)
class Trainee:
    """What is trained.

    Attributes:
        stage: "float" or "qat".
        model: The model, on the device that trains it.
        info: The model's description, which its checkpoints store.
        program: The program that a QAT model trains; None for a float model.
        files: Files that the model and its loss were made from, besides the parameters.
        logits_of: Gives the function of pixels that is scored for a model.
        save: Writes artifacts/<stage>; only one process calls it.
        frozen, project: As in `training.step.TrainingStep`.
    """

    stage: Literal["float", "qat"]
    model: nn.Module
    info: ModelInfo
    program: Program | None
    files: Sequence[Path]
    logits_of: Callable[[nn.Module], Logits]
    save: Callable[[Fitted], None]
    frozen: Sequence[nn.Module] = ()
    project: Callable[[nn.Module], None] = lambda model: None


@dataclass(frozen=True)
class Course:
    """How it is trained.

    Attributes:
        recipe: The recipe of the steps.
        augment: Augmentation of the training images.
        loss_of: The loss to minimize.
        sizes: Size of the training images by the first epoch that has it; None: input.size.
        settings: Further settings that decide the result, JSON values.
        score_start: As in `training.engine.fit`.
    """

    recipe: Recipe
    augment: Augmentation
    loss_of: LossOf
    sizes: Mapping[int, int] | None = None
    settings: Mapping[str, object] | None = None
    score_start: bool = False


def fit_stage(trainee: Trainee, course: Course, params: Params) -> None:
    """Train, with DVCLive curves in plots/<stage>, and checkpoints in $RUNS_DIR (default: runs).

    A run that other processes train is awaited, and taken over as they leave it: as a rule, finished.

    Args:
        trainee: What is trained.
        course: How it is trained.
        params: All parameters; those that change no result are not part of the run's key.

    Raises:
        InputError: If another process trains another run for the same artifacts/<stage>; as `training.engine.fit`.
    """
    stage, recipe, device = trainee.stage, course.recipe, next(trainee.model.parameters()).device
    partition = BatchPartition(own_rank(recipe.processes), recipe.processes, recipe.accumulate)
    train: Mapping[int, TrainingBatches] = {}
    if recipe.epochs:  # what is not trained needs no batch
        change = own_change(course.augment.extra, EXTRA[f"train_{stage}"])
        train = training_batches(params, course.augment, recipe.batch_size, partition, course.sizes, change)
    val = plain_batches(params, partition=partition)
    databases = [*dict.fromkeys([*(each.pixels.database for each in train.values()), val.pixels.database])]
    check_same_classes(databases[0], databases[-1])
    start_processes(recipe.processes, params.execution.threads)
    with ExitStack() as stack:
        group = stack.enter_context(joined(recipe.processes, device))
        signals = stack.enter_context(noted_signals())
        folder = runs_folder() / f"{stage}-{_key(trainee, course, params, [each.header.digest for each in databases])}"
        try:
            stack.enter_context(_alone(folder, group, signals))
        except Stopped:
            _end("stopped before it trained", group, signals)
        observer: Observer = CheckpointTimer(math.inf, signals)  # only process 0 looks at the clock
        if group.rank == 0:
            stack.enter_context(_writing(Path("artifacts", stage)))
            live, minutes = stack.enter_context(curves(stage)), params.machine.checkpoint_minutes
            if 0 < recipe.warmup < recipe.warmup_epochs:
                print(f"warmup_epochs {recipe.warmup_epochs:g} is cut to {recipe.warmup:g}, half of the epochs")
            steps = max((each.steps for each in train.values()), default=0)
            observer = Display(live, folder, recipe.epochs, steps, recipe.batch_size, minutes, signals)

        def validate(network: nn.Module, between: Callable[[], None]) -> Scores:
            logits_of = trainee.logits_of(network)
            return score(*predict_together(logits_of, val, len(trainee.info.class_names), group, between))

        step = TrainingStep(
            trainee.model,
            recipe,
            course.loss_of,
            execution(params.execution),
            group,
            Mixing(recipe, len(trainee.info.class_names)) if recipe.mixes else None,
            trainee.frozen,
            trainee.project,
        )
        described = about(stage, trainee.info, trainee.program, params)
        checkpoints = Checkpoints(folder, params.machine.checkpoints, group)
        try:
            fitted = fit(step, train, validate, checkpoints, course.score_start, described, observer)
        except Stopped:
            _end(f"stopped; the checkpoint is in {folder}, the same command resumes from it", group, signals)
        if isinstance(observer, Display):
            trainee.save(fitted)
            print(observer.made(Path("artifacts", stage)))


@contextmanager
def _alone(folder: Path, group: Group, signals: list[int]) -> Iterator[None]:
    """A block in which only the processes of `group` train the run of `folder`; they wait for others that do.

    Raises:
        Stopped: If a signal comes while they wait.
    """
    said: str | None = None
    with Lock(beside(folder, "lock")) as lock:
        while True:
            holder = lock.take() if group.rank == 0 and not signals else None
            if holder and holder != said:
                print(f"waiting for {holder}, which trains {folder}", file=sys.stderr)
                said = holder
            request = group.maximum(Request.STOP if signals else Request.SAVE if holder else Request.CONTINUE)
            if request == Request.STOP:
                raise Stopped
            if request == Request.CONTINUE:
                break
            time.sleep(POLL)
        yield


@contextmanager
def _writing(outputs: Path) -> Iterator[None]:
    """A block in which no other process trains for the same outputs.

    Raises:
        InputError: If another one does, which would replace them by those of other parameters.
    """
    with Lock(beside(outputs, "lock")) as lock:
        if holder := lock.take():
            raise InputError(f"{holder} is writing {outputs}; wait for its end, or stop it")
        yield


def _end(line: str, group: Group, signals: list[int]) -> NoReturn:
    """Exit as a shell tells of a signal, which may have reached another process of the group."""
    if group.rank == 0:
        start = "\r" if sys.stderr.isatty() else ""  # in the place of ^C
        tqdm.write(f"{start}{line}", file=sys.stderr)  # and of a bar
    sys.exit(128 + group.maximum(max(signals, default=0)))


def _key(trainee: Trainee, course: Course, params: Params, databases: Sequence[str]) -> str:
    """The key of a run, made from all that decides its result; `databases` are the digests of those that it reads."""
    values = params.model_dump(include={"seed", "input", "model", "validation"})
    return run_key(
        recipe=course.recipe.model_dump(),
        augment=course.augment.model_dump(),
        settings=course.settings,
        params=values,
        execution=params.execution.model_dump(),
        inputs=[*(digest_files([file]) for file in trainee.files), *databases],
        code=dependencies(f"train_{trainee.stage}", values["model"]["name"], course.augment.extra),
    )


def predict_together(
    logits_of: Logits,
    val: OrderedBatches,
    classes: int,
    group: Group,
    between: Callable[[], None],
) -> tuple[Tensor, Tensor]:
    """Logits and labels of all validation images, in order; each process computes its own batches.

    Args:
        logits_of: A function of pixels.
        val: This process's batches.
        classes: Number of classes.
        group: The processes that share the images.
        between: Called before each batch, equally often in every process.
    """

    def of_pixels(pixels: Tensor) -> Tensor:
        between()
        return logits_of(pixels)

    rounds = group.maximum(len(val))
    logits, labels = predict(of_pixels, val) if len(val) else (torch.empty(0, classes), torch.empty(0).long())
    for _ in range(rounds - len(val)):
        between()  # equally often in every process
    logits, labels, order = (torch.cat(group.gather(own)) for own in (logits, labels, torch.tensor(val.indices)))
    order = order.argsort()
    return logits[order], labels[order]
