"""The training loop of float training and of quantization-aware training alike."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

from training.augment import derive_seed, normalize
from training.checkpoint import Checkpoint
from training.data import TrainingBatches
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
    validate: Callable[[nn.Module], dict[str, float]],
    checkpoint: Checkpoint,
    report: Callable[[dict[str, float]], None] = lambda row: None,
    progress: Callable[[Iterable, int, str], Iterable] = lambda steps, total, label: steps,
) -> Fitted:
    """Train `model` in place; a run that was interrupted goes on after its last whole epoch, to the same bytes.

    Args:
        model: On the device to train on; its input is float32 [batch, 3, size, size].
        recipe: Optimizer, schedule and loss.
        batches: Training images.
        validate: Scores the model after each epoch; its `top1` decides which weights are best.
        checkpoint: Where the state of this very run is kept.
        report: Called with each row of the history in turn, the rows of an interrupted run included.
        progress: Wraps the steps of an epoch, given their number and a label.

    Raises:
        ValueError: If the loss is no longer finite, naming epoch and step.
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(
        model, opt="momentum", lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    warmup = round(recipe.warmup_epochs * batches.steps)
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=recipe.epochs * batches.steps - warmup,
        warmup_t=warmup,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    state = checkpoint.load() or {"epoch": 0, "best": None, "history": []}
    if state["epoch"]:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    best, history = state["best"], state["history"]
    for row in history:
        report(row)

    for epoch in range(state["epoch"], recipe.epochs):
        torch.manual_seed(derive_seed(batches.seed, epoch, -1))  # for what draws in the forward pass, such as dropout
        model.train()
        total = torch.zeros((), dtype=torch.float64)
        for step, (pixels, labels) in enumerate(
            progress(batches.epoch(epoch), batches.steps, f"epoch {epoch + 1}/{recipe.epochs}")
        ):
            schedule.step_update(epoch * batches.steps + step)
            x = normalize(pixels.to(device, non_blocking=True)).contiguous(memory_format=torch.channels_last)
            loss = loss_of(model(x), labels.to(device, non_blocking=True))
            if not math.isfinite(loss.item()):
                raise ValueError(f"the loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}: lower the lr")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        model.eval()
        scores = validate(model)
        row = {"train_loss": round(float(total) / batches.steps, 6), "lr": optimizer.param_groups[0]["lr"]}
        row |= {"val_loss": scores["loss"], "val_top1": scores["top1"]}
        if not history or row["val_top1"] > max(past["val_top1"] for past in history):
            best = _weights(model)
        history.append(row)
        checkpoint.save(
            {
                "epoch": epoch + 1,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "best": best,
                "history": history,
            }
        )
        report(row)
    return Fitted(best, _weights(model), history)


def _weights(model: nn.Module) -> Weights:
    return {name: copy.deepcopy(value.detach().cpu().contiguous()) for name, value in model.state_dict().items()}
