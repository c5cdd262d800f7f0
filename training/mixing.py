"""Mixup (https://arxiv.org/abs/1710.09412) and CutMix (https://arxiv.org/abs/1905.04899) of the pictures of a batch."""

import numpy as np
from timm.data import Mixup
from torch import Tensor

from pixels.seeds import derive_seed
from training.recipe import Recipe


class Mixing:
    """timm's Mixup in its mode "batch": a picture is mixed with the one that stands as far from the batch's end.

    `pixels.batches.Share` splits a batch so that both are in one part. What is drawn depends on the seed, the epoch and
    the step alone, so that all parts of a batch are mixed alike.

    Args:
        recipe: With `mixup` or `cutmix` above 0.
        num_classes: Length of a label.
    """

    def __init__(self, recipe: Recipe, num_classes: int):
        self.mixup = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=num_classes)

    def __call__(self, x: Tensor, labels: Tensor, *drawn_from: int) -> tuple[Tensor, Tensor]:
        """Mix, in place.

        Args:
            x: float32 [batch, 3, size, size], an even number of pictures.
            labels: int64 [batch].
            drawn_from: Seed, epoch and step.

        Returns:
            `x`, and smoothed probabilities of classes, float32 [batch, classes].
        """
        np.random.seed(derive_seed(*drawn_from) % 2**32)
        return self.mixup(x, labels)
