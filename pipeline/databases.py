"""The packed databases as batches for the stages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from imagedb.class_names import difference, look_alike
from imagedb.reader import ImageDatabase
from pipeline.draw import draw
from pipeline.params import Params
from pipeline.paths import require
from pipeline.splits import Split, database_path
from pixels.augmentation import Augmentation, InputFormat
from pixels.batches import WHOLE_BATCH, BatchPartition, OrderedBatches, Pixels, Renderer, TrainingBatches
from pixels.extra import Change
from pixels.views import center_views, random_views
from storage.errors import InputError
from storage.model_file import ModelInfo


def open_database(params: Params, split: Split, labelled: bool = True) -> ImageDatabase:
    """The database of a split.

    Args:
        labelled: Whether its labels are used: images that only calibrate need none.

    Raises:
        InputError: If labels are used, and it has annotations in their place, or another number of classes than
            model.num_classes.
    """
    path = database_path(params, split)
    database = ImageDatabase(require(path, "make pack"))
    count, expected = len(database.class_names), params.model.num_classes
    if labelled and database.header.annotated:
        raise InputError(f"{path} holds annotations, and networks are trained and scored on labels")
    if labelled and expected and count != expected:
        alike = look_alike(database.class_names)
        fewer = "classes without images can be named in a list's classes.txt, docs/data.md" if count < expected else ""
        hint = alike or fewer
        raise InputError(
            f"{path} has {count} classes, but model.num_classes is {expected}" + (f"; {hint}" if hint else "")
        )
    return database


def check_same_classes(one: ImageDatabase, other: ImageDatabase) -> None:
    """Make sure that a label means the same in two databases.

    Raises:
        InputError: If it does not; names classes that only one of them has.
    """
    if one.class_names != other.class_names:
        how = difference(one.class_names, other.class_names)
        raise InputError(f"{one.path} and {other.path} have different classes: {how}")


def check_model(path: str | Path, info: ModelInfo, params: Params) -> None:
    """Make sure that a model file is for the images that `params` describe.

    Raises:
        InputError: If it is not; names the file and the value that differs.
    """
    described = {
        "image_size": ("input.size", params.input.size),
        "color_space": ("input.color_space", params.input.color_space),
        "resample": ("input.resample", params.input.resample),
        "num_classes": ("model.num_classes", params.model.num_classes),
    }
    for name, (parameter, value) in described.items():
        if value is not None and getattr(info, name) != value:
            raise InputError(f"{path} has {name} {getattr(info, name)}, but {parameter} is {value}")


def training_batches(
    params: Params,
    augment: Augmentation,
    batch_size: int,
    partition: BatchPartition = WHOLE_BATCH,
    sizes: Mapping[int, int] | None = None,
    change: Change | None = None,
) -> dict[int, TrainingBatches]:
    """Shuffled, augmented training batches, which are decoded where execution.decode says.

    Args:
        partition: The parts of each batch that this process computes.
        sizes: Image size by the first epoch that has it; None: input.size in all epochs.
        change: That of `augment.extra`, if there is one.

    Returns:
        The batches of each size, by its first epoch.
    """
    database = open_database(params, "train")

    def of_size(size: int) -> TrainingBatches:
        input_format = params.input.model_copy(update={"size": size})
        pixels = Pixels(database, random_views(augment, params.input, size, change), input_format, params.seed)
        renderer = _device_renderer(input_format) if params.execution.decode == "cuda" else None
        return TrainingBatches(pixels, batch_size, params.machine.workers, renderer, partition)

    return {first: of_size(size) for first, size in (sizes or {1: params.input.size}).items()}


def plain_batches(
    params: Params, split: Split = "val", images: int | None = None, partition: BatchPartition = WHOLE_BATCH
) -> OrderedBatches:
    """`images` drawn records (None: all) in order, as validation sees them; only those of `partition`.

    The training split as validation sees it calibrates and nothing else, so that its labels do not count.
    """
    pixels = Pixels(open_database(params, split, labelled=split == "val"), center_views(params.input), params.input)
    indices = None if images is None else draw(pixels.database, images).indices
    return OrderedBatches(pixels, params.validation.batch_size, params.machine.workers, indices, partition)


def chosen_images(params: Params, indices: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Validation records by their numbers: pixels uint8 [images, 3, size, size], as validation sees them, and labels.

    Raises:
        InputError: If the database has no such record.
    """
    found = Pixels(open_database(params, "val"), center_views(params.input), params.input)
    for index in indices:
        if not 0 <= index < len(found.database):
            raise InputError(f"{found.database.path} has no record {index}, only 0 to {len(found.database) - 1}")
    pixels, labels = zip(*(found[0, index] for index in indices), strict=True)
    return torch.stack(pixels), list(labels)


def _device_renderer(input_format: InputFormat) -> Renderer:
    from pixels.gpu import DeviceRenderer  # it imports torchvision, which nothing else here needs

    return DeviceRenderer(input_format, torch.device("cuda", torch.cuda.current_device()))
