"""Parameters: what the network sees of an image, and how training changes images at random."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pixels.section import HueStrength, Proportion, Ratio, Section, Strength
from storage.errors import InputError


def _ascending(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise InputError(f"{list(values)} is not allowed, the smaller value comes first")
    return values


def _function(name: str | None) -> str | None:
    if name is not None and ":" not in name:
        raise InputError(f"{name} is not allowed, must be FILE.py:FUNCTION, such as nets/noise.py:noise")
    return name


class InputFormat(Section):
    """The network's input: `size` x `size` pixels in `color_space`, each 8-bit value p as (p - 128) / 128."""

    size: int = Field(ge=1, description="pixels of each side, a multiple of the network's stride")
    color_space: Literal["yuv444", "rgb"] = Field(description="yuv444: full-range BT.601, as JPEG encoders compute it")
    resize: int | None = Field(ge=1, description="short side before the centre crop of validation; null: not resized")
    resample: Literal["bilinear", "bicubic"] = Field(description="filter of all resizing, as Pillow computes it")


class Augmentation(Section):
    """Random changes of training images."""

    crop: Literal["resized", "padded"] = Field(description="RandomResizedCrop, or a shift by a few pixels")
    crop_scale: Annotated[tuple[Proportion, Proportion], AfterValidator(_ascending)] = Field(
        description="area of a resized crop, as a fraction of the image"
    )
    crop_ratio: Annotated[tuple[Ratio, Ratio], AfterValidator(_ascending)] = Field(
        description="width / height of a resized crop"
    )
    crop_padding: int = Field(ge=0, description="pixels added on each side before a padded crop")
    flip: float = Field(ge=0, le=1, description="probability of a horizontal flip")
    color_jitter: tuple[Strength, Strength, Strength, HueStrength] = Field(
        description="greatest change of brightness, contrast, saturation, hue"
    )
    policy: Literal["trivial_augment", "rand_augment", "auto_augment"] | None = Field(
        description="operations of torchvision on the RGB pixels; null: none"
    )
    policy_operations: int = Field(ge=1, description="of rand_augment: operations per image, one after the other")
    policy_magnitude: int = Field(ge=0, le=30, description="of rand_augment: their strength, up to 30")
    extra: Annotated[str | None, AfterValidator(_function)] = Field(
        description="FILE.py:FUNCTION of yours on the RGB pixels, after the policy, docs/extending.md; null: none"
    )
    erase: float = Field(ge=0, le=1, description="probability that a random rectangle becomes grey")
