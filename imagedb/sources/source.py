"""What every source of pictures is: an ordered sequence of labelled or annotated, encoded images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagedb.record import Annotation


@dataclass(frozen=True)
class SourceImage:
    """One picture of a source.

    Attributes:
        name: unique in its source.
        label: the index of its class; None in a source with annotations.
        image: the encoded image, or a function that reads it, called in any thread.
        file: where it lies, for messages.
        annotation: a function that makes the annotation, called in any thread.
    """

    name: str
    label: int | None
    image: bytes | Callable[[], bytes]
    file: str | Path | None = None
    annotation: Callable[[], Annotation | None] | None = None


@dataclass(frozen=True)
class Shard:
    """One of `count` consecutive parts of a source, counted from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"shard {self} is not allowed, must be K/N with 1 <= K <= N")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, total: int) -> range:
        """The indices of this part of `total` things; the parts differ by one at most."""
        return range((self.number - 1) * total // self.count, self.number * total // self.count)

    def file(self, whole: Path) -> Path:
        """Where this part of the database `whole` is packed: train-03-of-16.lmdb for train.lmdb; all of it: there."""
        if self == WHOLE:
            return whole
        return whole.with_stem(f"{whole.stem}-{self.number:0{len(str(self.count))}}-of-{self.count}")


WHOLE = Shard(1, 1)


@dataclass(frozen=True)
class Survey:
    """What lies ahead: pictures, and their bytes as they are stored (None where only reading would tell)."""

    images: int
    bytes: int | None


class Source(ABC):
    """An ordered sequence of items.

    Attributes:
        class_names: the name of each class, by label.
        annotated: whether the items have annotations in place of labels.
    """

    class_names: list[str]
    annotated: bool = False

    @abstractmethod
    def images(self, shard: Shard = WHOLE) -> Iterator[SourceImage]:
        """The items of one part in order; the parts in order make up the source.

        Raises:
            ValueError: if the source is found damaged, or cannot be cut into so many parts.
            OSError: if it cannot be read.
        """

    @abstractmethod
    def survey(self, shard: Shard = WHOLE) -> Survey:
        """Count what `items` would give, without reading the pictures; may take a while for archives."""

    @abstractmethod
    def expected(self, shard: Shard = WHOLE) -> tuple[int, str]:
        """How much `items` will give, for a progress bar: a number and its unit, "image" or "B"; known at once."""


class IndexedSource(Source):
    """A source whose pictures can be reached in any order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> SourceImage:
        """SourceImage number `index`; IndexError from len(self) on."""

    def images(self, shard: Shard = WHOLE) -> Iterator[SourceImage]:
        return (self[index] for index in shard.of(len(self)))

    def survey(self, shard: Shard = WHOLE) -> Survey:
        """Files are asked for their size; other pictures are not read, so that bytes is None."""
        files = [item.file for item in self.images(shard) if item.file and callable(item.image)]
        count = len(shard.of(len(self)))
        return Survey(count, sum(Path(file).stat().st_size for file in files) if len(files) == count else None)

    def expected(self, shard: Shard = WHOLE) -> tuple[int, str]:
        return len(shard.of(len(self))), "image"
