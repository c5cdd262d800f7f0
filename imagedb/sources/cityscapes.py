"""Cityscapes: street scenes with fine annotations, as polygons and as masks."""

from functools import partial
from pathlib import Path

from imagedb.record import MAX_SIDE, Annotation, Object
from imagedb.sources.files import read_file
from imagedb.sources.source import IndexedSource, SourceImage
from storage.errors import InputError, shown
from storage.json_file import read_json

# Ids 0 to 33 of cityscapesscripts/helpers/labels.py.
CLASS_NAMES = [
    "unlabeled",
    "ego vehicle",
    "rectification border",
    "out of roi",
    "static",
    "dynamic",
    "ground",
    "road",
    "sidewalk",
    "parking",
    "rail track",
    "building",
    "wall",
    "fence",
    "guard rail",
    "bridge",
    "tunnel",
    "pole",
    "polegroup",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "caravan",
    "trailer",
    "train",
    "motorcycle",
    "bicycle",
]
SUFFIX = "_leftImg8bit.png"
MASKS = {"class": "labelIds", "instance": "instanceIds"}


class CityscapesSource(IndexedSource):
    """The images root/leftImg8bit/<split>/<city>/<id>_leftImg8bit.png, ordered by city and file, named by id.

    In root/gtFine, <id>_gtFine_labelIds.png is the mask "class", whose pixels are labels, and
    <id>_gtFine_instanceIds.png the mask "instance". The polygons of <id>_gtFine_polygons.json are the objects, with the
    polygons' bounds as boxes. A polygon around a group, such as a "cargroup", has the flag "crowd". Deleted polygons
    are left out, and so are license plates, which have no label.

    Raises:
        FileNotFoundError: if there are no images, or a file of an image in gtFine is missing.
    """

    annotated = True

    def __init__(self, root: str | Path, split: str):
        self.root = Path(root)
        self.class_names = list(CLASS_NAMES)
        folder = self.root / "leftImg8bit" / split
        self._files = sorted(folder.glob(f"*/*{SUFFIX}"), key=lambda file: file.parts)
        if not self._files:
            raise FileNotFoundError(f"{folder} holds no images; expected {folder}/<city>/<id>{SUFFIX}")
        for file in self._files:
            for path in (self._fine(file, "polygons.json"), *self._masks(file).values()):
                if not path.exists():
                    raise FileNotFoundError(f"{path} does not exist; it should describe {file}")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> SourceImage:
        file = self._files[index]
        name, read = file.name.removesuffix(SUFFIX), partial(read_file, file)
        return SourceImage(name, None, read, file, partial(self._annotation, file))

    def _fine(self, image: Path, kind: str) -> Path:
        split, city, name = image.parts[-3:]
        return self.root / "gtFine" / split / city / f"{name.removesuffix(SUFFIX)}_gtFine_{kind}"

    def _masks(self, image: Path) -> dict[str, Path]:
        return {mask: self._fine(image, f"{kind}.png") for mask, kind in MASKS.items()}

    def _annotation(self, image: Path) -> Annotation:
        masks = {mask: read_file(path) for mask, path in self._masks(image).items()}
        return Annotation(_objects(self._fine(image, "polygons.json")), masks)


def _objects(file: Path) -> tuple[Object, ...]:
    content = read_json(file)
    try:
        polygons = [polygon for polygon in content["objects"] if not polygon.get("deleted")]
        objects = (_object(polygon["label"], polygon["polygon"]) for polygon in polygons)
        return tuple(obj for obj in objects if obj)
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{file} does not hold polygons; expected objects with label and polygon") from None
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None


def _object(name: str, polygon: list[list[float]]) -> Object | None:
    """The object, or None for a license plate."""
    group = name not in CLASS_NAMES and name.endswith("group")  # "polegroup" is a class
    single = name.removesuffix("group") if group else name
    if single == "license plate":
        return None
    if single not in CLASS_NAMES:
        raise InputError(f"an object of class {shown(name)}, allowed: {', '.join(CLASS_NAMES)}")
    if not polygon or not all(len(point) == 2 and all(abs(side) < MAX_SIDE for side in point) for point in polygon):
        raise InputError(f"polygon {shown(polygon)} of {name!r}, must be pairs of numbers below {MAX_SIDE}")
    x, y = zip(*polygon, strict=True)
    return Object(CLASS_NAMES.index(single), (min(x), min(y), max(x), max(y)), ("crowd",) if group else ())
