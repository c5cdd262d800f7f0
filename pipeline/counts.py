"""The counts of images in params.yaml beside those that there are: all are looked at at once, before training.

It decides whether training starts, and nothing of what training gives: `pipeline.code` leaves it out of the code that
results depend on.
"""

from collections.abc import Iterator

from imagedb.reader import ImageDatabase
from pipeline.framing import warn_of_views
from pipeline.params import Params
from pipeline.paths import require
from pipeline.splits import database_path
from storage.errors import InputError
from training.distributed import own_rank


def look_ahead(params: Params) -> None:
    """Compare the counts of params.yaml with those of the databases, and the network's view with the images.

    It prints which counts come to all images that there are, and warns of images that the view does not fit.

    Raises:
        InputError: If a batch is larger than the training split; names each key.
    """
    if own_rank(params.train.processes):
        return  # one of several processes is enough
    train, val = (ImageDatabase(require(database_path(params, split), "make pack")) for split in ("train", "val"))
    refuse_large_batches(params, len(train))
    for line in all_used(params, len(train), len(val)):
        print(line)
    warn_of_views(train, params)


def refuse_large_batches(params: Params, train: int) -> None:
    """Raise InputError if a batch of either training is larger than `train` images."""
    batches = {
        "batch_size": params if params.epochs else None,
        "qat.batch_size": params.qat if params.qat.epochs else None,
    }
    large = [f"{key} {steps.batch_size}" for key, steps in batches.items() if steps and steps.batch_size > train]
    if large:
        raise InputError(f"there are {train} training images, fewer than {' and '.join(large)}: set {train} or less")


def all_used(params: Params, train: int, val: int) -> Iterator[str]:
    """A line for each split that has fewer images than counts of params.yaml ask for, which then come to all of it."""
    calibrate = params.calibrate.model_dump(include={"images", "refinement", "bias_correction", "reconstruction"})
    compare = params.compare.model_dump(include={"images", "intermediate_images"})
    of_val = {
        "compare": compare,
        "golden": {"images": params.golden.images},
        "report": {"images": params.report.images},
    }
    for split, there_are, blocks in (("training", train, {"calibrate": calibrate}), ("validation", val, of_val)):
        counts = {f"{block}.{key}": count for block, keys in blocks.items() for key, count in keys.items()}
        more = [f"{key} ({count})" for key, count in counts.items() if count and count > there_are]
        if more:
            yield f"there are {there_are} {split} images, and all are used for {', '.join(more)}"
