"""The training loop of float training and of quantization-aware training alike."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from training.augment import derive_seed, normalize
from training.checkpoint import Checkpoint
from training.data import TrainingBatches
from training.losses import LossOf
from training.recipe import Recipe

Weights = dict[str, Tensor]
History = list[dict[str, float]]


@dataclass(frozen=True)
class Fitted:
    """Weights with the best validation top-1 and those of the last epoch, and one row of figures an epoch."""

    best: Weights
    last: Weights
    history: History


def fit(
    model: nn.Module,
    recipe: Recipe,
    batches: TrainingBatches,
    loss_of: LossOf,
    validate: Callable[[nn.Module], dict[str, float]],
    checkpoint: Checkpoint,
    score_start: bool = False,
    project: Callable[[nn.Module], None] = lambda model: None,
    report: Callable[[dict[str, float]], None] = lambda row: None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda steps, total, label: steps,
) -> Fitted:
    """Train `model` in place; a run that was interrupted goes on after its last whole epoch, to the same bytes.

    With `recipe.ema_decay` the exponential moving average of the weights is what is scored and kept.

    Args:
        model: On the device to train on; its input is float32 [batch, 3, size, size].
        recipe: Optimizer and schedule.
        batches: Training images.
        loss_of: What is minimized.
        validate: Scores a model after each epoch; its `top1` decides which weights are best.
        checkpoint: Where the state of this very run is kept.
        score_start: Whether the model as it is given counts as epoch 0, scored and perhaps the best. It does in any
            case where the recipe has no epochs.
        project: Called with the model after each step of the optimizer, and with the average before it is scored, to
            put weights back, in place, that left what is allowed.
        report: Called with each row of the history in turn, the rows of an interrupted run included.
        progress: Wraps the steps of an epoch, given their number and a label.

    Raises:
        ValueError: If a loss is no longer finite, naming epoch, step and learning rate.
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(
        model,
        opt={"sgd": "momentum"}.get(recipe.optimizer, recipe.optimizer),  # timm's own "sgd" is nesterov
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    schedule = cast(CosineLRScheduler, _schedule(optimizer, recipe, batches.steps) if recipe.epochs else None)
    ema = _average(model, recipe.ema_decay) if recipe.ema_decay else None
    kept = ema.module if ema else model
    first = 0 if score_start or not recipe.epochs else 1
    best: Weights = {}
    history: History = []
    if state := checkpoint.load():
        first, best, history = state["epoch"] + 1, state["best"], state["history"]
        model.load_state_dict(state["model"])
        kept.load_state_dict(state["kept"])
        optimizer.load_state_dict(state["optimizer"])
    for row in history:
        report(row)

    def train(epoch: int) -> dict[str, float]:
        torch.manual_seed(derive_seed(batches.seed, epoch - 1, -1))  # for what draws as it runs, such as dropout
        model.train()
        total = torch.zeros((), dtype=torch.float64)
        steps = progress(batches.epoch(epoch - 1), batches.steps, f"epoch {epoch}/{recipe.epochs}")
        for step, (pixels, labels) in enumerate(steps, 1):
            done = (epoch - 1) * batches.steps + step
            schedule.step_update(done - 1)
            x = normalize(pixels.to(device, non_blocking=True)).contiguous(memory_format=torch.channels_last)
            loss = loss_of(model(x), labels.to(device, non_blocking=True), x)
            _check_finite(loss.item(), f"in epoch {epoch}, step {step}", recipe)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip_grad:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
            optimizer.step()
            project(model)
            if ema:
                ema.update(model, done)
            total += loss.item()
        return {"train_loss": round(float(total) / batches.steps, 6), "lr": optimizer.param_groups[0]["lr"]}

    for epoch in range(first, recipe.epochs + 1):
        row = {"epoch": epoch} | (train(epoch) if epoch else {})
        if ema:
            project(kept)
        kept.eval()
        scores = validate(kept)
        _check_finite(scores["loss"], f"in the validation after epoch {epoch}", recipe)
        row |= {"val_loss": scores["loss"], "val_top1": scores["top1"]}
        if not history or row["val_top1"] > max(past["val_top1"] for past in history):
            best = _weights(kept)
        history.append(row)
        checkpoint.save(
            {
                "epoch": epoch,
                "model": model.state_dict(),
                "kept": kept.state_dict(),
                "optimizer": optimizer.state_dict(),
                "best": best,
                "history": history,
            }
        )
        report(row)
    return Fitted(best, _weights(kept), history)


def _check_finite(loss: float, where: str, recipe: Recipe) -> None:
    if not math.isfinite(loss):
        raise ValueError(f"the loss is {loss} {where}: lower the lr, which is {recipe.lr:g}")


def _schedule(optimizer: Optimizer, recipe: Recipe, steps: int) -> CosineLRScheduler:
    """The learning rate by step, of `steps` an epoch: a line from zero, then a cosine to zero or to itself."""
    warmup = round(recipe.warmup_epochs * steps)
    return CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * steps - warmup,
        lr_min=recipe.lr if recipe.schedule == "constant" else 0,
        warmup_t=warmup,
        warmup_prefix=True,
        t_in_epochs=False,
    )


def _average(model: nn.Module, decay: float) -> ModelEmaV3:
    """The exponential moving average of weights and buffers, whose decay in step 1, 2, ... is min(decay, s / (s + 9)).

    Here s is step - 1, so that the start is forgotten: the warm-up of TensorFlow's ExponentialMovingAverage.
    """
    return ModelEmaV3(model, decay, use_warmup=True, warmup_gamma=9, warmup_power=1)


def _weights(model: nn.Module) -> Weights:
    return {name: copy.deepcopy(value.detach().cpu().contiguous()) for name, value in model.state_dict().items()}
