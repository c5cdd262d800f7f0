"""The packed databases as batches for the stages."""

from pathlib import Path

from torch.utils.data import DataLoader

from imagedb import ImageDatabase
from models.storage import ModelInfo
from stages.cli import require
from stages.params import Params
from training.augment import eval_transform, train_transform
from training.data import Pixels, TrainingBatches, ordered_batches
from training.recipe import Augmentation

TRAIN = Path("artifacts/db/train.lmdb")
VAL = Path("artifacts/db/val.lmdb")


def open_database(path: Path, params: Params) -> ImageDatabase:
    """The database at `path`.

    Raises:
        ValueError: If its classes are not as many as model.num_classes.
    """
    database = ImageDatabase(require(path, "make pack"))
    if len(database.class_names) != params.model.num_classes:
        raise ValueError(
            f"{path} has {len(database.class_names)} classes, but model.num_classes is {params.model.num_classes}"
        )
    return database


def check_model(path: str | Path, info: ModelInfo, params: Params) -> None:
    """Make sure that a model file is for the pictures that `params` describe.

    Raises:
        ValueError: Naming the file and the value that differs.
    """
    described = {
        "image_size": ("input.size", params.input.size),
        "color_space": ("input.color_space", params.input.color_space),
        "num_classes": ("model.num_classes", params.model.num_classes),
    }
    for name, (parameter, value) in described.items():
        if getattr(info, name) != value:
            raise ValueError(f"{path} has {name} {getattr(info, name)}, but {parameter} is {value}")


def training_batches(params: Params, augment: Augmentation, batch_size: int) -> TrainingBatches:
    """Shuffled, augmented training batches."""
    pixels = Pixels(open_database(TRAIN, params), train_transform(augment, params.input), params.seed)
    return TrainingBatches(pixels, batch_size, params.machine.workers)


def plain_batches(params: Params, path: Path = VAL, images: int | None = None) -> DataLoader:
    """`images` evenly spaced records of a database (all if None) in order, with the validation transform."""
    pixels = Pixels(open_database(path, params), eval_transform(params.input))
    return ordered_batches(pixels, params.validation.batch_size, params.machine.workers, images)
