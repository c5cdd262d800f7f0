"""The training loop of float training and of quantization-aware training."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

import torch
from torch import Tensor, nn

from evaluation.score import NotFinite, Scores
from pixels.batches import Batch, TrainingBatches
from storage.errors import InputError
from training.checkpoint import Checkpoints, State
from training.figures import Figures, Row
from training.optimization import Schedule
from training.step import TrainingStep, weights_of

StateDict = dict[str, Tensor]
EpochSteps = Iterable[tuple[Batch, ...]]  # for each step, this process's parts of a batch
Validate = Callable[[nn.Module, Callable[[], None]], Scores]


class Request(IntEnum):
    """Action to take between two steps; the largest over all processes wins."""

    CONTINUE = 0
    SAVE = 1
    STOP = 2


class Stopped(Exception):
    """Training was asked to stop; its state is saved."""


@dataclass(frozen=True)
class Fitted:
    """The weights with the best validation top-1, those of the last epoch, and one row of figures per epoch."""

    best: StateDict
    last: StateDict
    history: list[Row]


class Observer:
    """Watches training, which calls these methods as it runs; this class does nothing and requests nothing."""

    def epoch(self, steps: EpochSteps, epoch: int, done: int) -> EpochSteps:
        """Pass on the steps of an epoch, of which `done` are already done, one at a time."""
        return steps

    def step(self, figures: Callable[[], Figures]) -> None:
        """Called after each step; `figures` gives the means of the epoch so far, for which it waits for a GPU."""

    def row(self, row: Row) -> None:
        """Called with each row of the history, also with those from before an interruption."""

    def request(self) -> Request:
        """Called after each step and before each batch of the validation."""
        return Request.CONTINUE


def fit(
    step: TrainingStep,
    batches: Mapping[int, TrainingBatches],
    validate: Validate,
    checkpoints: Checkpoints,
    score_start: bool = False,
    about: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> Fitted:
    """Train; an interrupted run resumes after its last saved step and ends with the same bytes.

    Args:
        step: The model and its training step.
        batches: Training batches, by the first epoch that uses them; none if the recipe has no epochs.
        validate: Scores a model after each epoch; the best weights are those with the highest `top1`. It calls its
            second argument before each of its batches.
        checkpoints: The saved states of this run.
        score_start: Whether the initial model is scored as epoch 0 and may be the best. It always is if the recipe
            has no epochs.
        about: Information that each checkpoint holds.
        observer: Is informed of progress, and can request a checkpoint or a stop.

    Raises:
        InputError: If a loss, a weight or a logit is not finite; the message names the epoch, the step, the learning
            rate and the first such value in the network.
        Stopped: If the observer requests a stop.
    """
    try:
        return _Run(step, batches, validate, checkpoints, about or {}, observer or Observer()).fit(score_start)
    except NotFinite as error:
        raise InputError(f"{error}: lower the lr, which is {step.recipe.lr:g}") from None


class _Run:
    """The state of `fit`: `done` steps of `epoch` are done, `totals` sums their losses and correct images."""

    def __init__(
        self,
        step: TrainingStep,
        batches: Mapping[int, TrainingBatches],
        validate: Validate,
        checkpoints: Checkpoints,
        about: Mapping[str, Any],
        observer: Observer,
    ):
        self.step, self.batches, self.validate = step, batches, validate
        self.checkpoints, self.about, self.observer = checkpoints, about, observer
        self.recipe = step.recipe
        self.steps = max((each.steps for each in batches.values()), default=0)
        self.schedule = Schedule(step.optimizer, step.recipe, self.steps)
        self.epoch, self.done = 1, 0
        self.totals = torch.zeros(2, dtype=torch.float64, device=step.device)
        self.history: list[Row] = []

    def fit(self, score_start: bool) -> Fitted:
        self._restore()
        for row in self.history:
            self.observer.row(row)
        if (score_start or not self.recipe.epochs) and not self.history:
            self.epoch = 0
            self._score(None)
        while self.epoch <= self.recipe.epochs:
            self._score(self._train())
        best = {} if self.step.group.rank else self.checkpoints.load_best()["scored"]
        return Fitted(best, weights_of(self.step.scored), self.history)

    def _train(self) -> Figures:
        """Train the steps that remain of the epoch."""
        batches = self.batches[max(first for first in self.batches if first <= self.epoch)]
        numbers = batches.partition.numbers()
        self.step.train()
        steps = batches.epoch(self.epoch - 1, self.done)
        for parts in self.observer.epoch(steps, self.epoch, self.done):
            self.schedule.before_step(self._steps_done())
            seeds = (batches.seed, self.epoch - 1, self.done)
            self.totals += self.step(parts, numbers, seeds, self._steps_done() + 1)
            self.done += 1
            self.observer.step(lambda: self._figures(self.totals, 1))
            self._between()
        self.step.check()
        gathered = self.step.group.gather(self.totals)
        return self._figures(torch.stack(gathered).sum(dim=0), len(gathered))

    def _figures(self, totals: Tensor, processes: int) -> Figures:
        loss, correct = totals.tolist()
        images = self.done * self.recipe.batch_size * processes / self.step.group.size
        return {
            "train_loss": round(loss / (self.done * processes), 6),
            "train_top1": round(100 * correct / images, 4),
            "lr": self.step.optimizer.param_groups[0]["lr"],
        }

    def _score(self, trained: Figures | None) -> None:
        """Validate, and end the epoch."""
        model = self.step.scored
        self.step.group.share_buffers(model)
        model.eval()
        try:
            for name, value in model.state_dict().items():
                if not value.isfinite().all():
                    raise NotFinite(f"the weights {name} are not finite")
            self.step.project(model)
            scores = self.validate(model, self._between)
        except NotFinite as error:
            raise NotFinite(f"{error} in the validation after epoch {self.epoch}") from None
        validated = {"val_loss": scores["loss"], "val_top1": scores["top1"]}
        row = cast(Row, {"epoch": self.epoch} | dict(trained or {}) | validated)
        is_best = not self.history or row["val_top1"] > max(past["val_top1"] for past in self.history)
        self.history.append(row)
        self.schedule.after_epoch(self.epoch * self.steps, scores["loss"])
        self.epoch, self.done = self.epoch + 1, 0
        self.totals.zero_()
        self._save(is_best)
        self.observer.row(row)

    def _between(self) -> None:
        request = self.step.group.maximum(self.observer.request())
        if request:
            self.step.check()
            self._save()
        if request == Request.STOP:
            raise Stopped

    def _save(self, is_best: bool = False) -> None:
        state = State(
            epoch=self.epoch,
            done=self.done,
            totals=torch.stack(self.step.group.gather(self.totals)),
            model=self.step.model.state_dict(),
            scored=self.step.scored.state_dict(),
            optimizer=self.step.optimizer.state_dict(),
            scaler=self.step.scaler.state_dict(),
            schedule=self.schedule.state_dict(),
            history=self.history,
            is_best=is_best,
            about=self.about,
        )
        self.checkpoints.save(self._steps_done(), state)

    def _restore(self) -> None:
        if state := self.checkpoints.load():
            self.epoch, self.done, self.history = state["epoch"], state["done"], state["history"]
            self.totals.copy_(state["totals"][self.step.group.rank])
            self.step.model.load_state_dict(state["model"])
            self.step.scored.load_state_dict(state["scored"])
            self.step.optimizer.load_state_dict(state["optimizer"])
            self.step.scaler.load_state_dict(state["scaler"])
            self.schedule.load_state_dict(state["schedule"])

    def _steps_done(self) -> int:
        return (self.epoch - 1) * self.steps + self.done
