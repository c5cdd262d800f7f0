"""Optimizers and learning rates of a recipe."""

from typing import Any

from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from training.recipe import Recipe

FUSED = ("sgd", "nesterov", "adamw")  # what PyTorch has one kernel for


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """The optimizer of what `model` has to train, of timm; on CUDA with one kernel for all weights."""
    on_cuda = next(model.parameters()).is_cuda
    kernel: dict[str, Any] = {"fused": True} if on_cuda and recipe.optimizer in FUSED else {}
    return create_optimizer_v2(
        model,
        opt={"sgd": "momentum"}.get(recipe.optimizer, recipe.optimizer),  # timm's own "sgd" is nesterov
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        **kernel,
    )


class Schedule:
    """The learning rate: a line from zero, then what `recipe.schedule` says; the optimizer holds it.

    Args:
        optimizer: Whose learning rate it is.
        recipe: What it shall be.
        steps: Of an epoch.
    """

    def __init__(self, optimizer: Optimizer, recipe: Recipe, steps: int):
        self.warmup = round(recipe.warmup_epochs * steps)
        options: dict[str, Any] = {"warmup_t": self.warmup, "warmup_prefix": True, "t_in_epochs": False}
        if recipe.schedule == "step":
            interval = max(round(recipe.decay_epochs * steps), 1)
            self.by_step: Scheduler = StepLRScheduler(optimizer, interval, recipe.decay_rate, **options)
        else:
            length = max(recipe.epochs * steps - self.warmup, 1)
            lowest = 0 if recipe.schedule == "cosine" else recipe.lr
            self.by_step = CosineLRScheduler(optimizer, length, lowest, **options)
        self.plateau = None
        if recipe.schedule == "plateau":
            patience = round(recipe.decay_epochs)
            self.plateau = ReduceLROnPlateau(optimizer, factor=recipe.decay_rate, patience=patience)

    def before_step(self, done: int) -> None:
        """Set the learning rate of the next step of the optimizer, of which `done` have been."""
        if self.plateau is None or done <= self.warmup:
            self.by_step.step_update(done)

    def after_epoch(self, done: int, val_loss: float) -> None:
        """Take notice of a validation loss after `done` steps."""
        if self.plateau is not None and done > self.warmup:
            self.plateau.step(val_loss)

    def state_dict(self) -> dict[str, Any]:
        """What the optimizer's own state and the number of steps do not tell."""
        if self.plateau is None:
            return {}
        return {name: getattr(self.plateau, name) for name in ("best", "num_bad_epochs", "last_epoch")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if self.plateau is not None:
            self.plateau.load_state_dict(state)
