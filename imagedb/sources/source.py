"""The interface of a source: an ordered sequence of encoded images with labels or annotations."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from imagedb.record import Annotation
from storage.errors import InputError


@dataclass(frozen=True)
class SourceImage:
    """One image of a source.

    Attributes:
        name: a name that is unique in the source.
        label: the index of its class; None in a source with annotations.
        image: the encoded image, with the source's own bytes if it stores encoded images; or a function that reads it
            and may be called in any thread.
        file: the file that holds it, for messages.
        annotation: a function that makes the annotation and may be called in any thread.
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
            raise InputError(f"shard {self} is not allowed, must be K/N with 1 <= K <= N")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, total: int) -> range:
        """The indices of this part of `total` elements; the sizes of the parts differ by one at most."""
        return range((self.number - 1) * total // self.count, self.number * total // self.count)

    def file(self, whole: Path) -> Path:
        """The path of this part of the database `whole`: train-03-of-16.lmdb for train.lmdb; `whole` for shard 1/1."""
        if self == WHOLE:
            return whole
        return whole.with_stem(f"{whole.stem}-{self.number:0{len(str(self.count))}}-of-{self.count}")


WHOLE = Shard(1, 1)


@dataclass(frozen=True)
class Survey:
    """How much there is to pack: the number of images, and their size as stored (None: unknown until they are read)."""

    images: int
    bytes: int | None


class Source(ABC):
    """An ordered sequence of images.

    Attributes:
        class_names: the names of the classes, by label.
        annotated: whether the images have annotations in place of labels.
        notes: what the whole source has that a user should know, such as files that are left out; the names by kind.
    """

    class_names: list[str]
    annotated: bool = False
    notes: Mapping[str, Sequence[str]] = MappingProxyType({})

    @abstractmethod
    def images(self, shard: Shard = WHOLE) -> Iterator[SourceImage]:
        """The images of one part in order; all parts in order make up the source.

        Raises:
            InputError: if the source is damaged, or cannot be split into that many parts.
            OSError: if the source cannot be read.
        """

    @abstractmethod
    def survey(self, shard: Shard = WHOLE) -> Survey:
        """Count what `images` would give, without reading the images; may take a while for archives."""

    @abstractmethod
    def expected(self, shard: Shard = WHOLE) -> tuple[int, str]:
        """What `images` will give, for a progress bar: a number and its unit, "image" or "B"; immediate."""


class IndexedSource(Source):
    """A source whose images can be read in any order."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> SourceImage:
        """Image number `index`; raises IndexError from len(self) on."""

    def images(self, shard: Shard = WHOLE) -> Iterator[SourceImage]:
        return (self[index] for index in shard.of(len(self)))

    def survey(self, shard: Shard = WHOLE) -> Survey:
        """Sum the sizes of the files; bytes is None if some images are not whole files."""
        files = [image.file for image in self.images(shard) if image.file and callable(image.image)]
        count = len(shard.of(len(self)))
        return Survey(count, sum(Path(file).stat().st_size for file in files) if len(files) == count else None)

    def expected(self, shard: Shard = WHOLE) -> tuple[int, str]:
        return len(shard.of(len(self))), "image"
