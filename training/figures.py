"""The figures of a training run, as its history, its log and its curves have them: losses in nats, top-1 in percent."""

from typing import NotRequired, TypedDict


class Figures(TypedDict):
    """Of the training pictures of an epoch, means over what has been of it, and the learning rate."""

    train_loss: float
    train_top1: float
    lr: float


class Row(TypedDict):
    """Of an epoch; epoch 0 is the start, in which nothing is trained."""

    epoch: int
    train_loss: NotRequired[float]
    train_top1: NotRequired[float]
    lr: NotRequired[float]
    val_loss: float
    val_top1: float
