"""MS COCO: boxes and masks of instances."""

import json
from functools import partial
from operator import itemgetter
from pathlib import Path

import msgpack
from PIL import Image
from pycocotools import mask as rle

from imagedb.encode import encode_png
from imagedb.record import Annotation, Object
from imagedb.sources.source import IndexedSource, SourceImage
from storage.errors import InputError

FIELDS = (
    "images with id, file_name, height, width; annotations with id, image_id, category_id, bbox; "
    "categories with id, name"
)


class CocoSource(IndexedSource):
    """The images in root/<split>/ that root/annotations/instances_<split>.json lists, ordered by id.

    Labels number the categories in the order of their ids, which have gaps in COCO. Objects are in the order of the
    file; those with `iscrowd` have the flag "crowd". Images without objects are included. Polygons of fewer than three
    points enclose nothing and are ignored.

    Raises:
        FileNotFoundError: if the JSON file or an image is missing.
        InputError: if the JSON file is damaged, or refers to an image or a category that it does not define.
    """

    annotated = True

    def __init__(self, root: str | Path, split: str):
        self.folder = Path(root) / split
        self.file = Path(root) / "annotations" / f"instances_{split}.json"
        if not self.file.is_file():
            raise FileNotFoundError(f"{self.file} does not exist; it should describe the images in {self.folder}")
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"), object_hook=_pack_segmentation)
            self.class_names, self._images = _read(content)
        except (KeyError, TypeError):
            raise InputError(f"{self.file} does not hold the instances of COCO; expected {FIELDS}") from None
        except ValueError as error:
            raise InputError(f"{self.file}: {error}") from None
        for name, _, _ in self._images:
            if not (self.folder / name).is_file():
                raise FileNotFoundError(f"{self.folder / name} does not exist; {self.file} names it")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> SourceImage:
        name = self._images[index][0]
        file = self.folder / name
        return SourceImage(name, None, file.read_bytes, file, partial(self._annotation, index))

    def _annotation(self, index: int) -> Annotation:
        _, size, objects = self._images[index]
        return Annotation(tuple(self._object(size, *msgpack.unpackb(obj)) for obj in objects))

    def _object(
        self, size: tuple[int, int], number: int, label: int, box: list, crowd: int, packed: bytes | None
    ) -> Object:
        try:
            left, top, width, height = map(float, box)
            mask = _mask(msgpack.unpackb(packed) if packed else None, *size)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.file}: annotation {number}: bbox or segmentation: {error}") from None
        flags = ("crowd",) if crowd else ()
        return Object(label, (left, top, left + width, top + height), flags, mask)


def _pack_segmentation(fields: dict) -> dict:
    """Pack the outline in a map of the JSON file, because COCO's outlines as Python numbers would fill gigabytes."""
    if "segmentation" in fields:
        fields["segmentation"] = msgpack.packb(fields["segmentation"])
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
    listed = [(image["file_name"], (image["height"], image["width"]), objects[image["id"]]) for image in images]
    return [category["name"] for category in categories], listed


def _mask(segmentation: list | dict | None, height: int, width: int) -> bytes | None:
    """The PNG mask of polygons or run lengths; None if there are none."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        counts, size = segmentation["counts"], segmentation["size"]
        if size != [height, width]:
            raise InputError(f"run lengths of size {size}, the image's is {[height, width]}")
        runs = rle.frPyObjects(segmentation, height, width) if isinstance(counts, list) else segmentation
    else:
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return None
        runs = rle.merge(rle.frPyObjects(polygons, height, width))
    pixels = rle.decode(runs)
    if pixels.sum() != rle.area(runs):  # pycocotools does not initialize pixels beyond the runs
        raise InputError("the run lengths do not cover the image")
    return encode_png(Image.fromarray(pixels.astype(bool)))
