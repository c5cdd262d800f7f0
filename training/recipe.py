"""The hyperparameters of a training run."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from pixels.augmentation import Augmentation
from pixels.section import Section


def _from_the_start(sizes: dict[int, int]) -> dict[int, int]:
    if 1 not in sizes:
        raise ValueError(f"{sizes} is not allowed, one size must be that of epoch 1")
    return sizes


class Optimization(Section):
    """How the weights move: linear warm-up, then a schedule; weight decay is on weights only."""

    optimizer: Literal["sgd", "nesterov", "adamw", "lamb"]
    momentum: float = Field(ge=0, lt=1, description="of sgd and nesterov")
    weight_decay: float = Field(ge=0)
    schedule: Literal["cosine", "step", "plateau", "constant"] = Field(description="of the lr after the warm-up")
    decay_epochs: float = Field(gt=0, description="of step: epochs from one decay to the next; of plateau: patience")
    decay_rate: float = Field(gt=0, lt=1, description="by which step and plateau multiply the lr")
    warmup_epochs: float = Field(ge=0)
    loss: Literal["cross_entropy", "binary_cross_entropy"]
    target_threshold: float | None = Field(
        gt=0, lt=1, description="of binary_cross_entropy: shares of a label above it count as 1; null: as they are"
    )
    label_smoothing: float = Field(ge=0, lt=1)
    mixup: float = Field(ge=0, description="alpha of the Beta distribution that pictures are mixed by; 0: none")
    cutmix: float = Field(ge=0, description="the same of pasted rectangles; with both, chance takes one for a batch")
    clip_grad: float | None = Field(gt=0, description="greatest norm of all gradients together; null: any")
    accumulate: int = Field(ge=1, description="parts of a process's share of a batch that are computed one by one")
    ema_decay: float | None = Field(ge=0, lt=1, description="of the average of the weights, per step; null: none")
    processes: int = Field(ge=1, description="that share each batch, one on each GPU")


class Recipe(Optimization):
    """One training run; with `epochs: 0` the start is scored and kept."""

    lr: float = Field(gt=0)
    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1, description="of all processes together")

    @property
    def parts(self) -> int:
        """Into how many equal parts a batch is split, by processes and by accumulation."""
        return self.processes * self.accumulate

    @property
    def mixes(self) -> bool:
        """Whether pictures and labels of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be below epochs {self.epochs}")
        unit = self.parts * (2 if self.mixes or self.parts > 1 else 1)
        if self.batch_size % unit:
            pairs = " of pairs" if unit > self.parts else ""
            raise ValueError(
                f"batch_size {self.batch_size} is not allowed, must be a multiple of {unit}: processes "
                f"{self.processes} times accumulate {self.accumulate}, and parts{pairs}"
            )
        return self


class Start(Section):
    """Trained weights to start from."""

    file: str = Field(description="safetensors or PyTorch file of timm, torchvision or this repository")
    sha256: str = Field(description="of that file, so that another one is not taken for it")
    new_layers: tuple[str, ...] = Field(description="layers that keep their random weights, e.g. [head.classifier]")


class FineTuning(Section):
    """Where float training starts, and which layers it leaves as they are."""

    init_from: Start | None
    freeze: tuple[str, ...] = Field(description="layers whose weights and BatchNorm statistics stay as they are")


class FloatTraining(Optimization, FineTuning):
    """What float training adds to an optimization: a start, frozen layers, pictures that grow."""

    sizes: Annotated[dict[PositiveInt, PositiveInt], AfterValidator(_from_the_start)] | None = Field(
        description="size of the training pictures by the first epoch that has it; null: input.size throughout"
    )


class QatRecipe(Recipe):
    """Quantization-aware training: a recipe with pictures and a teacher of its own."""

    augment: Augmentation
    distill: float = Field(ge=0, le=1, description="weight of the teacher in the loss; the labels' is 1 - distill")
    temperature: float = Field(gt=0, description="of the softmax in which teacher and student are compared")
