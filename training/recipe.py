"""The hyperparameters of a training run."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from pixels.augmentation import Augmentation
from pixels.section import Section
from storage.errors import InputError


def _from_the_start(sizes: dict[int, int]) -> dict[int, int]:
    if 1 not in sizes:
        raise InputError(f"{sizes} is not allowed, epoch 1 must have a size")
    return sizes


class Steps(Section):
    """The size and the number of the steps."""

    lr: float = Field(gt=0, description="greatest learning rate, at the end of the warm-up")
    epochs: int = Field(ge=0, description="passes over the training images; 0: the initial weights are scored and kept")
    batch_size: int = Field(ge=1, description="images per step, of all processes together")


class Optimization(Section):
    """How the weights are optimized."""

    optimizer: Literal["sgd", "nesterov", "adamw", "lamb"] = Field(description="as timm makes it")
    momentum: float = Field(ge=0, lt=1, description="of sgd and nesterov")
    weight_decay: float = Field(ge=0, description="on weights only, not on biases and BatchNorm")
    schedule: Literal["cosine", "step", "plateau", "constant"] = Field(
        description="of the learning rate after the warm-up; cosine ends at zero"
    )
    decay_epochs: float = Field(
        gt=0,
        description="step: epochs from one decay to the next; plateau: patience in epochs without a lower loss",
    )
    decay_rate: float = Field(gt=0, lt=1, description="factor by which step and plateau multiply the learning rate")
    warmup_epochs: float = Field(
        ge=0,
        description="length of the warm-up, in which the learning rate grows from zero; at most half of the epochs",
    )
    loss: Literal["cross_entropy", "binary_cross_entropy"] = Field(
        description="one over all classes, or the sum of one for each class"
    )
    target_threshold: float | None = Field(
        gt=0,
        lt=1,
        description="of binary_cross_entropy: shares of a label above it count as 1, others as 0; null: unchanged",
    )
    label_smoothing: float = Field(ge=0, lt=1, description="share of a label that all classes get alike")
    mixup: float = Field(
        ge=0, description="alpha of the Beta distribution, e.g. 0.2, that mixes two images and their labels; 0: none"
    )
    cutmix: float = Field(
        ge=0,
        description="the same, e.g. 1, for pasting a rectangle of another image; with both, each batch gets either",
    )
    clip_grad: float | None = Field(gt=0, description="greatest norm of all gradients together; null: no limit")
    accumulate: int = Field(
        ge=1, description="parts in which a batch is computed, to save memory; BatchNorm sees one at a time"
    )
    ema_decay: float | None = Field(
        ge=0,
        lt=1,
        description="per step, e.g. 0.999, of an average of the weights, which is then scored and kept; null: none",
    )
    processes: int = Field(
        ge=1, description="processes that share each batch, one on each GPU; on several machines: docs/training.md"
    )


class Recipe(Steps, Optimization):
    """One training run."""

    @property
    def parts(self) -> int:
        """The number of equal parts of a batch, over all processes and all steps of accumulation."""
        return self.processes * self.accumulate

    @property
    def warmup(self) -> float:
        """Epochs of the warm-up: at most half of them, so that a run of few epochs has others, too."""
        return min(self.warmup_epochs, self.epochs / 2)

    @property
    def mixes(self) -> bool:
        """Whether images and labels of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        unit = self.parts * (2 if self.mixes or self.parts > 1 else 1)
        if self.batch_size % unit:
            pairs = " of pairs" if unit > self.parts else ""
            raise InputError(
                f"batch_size {self.batch_size} is not allowed, must be a multiple of {unit}: processes "
                f"{self.processes} times accumulate {self.accumulate}, and parts{pairs}"
            )
        return self


class Start(Section):
    """Trained weights to start from."""

    file: str = Field(
        description="safetensors or PyTorch file of weights, or the checkpoint of a trainer, docs/networks.md"
    )
    sha256: str = Field(description="of that file, so that no other file is used")
    new_layers: tuple[str, ...] = Field(description="layers that keep their random weights, e.g. [head.classifier]")


class FineTuning(Section):
    """The weights that float training starts from, and the layers that do not change."""

    init_from: Start | None = Field(
        description="e.g. {file: weights/resnet18.safetensors, sha256: 5c10…, new_layers: [fc]}; null: random weights"
    )
    freeze: tuple[str, ...] = Field(
        description="layers whose weights and BatchNorm statistics stay as they are, e.g. [stem, stages.0]"
    )


class FloatTraining(Optimization, FineTuning):
    """An optimization with initial weights, frozen layers, and images whose size depends on the epoch."""

    sizes: Annotated[dict[PositiveInt, PositiveInt], AfterValidator(_from_the_start)] | None = Field(
        description="size of the training images from an epoch on, e.g. {1: 16, 8: 24}; null: input.size"
    )


class QatRecipe(Recipe):
    """The recipe of quantization-aware training, with its augmentation and distillation."""

    augment: Augmentation
    distill: float = Field(
        ge=0, le=1, description="weight of the float model's logits in the loss; the labels have the rest"
    )
    temperature: float = Field(gt=0, description="of the softmax that compares the logits")
