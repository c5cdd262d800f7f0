"""The hyperparameters of a training run."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """A block of parameters: read once, never changed, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switches(cls, value):
        if isinstance(value, bool):
            raise ValueError(f"{str(value).lower()} is not allowed, no parameter is a switch")
        return value


def _ascending(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"{list(values)} is not allowed, the smaller value comes first")
    return values


Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]
Strength = Annotated[float, Field(ge=0)]
HueStrength = Annotated[float, Field(ge=0, le=0.5)]


class Optimization(Section):
    """SGD with momentum, linear warm-up per step, then a cosine to zero; weight decay on weights only."""

    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_epochs: float = Field(ge=0)
    label_smoothing: float = Field(ge=0, lt=1)


class Recipe(Optimization):
    """One training run."""

    lr: float = Field(gt=0)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)

    @model_validator(mode="after")
    def _warmup_ends(self):
        if self.warmup_epochs >= self.epochs:
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
