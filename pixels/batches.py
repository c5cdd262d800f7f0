"""Batches from an image database: the number of workers and interruptions do not change them.

Workers are threads, because decoding and resampling run in C without Python's lock, and because another process would
have to send each batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from imagedb.images import decode_image
from imagedb.parallel import ordered_map
from imagedb.reader import ImageDatabase
from imagedb.record import Record
from pixels.augmentation import InputFormat
from pixels.colors import float_color_map
from pixels.draws import Draws
from pixels.native import jpeg_sizes
from pixels.render import render_batch
from pixels.seeds import derive_seed
from pixels.views import View, Views
from storage.errors import InputError

Key = tuple[int, int]  # epoch and index of a sample
T = TypeVar("T")
NO_LABEL = -1  # of a record with annotations
Batch = tuple[Tensor, Tensor]  # uint8 [batch, 3, size, size] and labels, int64 [batch]


class EncodedBatch(NamedTuple):
    """Encoded images, and how to render them.

    Attributes:
        images: each uint8, [bytes] of a JPEG file or [3, height, width] RGB.
        views: the part of each image.
        colors: float32 [batch, 3, 7], the `float_color_map` of each image; to RGB if its view changes that.
        labels: int64 [batch].
        names: the record of each image, for messages.
    """

    images: list[Tensor]
    views: list[View]
    colors: Tensor
    labels: Tensor
    names: list[str]


Renderer = Callable[[EncodedBatch], Batch]


class Pixels(Dataset):
    """Records of a database as (uint8 [3, size, size], label); random draws depend on (seed, epoch, index) alone."""

    def __init__(self, database: ImageDatabase, views: Views, input_format: InputFormat, seed: int = 0):
        self.database = database
        self.views = views
        self.input_format = input_format
        self.seed = seed

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        """Sample `index` of `epoch`; errors are those of `batch`."""
        pixels, labels = self.batch([key])
        return pixels[0], int(labels[0])

    def batch(self, keys: list[Key]) -> Batch:
        """The samples (epoch, index), rendered on the CPU.

        Raises:
            InputError: If a record or its image is damaged; the message names it.
        """
        size, pinned = self.input_format.size, torch.cuda.is_initialized()
        records = [self.database[index] for _, index in keys]
        names = [self._name(index, record) for (_, index), record in zip(keys, records, strict=True)]
        out = torch.empty(len(keys), 3, size, size, dtype=torch.uint8, pin_memory=pinned)
        draws = [Draws(derive_seed(self.seed, *key)) for key in keys]
        render_batch([record.image for record in records], self.views, self.input_format, draws, out, names)
        labels = [NO_LABEL if record.label is None else record.label for record in records]
        return out, torch.tensor(labels, pin_memory=pinned)

    def encoded(self, keys: list[Key]) -> EncodedBatch:
        """Several samples, not yet rendered.

        Raises:
            InputError: If a record is damaged; the message names it.
        """
        images, views, colors, labels, names = [], [], [], [], []
        records = [self.database[index] for _, index in keys]
        sizes = jpeg_sizes([record.image for record in records])
        for (epoch, index), record, size in zip(keys, records, sizes, strict=True):
            names.append(self._name(index, record))
            if size:
                images.append(torch.frombuffer(bytearray(record.image), dtype=torch.uint8))
            else:
                images.append(decode_rgb(record.image, names[-1]))
                size = images[-1].shape[2], images[-1].shape[1]
            views.append(self.views(*size, Draws(derive_seed(self.seed, epoch, index))))
            target = "rgb" if views[-1].changes_rgb else self.input_format.color_space
            colors.append(float_color_map(target, views[-1].jitter))
            labels.append(record.label)
        return EncodedBatch(images, views, torch.from_numpy(np.stack(colors)).float(), torch.tensor(labels), names)

    def _name(self, index: int, record: Record) -> str:
        return f"{self.database.path}: record {index} ({record.name})"


def decode_rgb(image: bytes, name: str) -> Tensor:
    """The pixels of an encoded image, uint8 [3, height, width].

    Raises:
        InputError: If the image is damaged; the message begins with `name`.
    """
    try:
        return torch.from_numpy(np.array(decode_image(image, tolerant=True))).permute(2, 0, 1)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


@dataclass(frozen=True)
class BatchPartition:
    """Which parts of each batch one process computes: `accumulate` consecutive ones of `processes * accumulate`.

    A part holds some images from the start of the batch and their mirror images from its end, in the batch's order. So
    both images of a pair that `training.mixing` mixes are in one part, where mixing the part alone pairs them again.
    """

    rank: int = 0
    processes: int = 1
    accumulate: int = 1

    def numbers(self) -> range:
        """The numbers of this process's parts among all parts of a batch."""
        return range(self.rank * self.accumulate, (self.rank + 1) * self.accumulate)

    def of(self, batch: list[T]) -> list[list[T]]:
        """This process's parts of a batch, all of the same length."""
        count, parts = len(batch), self.processes * self.accumulate
        if parts == 1:
            return [batch]
        half = count // (2 * parts)
        ends = [((n * half, (n + 1) * half), (count - (n + 1) * half, count - n * half)) for n in self.numbers()]
        return [batch[slice(*early)] + batch[slice(*late)] for early, late in ends]


WHOLE_BATCH = BatchPartition()  # for a process without peers


class TrainingBatches:
    """Shuffled batches, epoch by epoch.

    Args:
        pixels: The samples.
        batch_size: Images per batch, over all processes; an epoch drops its incomplete last batch.
        workers: Threads that read ahead, without effect on the batches; 0: the calling thread reads.
        renderer: Renders encoded batches; None: the workers render on the CPU.
        partition: Which parts of each batch this process reads.

    Raises:
        InputError: If there are fewer images than one batch.
    """

    def __init__(
        self,
        pixels: Pixels,
        batch_size: int,
        workers: int,
        renderer: Renderer | None = None,
        partition: BatchPartition = WHOLE_BATCH,
    ):
        count = len(pixels.database)
        if count < batch_size:
            raise InputError(f"a batch of {batch_size} images is more than the {count} in the training database")
        self.pixels = pixels
        self.batch_size = batch_size
        self.workers = workers
        self.renderer = renderer
        self.partition = partition
        self.steps = count // batch_size  # batches in an epoch

    @property
    def seed(self) -> int:
        """The seed of the order and of the samples."""
        return self.pixels.seed

    def epoch(self, epoch: int, done: int = 0) -> Iterator[tuple[Batch, ...]]:
        """This process's parts of each batch of one epoch, without the first `done` batches."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        order = torch.randperm(len(self.pixels.database), generator=generator)
        batches = order.split(self.batch_size)[done : self.steps]
        parts = (part for batch in batches for part in self.partition.of(batch.tolist()))
        keys = ([(epoch, index) for index in part] for part in parts)
        if self.renderer is None:
            rendered: Iterator[Batch] = ordered_map(self.pixels.batch, keys, self.workers, chunk=1)
        else:
            encoded = ordered_map(self.pixels.encoded, keys, self.workers, chunk=1)
            rendered = map(self.renderer, encoded)
        return zip(*[rendered] * self.partition.accumulate, strict=True)


class OrderedBatches:
    """Records in order.

    Args:
        pixels: The samples.
        batch_size: Images per batch; the last batch may be smaller.
        workers: Threads that read ahead, without effect on the batches; 0: the calling thread reads.
        indices: Numbers of the records; None: all.
        partition: This process reads every `processes`-th batch, beginning with its rank.

    Attributes:
        indices: The records that this process reads.
    """

    def __init__(
        self,
        pixels: Pixels,
        batch_size: int,
        workers: int,
        indices: Sequence[int] | None = None,
        partition: BatchPartition = WHOLE_BATCH,
    ):
        self.pixels = pixels
        self.batch_size = batch_size
        self.workers = workers
        numbers = range(len(pixels.database)) if indices is None else indices
        batches = [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]
        self.indices = [index for batch in batches[partition.rank :: partition.processes] for index in batch]

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self.indices), self.batch_size)
        keys = ([(0, i) for i in self.indices[start : start + self.batch_size]] for start in starts)
        return ordered_map(self.pixels.batch, keys, self.workers, chunk=1)

    def record(self, image: int) -> tuple[int, str]:
        """The number and the name of the record of image number `image`."""
        index = self.indices[image]
        return index, self.pixels.database[index].name
