"""Mixup (https://arxiv.org/abs/1710.09412) and CutMix (https://arxiv.org/abs/1905.04899) of the images of a batch."""

import numpy as np
from timm.data import Mixup
from torch import Tensor

from pixels.seeds import derive_seed
from training.recipe import Recipe


class Mixing:
    """timm's Mixup in its mode "batch": image i from the start of a batch is mixed with image i from its end.

    `pixels.batches.BatchPartition` splits a batch so that both are in one part. The random draws depend only on seed,
    epoch and step, so all parts of a batch are mixed alike.

    Args:
        recipe: A recipe with `mixup` or `cutmix` above 0.
        num_classes: Number of classes.
    """

    def __init__(self, recipe: Recipe, num_classes: int):
        self.mixup = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=num_classes)

    def __call__(self, x: Tensor, labels: Tensor, *drawn_from: int) -> tuple[Tensor, Tensor]:
        """Mix in place.

        Args:
            x: float32 [batch, 3, size, size], with an even number of images.
            labels: int64 [batch].
            drawn_from: Seed, epoch and step, which determine the draws.

        Returns:
            `x`, and the smoothed probabilities of the classes, float32 [batch, classes].
        """
        np.random.seed(derive_seed(*drawn_from) % 2**32)
        return self.mixup(x, labels)
