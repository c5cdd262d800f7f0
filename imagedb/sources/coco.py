"""MS COCO: boxes and masks of instances."""

from functools import partial
from operator import itemgetter
from pathlib import Path

import msgpack
import numpy as np
from PIL import Image
from pycocotools import mask as rle

from imagedb.encode import encode_png
from imagedb.limits import check_size
from imagedb.record import Annotation, Object
from imagedb.sources.files import check_inside, read_file
from imagedb.sources.source import IndexedSource, SourceImage
from storage.errors import InputError, shown
from storage.json_file import read_json

FIELDS = (
    "images with id, file_name, height, width; annotations with id, image_id, category_id, bbox; "
    "categories with id, name"
)
MAX_COORDINATE = 2**20  # pixels
MAX_OUTLINE = 2**21  # pixels of a polygon, of which pycocotools draws each five times


class CocoSource(IndexedSource):
    """The images in root/<split>/ that root/annotations/instances_<split>.json lists, ordered by id.

    Labels number the categories in the order of their ids, which have gaps in COCO. Objects are in the order of the
    file; those with `iscrowd` have the flag "crowd". Images without objects are included. Polygons of fewer than three
    points enclose nothing and are ignored.

    Raises:
        FileNotFoundError: if the JSON file or an image is missing.
        InputError: if the JSON file is damaged, refers to an image or a category that it does not define, or names an
            image outside root/<split>.
    """

    annotated = True

    def __init__(self, root: str | Path, split: str):
        self.folder = Path(root) / split
        self.file = Path(root) / "annotations" / f"instances_{split}.json"
        if not self.file.exists():
            raise FileNotFoundError(f"{self.file} does not exist; it should describe the images in {self.folder}")
        content = read_json(self.file, object_hook=_pack_segmentation)
        try:
            self.class_names, self._images = _read(content)
        except (AttributeError, KeyError, TypeError, OverflowError):
            raise InputError(f"{self.file} does not hold the instances of COCO; expected {FIELDS}") from None
        except ValueError as error:
            raise InputError(f"{self.file}: {error}") from None
        for name, _, _ in self._images:
            if not (self.folder / name).exists():
                raise FileNotFoundError(f"{self.folder / name} does not exist; {self.file} names it")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> SourceImage:
        name = self._images[index][0]
        file = self.folder / name
        return SourceImage(name, None, partial(read_file, file), file, partial(self._annotation, index))

    def _annotation(self, index: int) -> Annotation:
        _, size, objects = self._images[index]
        return Annotation(tuple(self._object(size, *msgpack.unpackb(obj)) for obj in objects))

    def _object(
        self, size: tuple[int, int], number: int, label: int, box: list, crowd: int, packed: bytes | None
    ) -> Object:
        try:
            left, top, width, height = map(float, box)
            mask = _mask(msgpack.unpackb(packed) if packed else None, *size)
            flags = ("crowd",) if crowd else ()
            return Object(label, (left, top, left + width, top + height), flags, mask)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{self.file}: annotation {number}: bbox or segmentation: {error}") from None


def _pack_segmentation(fields: dict) -> dict:
    """Pack the outline in a map of the JSON file, because COCO's outlines as Python numbers would fill gigabytes."""
    if "segmentation" in fields:
        try:
            fields["segmentation"] = msgpack.packb(fields["segmentation"])
        except OverflowError:
            raise InputError(f"segmentation {shown(fields['segmentation'])} with integers beyond 64 bits") from None
    return fields


def _read(content: dict) -> tuple[list[str], list[tuple[str, tuple[int, int], list[bytes]]]]:
    """The class names; and for each image its name, (height, width) and the packed arguments of `_object`."""
    categories = sorted(content["categories"], key=itemgetter("id"))
    labels = {category["id"]: label for label, category in enumerate(categories)}
    images = sorted(content["images"], key=itemgetter("id"))
    if not images:
        raise InputError("no images")
    objects: dict[int, list[bytes]] = {image["id"]: [] for image in images}
    for obj in content["annotations"]:
        number, image, category = (obj[key] for key in ("id", "image_id", "category_id"))
        if image not in objects:
            raise InputError(f"annotation {number}: image_id {image} is not among the images")
        if category not in labels:
            raise InputError(f"annotation {number}: category_id {category} is not among the categories")
        values = number, labels[category], obj["bbox"], obj.get("iscrowd", 0), obj.get("segmentation")
        objects[image].append(msgpack.packb(values))
    for name in (image["file_name"] for image in images):
        check_inside(name)
    for value in (value for image in images for value in (image["height"], image["width"])):
        if type(value) is not int or value < 1:
            raise InputError(f"the height or width {shown(value)} of an image, must be a whole number from 1")
    names = [category["name"] for category in categories]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"the categories {shown(names)}, must have text as name")
    return names, [(image["file_name"], (image["height"], image["width"]), objects[image["id"]]) for image in images]


def _mask(segmentation: list | dict | None, height: int, width: int) -> bytes | None:
    """The PNG mask of polygons or run lengths; None if there are none."""
    if not segmentation:
        return None
    check_size(width, height)
    if isinstance(segmentation, dict):
        if segmentation["size"] != [height, width]:
            raise InputError(f"run lengths of size {shown(segmentation['size'])}, the image's is {[height, width]}")
        counts = segmentation["counts"]
        pixels = _drawn(counts if isinstance(counts, list) else _run_lengths(counts), height, width)
    else:
        polygons = [_checked(polygon) for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return None
        pixels = rle.decode(rle.merge(rle.frPyObjects(polygons, height, width)))
    return encode_png(Image.fromarray(pixels.astype(bool)))


def _checked(polygon: list) -> list[float]:
    """A polygon of x, y, x, y, ... that pycocotools can draw: beyond these limits it writes outside its memory."""
    points = [float(value) for value in polygon]
    if len(points) % 2 or not all(abs(value) <= MAX_COORDINATE for value in points):
        raise InputError(f"polygon {shown(polygon)}, must be pairs of numbers up to {MAX_COORDINATE}")
    x, y = points[::2], points[1::2]
    steps = zip(x, y, [*x[1:], x[0]], [*y[1:], y[0]], strict=True)
    outline = sum(max(abs(x1 - x0), abs(y1 - y0)) for x0, y0, x1, y1 in steps)
    if outline > MAX_OUTLINE:
        raise InputError(f"polygon with an outline of {outline:,.0f} pixels, allowed: {MAX_OUTLINE}")
    return points


def _run_lengths(text: str) -> list[int]:
    """The run lengths in COCO's text (rleFrString of pycocotools, which reads beyond the end of a text cut short).

    Each is a number of digits to the base 32, the lowest first: character - 48, 32 more if others follow. The highest
    bit of the last digit is the sign. From the fourth number on, the one two before is to be added.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 30:
            raise InputError(f"run lengths {shown(text)}, which are not COCO's text")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (digit >> 4 & 1) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise InputError(f"run lengths {shown(text)}, which are cut short")
    return counts


def _drawn(counts: list[int], height: int, width: int) -> np.ndarray:
    """Run lengths down the columns, of 0 and 1 in turn, as uint8 [height, width]."""
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
        raise InputError("the run lengths do not cover the image")
    return np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8).reshape(width, height).T
