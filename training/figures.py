"""The figures of a training run in its history, log and curves: losses in nats, top-1 in percent."""

from typing import NotRequired, TypedDict


class Figures(TypedDict):
    """Means over the training images of the epoch so far, and the learning rate."""

    train_loss: float
    train_top1: float
    lr: float


class Row(TypedDict):
    """The figures of one epoch; epoch 0 is the initial model, without training figures."""

    epoch: int
    train_loss: NotRequired[float]
    train_top1: NotRequired[float]
    lr: NotRequired[float]
    val_loss: float
    val_top1: float
