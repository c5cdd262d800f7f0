"""Batches from an image database: the same ones for every number of workers, and after every interruption.

Workers are threads: decoding and resampling run in C and do not hold Python's lock, and a batch is rendered where it is
used, as opposed to in another process that would have to send it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from imagedb.images import decode_image
from imagedb.parallel import ordered_map
from imagedb.reader import ImageDatabase
from pixels.augmentation import InputFormat
from pixels.colors import float_color_map
from pixels.native import jpeg_size
from pixels.render import render
from pixels.seeds import derive_seed, seeded_generator
from pixels.views import View, Views

Key = tuple[int, int]  # epoch and index of a sample
Item = TypeVar("Item")
Batch = tuple[Tensor, Tensor]  # uint8 [batch, 3, size, size] and labels, int64 [batch]


class EncodedBatch(NamedTuple):
    """Images, each uint8 [bytes] of a JPEG file or [3, height, width] RGB; and what to make of them.

    `colors` is float32 [batch, 3, 7]: matrix, offset and dependence on the mean of `pixels.colors.affine_map`, which
    leads to RGB where a policy follows.
    `names` say which record it is, for messages.
    """

    images: list[Tensor]
    views: list[View]
    colors: Tensor
    labels: Tensor
    names: list[str]


Renderer = Callable[[EncodedBatch], Batch]


class Pixels(Dataset):
    """Records of a database as (uint8 [3, size, size], label), by draws from (seed, epoch, index) alone."""

    def __init__(self, database: ImageDatabase, views: Views, input_format: InputFormat, seed: int = 0):
        self.database = database
        self.views = views
        self.input_format = input_format
        self.seed = seed

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        """Sample `index` of `epoch`.

        Raises:
            ValueError: If the record or its image is damaged, naming it.
        """
        epoch, index = key
        record = self.database[index]
        try:
            generator = seeded_generator(self.seed, epoch, index)
            return render(record.image, self.views, self.input_format, generator), cast(int, record.label)
        except ValueError as error:
            raise ValueError(f"{self.database.path}: record {index} ({record.name}): {error}") from None

    def batch(self, keys: list[Key]) -> Batch:
        """Several samples."""
        pixels, labels = zip(*(self[key] for key in keys), strict=True)
        size = self.input_format.size
        pinned = torch.cuda.is_initialized()
        out = torch.empty(len(keys), 3, size, size, dtype=torch.uint8, pin_memory=pinned)
        return torch.stack(pixels, out=out), torch.tensor(labels, pin_memory=pinned)

    def encoded(self, keys: list[Key]) -> EncodedBatch:
        """Several samples, not yet rendered.

        Raises:
            ValueError: If a record is damaged, naming it.
        """
        images, views, colors, labels, names = [], [], [], [], []
        for epoch, index in keys:
            record = self.database[index]
            names.append(f"{self.database.path}: record {index} ({record.name})")
            if size := jpeg_size(record.image):
                images.append(torch.frombuffer(bytearray(record.image), dtype=torch.uint8))
            else:
                images.append(decode_rgb(record.image, names[-1]))
                size = images[-1].shape[2], images[-1].shape[1]
            views.append(self.views(*size, seeded_generator(self.seed, epoch, index)))
            target = "rgb" if views[-1].operations else self.input_format.color_space
            colors.append(float_color_map(target, views[-1].jitter))
            labels.append(record.label)
        return EncodedBatch(images, views, torch.from_numpy(np.stack(colors)).float(), torch.tensor(labels), names)


def decode_rgb(image: bytes, name: str) -> Tensor:
    """The pixels of an encoded image, uint8 [3, height, width].

    Raises:
        ValueError: If it is damaged, saying that it is `name`.
    """
    try:
        return torch.from_numpy(np.array(decode_image(image, tolerant=True))).permute(2, 0, 1)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


@dataclass(frozen=True)
class Share:
    """Which parts of each batch are one process's: `accumulate` of `processes * accumulate`, one after the other.

    A part holds pictures of the batch and those as far from its end, in the order of the batch, so that both of a pair
    that `training.mixing` mixes are in it, and in the places where mixing the part alone finds them.
    """

    rank: int = 0
    processes: int = 1
    accumulate: int = 1

    def numbers(self) -> range:
        """The numbers of this process's parts among all of a batch."""
        return range(self.rank * self.accumulate, (self.rank + 1) * self.accumulate)

    def of(self, batch: list[Item]) -> list[list[Item]]:
        """This process's parts, each as long as the others."""
        count, parts = len(batch), self.processes * self.accumulate
        if parts == 1:
            return [batch]
        half = count // (2 * parts)
        ends = [((n * half, (n + 1) * half), (count - (n + 1) * half, count - n * half)) for n in self.numbers()]
        return [batch[slice(*early)] + batch[slice(*late)] for early, late in ends]


ALL = Share()  # of a process that is alone


class TrainingBatches:
    """Shuffled batches, epoch by epoch.

    Args:
        pixels: What to read.
        batch_size: Images in a batch of all processes; the last, smaller one of an epoch is dropped.
        workers: Threads that read; changes no batch. 0: the one that asks for a batch.
        renderer: What makes pixels of encoded images; None: the workers do, on the CPU.
        share: What this process reads of each batch.

    Raises:
        ValueError: If there are fewer images than one batch.
    """

    def __init__(
        self,
        pixels: Pixels,
        batch_size: int,
        workers: int,
        renderer: Renderer | None = None,
        share: Share = ALL,
    ):
        count = len(pixels.database)
        if count < batch_size:
            raise ValueError(f"a batch of {batch_size} images is more than the {count} in the training database")
        self.pixels = pixels
        self.batch_size = batch_size
        self.workers = workers
        self.renderer = renderer
        self.share = share
        self.steps = count // batch_size  # batches in an epoch

    @property
    def seed(self) -> int:
        """What the order and the samples are drawn from."""
        return self.pixels.seed

    def epoch(self, epoch: int, done: int = 0) -> Iterator[tuple[Batch, ...]]:
        """This process's parts of each batch of one epoch, after the first `done` batches."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        order = torch.randperm(len(self.pixels.database), generator=generator)
        batches = order.split(self.batch_size)[done : self.steps]
        parts = (part for batch in batches for part in self.share.of(batch.tolist()))
        keys = ([(epoch, index) for index in part] for part in parts)
        if self.renderer is None:
            rendered: Iterator[Batch] = ordered_map(self.pixels.batch, keys, self.workers, chunk=1)
        else:
            encoded = ordered_map(self.pixels.encoded, keys, self.workers, chunk=1)
            rendered = map(self.renderer, encoded)
        return zip(*[rendered] * self.share.accumulate, strict=True)


class OrderedBatches:
    """Records in order.

    Args:
        pixels: What to read.
        batch_size: Images in a batch; the last one may be smaller.
        workers: Threads that read; changes no batch. 0: the one that asks for a batch.
        images: How many, evenly spaced, since a database may be sorted by class; None for all.
        share: Every `processes`-th batch is this process's, from its rank on.

    Attributes:
        indices: Which records are this process's.

    Raises:
        ValueError: If the database holds fewer images.
    """

    def __init__(
        self,
        pixels: Pixels,
        batch_size: int,
        workers: int,
        images: int | None = None,
        share: Share = ALL,
    ):
        count = len(pixels.database)
        if images is not None and images > count:
            raise ValueError(f"{pixels.database.path} holds {count} images, fewer than the {images} that are asked for")
        self.pixels = pixels
        self.batch_size = batch_size
        self.workers = workers
        indices = [i * count // images for i in range(images)] if images is not None else list(range(count))
        batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
        self.indices = [index for batch in batches[share.rank :: share.processes] for index in batch]

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self.indices), self.batch_size)
        keys = ([(0, i) for i in self.indices[start : start + self.batch_size]] for start in starts)
        return ordered_map(self.pixels.batch, keys, self.workers, chunk=1)
