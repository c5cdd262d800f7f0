"""The training loop of float training and of quantization-aware training alike."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

import torch
from torch import Tensor, nn

from evaluation.score import NotFinite, Scores
from pixels.batches import Batch, TrainingBatches
from training.checkpoint import Checkpoints, State
from training.figures import Figures, Row
from training.optimization import Schedule
from training.step import TrainingStep, weights_of

Weights = dict[str, Tensor]
Steps = Iterable[tuple[Batch, ...]]
Validate = Callable[[nn.Module, Callable[[], None]], Scores]


class Wish(IntEnum):
    """What shall happen between two steps; of several processes' wishes, the greatest does."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


class Stopped(Exception):
    """Training was asked to stop; its state is saved."""


@dataclass(frozen=True)
class Fitted:
    """Weights with the best validation top-1 and those of the last epoch, and one row of figures an epoch."""

    best: Weights
    last: Weights
    history: list[Row]


class Observer:
    """What training tells, and asks, as it goes on; this one is silent and wants nothing."""

    def epoch(self, steps: Steps, epoch: int, done: int) -> Steps:
        """The steps of an epoch, of which `done` have been, as they are taken."""
        return steps

    def step(self, figures: Callable[[], Figures]) -> None:
        """After a step; `figures` gives the means of the epoch so far, and makes a GPU wait."""

    def row(self, row: Row) -> None:
        """A row of the history, those of an interrupted run included."""

    def wish(self) -> Wish:
        """Asked after each step and each batch of the validation."""
        return Wish.GO_ON


def fit(
    step: TrainingStep,
    batches: Mapping[int, TrainingBatches],
    validate: Validate,
    checkpoints: Checkpoints,
    score_start: bool = False,
    about: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> Fitted:
    """Train; a run that was interrupted goes on after the step that it had saved, to the same bytes.

    Args:
        step: The model, and what one step does to it.
        batches: Training images, by the first epoch that has them.
        validate: Scores a model after each epoch; its `top1` decides which weights are best. It calls its second
            argument between its batches.
        checkpoints: Where the states of this very run are kept.
        score_start: Whether the model as it is given counts as epoch 0, scored and perhaps the best. It does in any
            case where the recipe has no epochs.
        about: Stands in each checkpoint.
        observer: Is told what happens.

    Raises:
        ValueError: If a loss, a weight or a logit is not finite, naming epoch, step, learning rate and where in the
            network that began.
        Stopped: If the observer wishes it.
    """
    try:
        return _Run(step, batches, validate, checkpoints, about or {}, observer or Observer()).fit(score_start)
    except NotFinite as error:
        raise ValueError(f"{error}: lower the lr, which is {step.recipe.lr:g}") from None


class _Run:
    """The state of `fit`: `epoch` is under way and `done` of its steps have been made, with these `totals`."""

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
        self.steps = next(iter(batches.values())).steps
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
        best = {} if self.step.group.rank else self.checkpoints.load_best()["kept"]
        return Fitted(best, weights_of(self.step.kept), self.history)

    def _train(self) -> Figures:
        """What is left of an epoch."""
        batches = self.batches[max(first for first in self.batches if first <= self.epoch)]
        numbers = batches.share.numbers()
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
        loss, right = totals.tolist()
        images = self.done * self.recipe.batch_size * processes / self.step.group.size
        return {
            "train_loss": round(loss / (self.done * processes), 6),
            "train_top1": round(100 * right / images, 4),
            "lr": self.step.optimizer.param_groups[0]["lr"],
        }

    def _score(self, trained: Figures | None) -> None:
        """Validate, and end the epoch."""
        kept = self.step.kept
        self.step.group.share_buffers(kept)
        kept.eval()
        try:
            for name, value in kept.state_dict().items():
                if not value.isfinite().all():
                    raise NotFinite(f"the weights {name} are not finite")
            self.step.project(kept)
            scores = self.validate(kept, self._between)
        except NotFinite as error:
            raise NotFinite(f"{error} in the validation after epoch {self.epoch}") from None
        scored = {"val_loss": scores["loss"], "val_top1": scores["top1"]}
        row = cast(Row, {"epoch": self.epoch} | dict(trained or {}) | scored)
        is_best = not self.history or row["val_top1"] > max(past["val_top1"] for past in self.history)
        self.history.append(row)
        self.schedule.after_epoch(self.epoch * self.steps, scores["loss"])
        self.epoch, self.done = self.epoch + 1, 0
        self.totals.zero_()
        self._save(is_best)
        self.observer.row(row)

    def _between(self) -> None:
        wish = self.step.group.greatest(self.observer.wish())
        if wish:
            self.step.check()
            self._save()
        if wish == Wish.STOP:
            raise Stopped

    def _save(self, is_best: bool = False) -> None:
        state = State(
            epoch=self.epoch,
            done=self.done,
            totals=torch.stack(self.step.group.gather(self.totals)),
            model=self.step.model.state_dict(),
            kept=self.step.kept.state_dict(),
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
            self.step.kept.load_state_dict(state["kept"])
            self.step.optimizer.load_state_dict(state["optimizer"])
            self.step.scaler.load_state_dict(state["scaler"])
            self.schedule.load_state_dict(state["schedule"])

    def _steps_done(self) -> int:
        return (self.epoch - 1) * self.steps + self.done
