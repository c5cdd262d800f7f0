"""Parameters: where the images come from, and how they are stored."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pixels.section import Section
from storage.errors import InputError


class Splits(Section):
    train: str = Field(description="the source's name of the training split")
    val: str = Field(description="the source's name of the validation split")


class Encode(Section):
    """How images are stored: unchanged, or encoded again; they may become smaller, never larger."""

    type: Literal["original", "resized", "raw"] = Field(
        description="unchanged bytes, encoded again at `size`, or bare pixels"
    )
    side: Literal["short", "long"] = Field(description="the side that `size` limits")
    size: int | None = Field(ge=1, description="greatest length of that side in pixels; null: no limit")
    format: Literal["jpeg", "png", "webp"] = Field(description="of resized")
    quality: int = Field(ge=1, le=100, description="of jpeg and webp")

    @model_validator(mode="after")
    def _size_belongs_to_another_type(self) -> Self:
        if (self.size is None and self.type == "resized") or (self.size is not None and self.type == "original"):
            needs = "has size null" if self.size else "needs a size"
            raise InputError(f"size {self.size or 'null'} does not go with type {self.type}, which {needs}")
        return self


class Pack(Section):
    """Where the images come from, and how they are stored."""

    source: Literal[
        "torchvision", "folder", "imagenet", "list", "voc", "coco", "cityscapes", "reference", "database"
    ] = Field(description="docs/data.md")
    dataset: str | None = Field(description="class in torchvision.datasets; null for other sources")
    root: str = Field(description="folder or file of the source")
    splits: Splits
    format: Literal["lmdb", "recordio"] = Field(description="of the databases; recordio is MXNet's")
    encoding: Encode
    on_bad_image: Literal["error", "skip", "keep"] = Field(
        description="keep: truncated JPEG files alone; metrics/pack_*.json names all bad images"
    )
    overlap: Literal["report", "refuse"] = Field(
        description="validation images that are in train, too; metrics/overlap.json names them"
    )
