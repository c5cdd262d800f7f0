"""Batches from an image database: the same ones for every number of workers, and after every interruption."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imagedb import ImageDatabase
from training.augment import derive_seed, render, seeded_generator
from training.device import DeviceRenderer, Encoded, collate
from training.recipe import InputFormat
from training.views import Views


class Pixels(Dataset):
    """Records of a database as (uint8 [3, size, size], label), by draws from (seed, epoch, index) alone."""

    def __init__(self, database: ImageDatabase, views: Views, input_format: InputFormat, seed: int = 0):
        self.database = database
        self.views = views
        self.input_format = input_format
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        record = self.database[index]
        try:
            generator = seeded_generator(self.seed, epoch, index)
            return render(record.image, self.views, self.input_format, generator), record.label
        except ValueError as error:
            raise ValueError(f"{self.database.path}: record {index} ({record.name}): {error}") from None


class TrainingBatches:
    """Shuffled batches, epoch by epoch.

    Args:
        pixels: What to read.
        batch_size: Images in a batch; the last, smaller one of an epoch is dropped.
        workers: Processes that read; changes no batch.
        renderer: What makes pixels of encoded images; None: the workers do, on the CPU.

    Raises:
        ValueError: If there are fewer images than one batch.
    """

    def __init__(self, pixels: Pixels, batch_size: int, workers: int, renderer: DeviceRenderer | None = None):
        self.count = len(pixels.database)
        if self.count < batch_size:
            raise ValueError(f"a batch of {batch_size} images is more than the {self.count} in the training database")
        self.seed = pixels.seed
        self.batch_size = batch_size
        self.order = _Order()  # of the current epoch, so that workers need no state of their own
        self.renderer = renderer
        options = {"collate_fn": collate} if renderer else {}
        dataset = Encoded(pixels) if renderer else pixels
        self.loader = _loader(dataset, self.order, workers, persistent_workers=workers > 0, **options)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.count // self.batch_size

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch: uint8 [batch, 3, size, size] and int64 [batch]."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        self.order.epoch = epoch
        self.order.batches = torch.randperm(self.count, generator=generator).split(self.batch_size)[: self.steps]
        return map(self.renderer, self.loader) if self.renderer else iter(self.loader)


def ordered_batches(pixels: Pixels, batch_size: int, workers: int, images: int | None = None) -> DataLoader:
    """Records in order: uint8 [batch, 3, size, size] and int64 [batch].

    Args:
        pixels: What to read.
        batch_size: Images in a batch; the last one may be smaller.
        workers: Processes that read; changes no batch.
        images: How many, evenly spaced, since a database may be sorted by class; None for all.

    Raises:
        ValueError: If the database holds fewer images.
    """
    count = len(pixels.database)
    if images is not None and images > count:
        raise ValueError(f"{pixels.database.path} holds {count} images, fewer than the {images} that are asked for")
    indices = [i * count // images for i in range(images)] if images is not None else range(count)
    batches = [[(0, i) for i in indices[start : start + batch_size]] for start in range(0, len(indices), batch_size)]
    return _loader(pixels, batches, workers)


class _Order:
    """The keys of each batch of an epoch, made when they are needed: a list of all of them would be large."""

    epoch: int = 0
    batches: Sequence[Tensor] = ()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return ([(self.epoch, index) for index in batch.tolist()] for batch in self.batches)


def _loader(pixels: Dataset, batches: Iterable[list[tuple[int, int]]], workers: int, **options) -> DataLoader:
    return DataLoader(
        pixels,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # the global one would go on each epoch, or with workers only in the first
        **options,
    )
