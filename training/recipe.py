"""The hyperparameters of a training run."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """A block of parameters: read once, never changed, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switches(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(f"{str(value).lower()} is not allowed, no parameter is a switch")
        return value


def _ascending(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"{list(values)} is not allowed, the smaller value comes first")
    return values


Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]
Strength = Annotated[float, Field(ge=0, le=1)]
HueStrength = Annotated[float, Field(ge=0, le=0.5)]


class Optimization(Section):
    """How the weights move: linear warm-up, then a schedule, step by step; weight decay is on weights only."""

    optimizer: Literal["sgd", "nesterov", "adamw", "lamb"]
    momentum: float = Field(ge=0, lt=1, description="of sgd and nesterov")
    weight_decay: float = Field(ge=0)
    schedule: Literal["cosine", "constant"] = Field(description="of the learning rate after the warm-up")
    warmup_epochs: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)
    clip_grad: float | None = Field(gt=0, description="greatest norm of all gradients together; null: any")
    ema_decay: float | None = Field(ge=0, lt=1, description="of the average of the weights, per step; null: none")


class Recipe(Optimization):
    """One training run; with `epochs: 0` the start is scored and kept."""

    lr: float = Field(gt=0)
    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1)

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} must be below epochs {self.epochs}")
        return self


class InputFormat(Section):
    """What the network sees: `size` x `size` pixels in `color_space`, each 8-bit value p as (p - 128) / 128."""

    size: int = Field(ge=1)
    color_space: Literal["yuv444", "rgb"]
    resize: int | None = Field(ge=1, description="short side before the centre crop of validation; null: as it is")


class Augmentation(Section):
    """Random changes of a training picture."""

    crop: Literal["resized", "padded"]
    crop_scale: Annotated[tuple[Share, Share], AfterValidator(_ascending)] = Field(
        description="area of a resized crop, as a share of the picture"
    )
    crop_ratio: Annotated[tuple[Ratio, Ratio], AfterValidator(_ascending)] = Field(
        description="width / height of a resized crop"
    )
    crop_padding: int = Field(ge=0, description="pixels added on each side before a padded crop")
    flip: float = Field(ge=0, le=1, description="probability of a horizontal flip")
    color_jitter: tuple[Strength, Strength, Strength, HueStrength] = Field(
        description="brightness, contrast, saturation, hue"
    )


class QatRecipe(Recipe):
    """Quantization-aware training: a recipe with pictures and a teacher of its own."""

    augment: Augmentation
    distill: float = Field(ge=0, le=1, description="weight of the teacher in the loss; the labels' is 1 - distill")
    temperature: float = Field(gt=0, description="of the softmax in which teacher and student are compared")
