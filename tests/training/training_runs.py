"""A small network, its recipe and its batches."""

import torch
from torch import nn

from pixels.augmentation import InputFormat
from pixels.batches import BatchPartition, Pixels, TrainingBatches
from pixels.views import center_views
from training.recipe import Recipe

FORMAT = InputFormat(size=8, color_space="rgb", resize=None, resample="bilinear")
STEPS = 3  # per epoch, each of 8 of the 26 images


def recipe(**changes) -> Recipe:
    values = {"lr": 0.1, "epochs": 4, "momentum": 0.9, "weight_decay": 0.01, "warmup_epochs": 1, "label_smoothing": 0.1}
    values |= {"optimizer": "sgd", "schedule": "cosine", "clip_grad": None, "ema_decay": None}
    values |= {"decay_epochs": 1, "decay_rate": 0.5, "loss": "cross_entropy", "mixup": 0, "cutmix": 0}
    values |= {"target_threshold": None}
    return Recipe(batch_size=8, accumulate=1, processes=1, **values | changes)


def network(seed=0, dropout=0.5) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(144, 3)
    )


def batches(database, workers=0, partition=None) -> TrainingBatches:
    pixels = Pixels(database, center_views(FORMAT), FORMAT, seed=5)
    return TrainingBatches(pixels, 8, workers, partition=partition or BatchPartition())
