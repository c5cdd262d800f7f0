"""PASCAL VOC: boxes of all objects, and masks of some images."""

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from imagedb.record import Annotation, Object
from imagedb.sources.files import is_file_name, read_file
from imagedb.sources.source import IndexedSource, SourceImage
from storage.errors import InputError, shown

CLASS_NAMES = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
FLAGS = ("difficult", "occluded", "truncated")
XML_BYTES = 2**24
MASKS = {"class": "SegmentationClass", "instance": "SegmentationObject"}


class VocSource(IndexedSource):
    """The images of one list of PASCAL VOC, in its order and named by their ids.

    The files of SegmentationClass and SegmentationObject are the masks "class" and "instance" of the images that have
    them. In the first, a pixel is the label + 1, 0 for background, or 255 for unlabelled.

    Args:
        root: the folder VOCdevkit/VOC2007 or VOCdevkit/VOC2012.
        split: a list in ImageSets/Main, such as "train", or in another folder, such as "Segmentation/train".

    Raises:
        FileNotFoundError: if the list or a file of one of its images is missing.
        InputError: if the list is empty or not UTF-8, or a line is not an id.
    """

    annotated = True

    def __init__(self, root: str | Path, split: str):
        self.root = Path(root)
        self.class_names = list(CLASS_NAMES)
        split = split if "/" in split else f"Main/{split}"
        file = self.root / "ImageSets" / f"{split}.txt"
        if not file.exists():
            expected = "expected a list of ids there, in a folder such as VOCdevkit/VOC2012"
            raise FileNotFoundError(f"{file} does not exist; {expected}")
        try:
            lines = str(read_file(file), "utf-8").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{file} is not UTF-8") from None
        self._ids = [line.strip() for line in lines if line.strip()]
        if not self._ids:
            raise InputError(f"{file} holds no ids")
        for name in self._ids:
            if len(name.split()) > 1 or not is_file_name(name) or "/" in name:
                raise InputError(f"{file} holds the line {shown(name)}; expected one id a line, as in Main/train.txt")
        masks = MASKS.values() if split.startswith("Segmentation/") else ()
        for name in self._ids:
            for path in (self._image(name), self._xml(name), *(self._mask(folder, name) for folder in masks)):
                if not path.exists():
                    raise FileNotFoundError(f"{path} does not exist; {file} names {name}")

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> SourceImage:
        name = self._ids[index]
        file = self._image(name)
        return SourceImage(name, None, partial(read_file, file), file, partial(self._annotation, name))

    def _image(self, name: str) -> Path:
        return self.root / "JPEGImages" / f"{name}.jpg"

    def _xml(self, name: str) -> Path:
        return self.root / "Annotations" / f"{name}.xml"

    def _mask(self, folder: str, name: str) -> Path:
        return self.root / folder / f"{name}.png"

    def _annotation(self, name: str) -> Annotation:
        files = {mask: self._mask(folder, name) for mask, folder in MASKS.items()}
        masks = {mask: read_file(file) for mask, file in files.items() if file.exists()}
        return Annotation(_objects(self._xml(name)), masks)


def _objects(file: Path) -> tuple[Object, ...]:
    try:
        root = ElementTree.fromstring(read_file(file, XML_BYTES))
        if root.tag != "annotation":
            raise InputError(f"the root is <{root.tag}>, expected <annotation>")
        return tuple(_object(element) for element in root.findall("object"))
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise InputError(f"{file}: {error}") from None


def _object(element: ElementTree.Element) -> Object:
    name = element.findtext("name", "").strip()
    if name not in CLASS_NAMES:
        raise InputError(f"an object of class {shown(name)}, allowed: {', '.join(CLASS_NAMES)}")
    sides = [element.findtext(f"bndbox/{side}", "") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = map(float, sides)
    except ValueError:
        raise InputError(f"an object of class {name!r} with bndbox {shown(sides)}, must be four numbers") from None
    flags = tuple(flag for flag in FLAGS if element.findtext(flag, "").strip() == "1")
    return Object(CLASS_NAMES.index(name), (left - 1, top - 1, right, bottom), flags)  # VOC counts pixels from 1
