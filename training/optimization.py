"""The optimizer and the learning rate of a recipe."""

from typing import Any

from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from training.recipe import Recipe

FUSED = ("sgd", "nesterov", "adamw")  # PyTorch has a kernel that updates all weights at once


def make_optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """timm's optimizer for the trainable weights of `model`; on CUDA with a kernel for all of them if possible."""
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
    """Sets the learning rate of an optimizer: a linear warm-up from zero, then `recipe.schedule`.

    Args:
        optimizer: The optimizer.
        recipe: The recipe.
        steps: Steps per epoch.
    """

    def __init__(self, optimizer: Optimizer, recipe: Recipe, steps: int):
        self.warmup = round(recipe.warmup * steps)
        options: dict[str, Any] = {"warmup_t": self.warmup, "warmup_prefix": True, "t_in_epochs": False}
        if recipe.schedule == "step":
            interval = max(round(min(recipe.decay_epochs, recipe.epochs + 1) * steps), 1)
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
        """Set the learning rate of the next step; `done` steps of the run are done."""
        if self.plateau is None or done <= self.warmup:
            self.by_step.step_update(done)

    def after_epoch(self, done: int, val_loss: float) -> None:
        """Take the validation loss after `done` steps into account."""
        if self.plateau is not None and done > self.warmup:
            self.plateau.step(val_loss)

    def state_dict(self) -> dict[str, Any]:
        """The state that follows neither from the optimizer's state nor from the number of steps."""
        if self.plateau is None:
            return {}
        return {name: getattr(self.plateau, name) for name in ("best", "num_bad_epochs", "last_epoch")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` gave."""
        if self.plateau is not None:
            self.plateau.load_state_dict(state)
