import json
import re

import pytest

from imagedb.record import Object
from imagedb.sources.cityscapes import CityscapesSource
from storage.errors import InputError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def polygon(label, *points, **fields):
    return {"label": label, "polygon": [list(point) for point in points]} | fields


def polygons(*objects):
    return json.dumps({"imgHeight": 1024, "imgWidth": 2048, "objects": objects}).encode()


@pytest.fixture
def root(tmp_path):
    """Four images of three cities; "a-b" comes before "a/" where paths are compared as text."""
    for name in ("b_000000_000019", "a_000001_000019", "a_000000_000019", "a-b_000000_000019"):
        city = name.split("_")[0]
        write(tmp_path / "leftImg8bit" / "val" / city / f"{name}_leftImg8bit.png", f"image {name}".encode())
        fine = tmp_path / "gtFine" / "val" / city
        write(fine / f"{name}_gtFine_labelIds.png", f"labels {name}".encode())
        write(fine / f"{name}_gtFine_instanceIds.png", f"instances {name}".encode())
        write(fine / f"{name}_gtFine_color.png", b"not needed")
        write(fine / f"{name}_gtFine_polygons.json", polygons())
    return tmp_path


@pytest.fixture
def objects(root):
    """The objects that the source makes from a polygons file with the given content."""
    file = root / "gtFine" / "val" / "a" / "a_000000_000019_gtFine_polygons.json"

    def objects(content):
        file.write_bytes(content)
        return CityscapesSource(root, "val")[0].annotation().objects

    objects.file = file
    return objects


def test_images_by_city_and_file_with_bytes_untouched(root):
    source = CityscapesSource(root, "val")
    assert source.annotated
    items = list(source.images())
    names = ["a_000000_000019", "a_000001_000019", "a-b_000000_000019", "b_000000_000019"]
    assert [(item.name, item.label) for item in items] == [(name, None) for name in names]
    assert [item.image() for item in items] == [f"image {name}".encode() for name in names]
    assert items[2].file == root / "leftImg8bit" / "val" / "a-b" / "a-b_000000_000019_leftImg8bit.png"
    for item in items:
        masks = {"class": f"labels {item.name}".encode(), "instance": f"instances {item.name}".encode()}
        assert item.annotation().masks == masks


def test_class_names_stand_at_their_ids(root):
    """The ids are those of the published labels.py."""
    names = CityscapesSource(root, "val").class_names
    ids = {"unlabeled": 0, "out of roi": 3, "road": 7, "parking": 9, "building": 11, "bridge": 15, "pole": 17}
    ids |= {"polegroup": 18, "traffic sign": 20, "sky": 23, "person": 24, "caravan": 29, "bicycle": 33}
    assert len(names) == 34
    assert {name: names.index(name) for name in ids} == ids


def test_boxes_are_bounds_and_groups_are_crowds(objects):
    content = polygons(
        polygon("road", (0, 1023), (2047, 500), (2048, 1024)),
        polygon("cargroup", (40, 7), (30, 9), (35, 3)),
        polygon("polegroup", (1, 2), (3, 4), (1, 4), deleted=0, draw=True),
    )
    assert objects(content) == (
        Object(7, (0, 500, 2048, 1024)),
        Object(26, (30, 3, 40, 9), ("crowd",)),
        Object(18, (1, 2, 3, 4)),
    )


def test_license_plates_and_deleted_polygons_are_left_out(objects):
    triangle = (1, 2), (3, 4), (1, 4)
    content = polygons(
        polygon("license plate", *triangle),
        polygon("car", *triangle, deleted=1),
        polygon("rider", *triangle),
        polygon("license plategroup", *triangle),
    )
    assert [found.label for found in objects(content)] == [25]


def test_missing_files_are_named(root):
    with pytest.raises(FileNotFoundError, match=f"^{root}/leftImg8bit/train holds no images; expected .*/<city>/<id>_"):
        CityscapesSource(root, "train")
    image = root / "leftImg8bit" / "val" / "b" / "b_000000_000019_leftImg8bit.png"
    for kind in ("instanceIds.png", "labelIds.png", "polygons.json"):
        file = root / "gtFine" / "val" / "b" / f"b_000000_000019_gtFine_{kind}"
        file.unlink()
        with pytest.raises(FileNotFoundError, match=f"^{file} does not exist; it should describe {image}$"):
            CityscapesSource(root, "val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"objects": [', ": Expecting value: line 1 column 14"),
        (polygons(polygon("tram", (1, 2))), ": an object of class 'tram', allowed: unlabeled, ego vehicle, "),
        (polygons(polygon("tramgroup", (1, 2))), ": an object of class 'tramgroup', allowed: unlabeled, ego vehicle, "),
        (polygons(polygon("car")), ": polygon [] of 'car', must be pairs"),
        (polygons({"label": "car"}), " does not hold polygons; expected objects with label and polygon"),
        (polygons("car"), " does not hold polygons; expected objects with label and polygon"),
        (b"[]", " does not hold polygons; expected objects with label and polygon"),
    ],
)
def test_bad_polygons_name_the_file(objects, content, message):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{objects.file}{message}')}"):
        objects(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, ": maps and lists are nested too deep, allowed: 100"),
        (b"\xff", ": 'utf-8' codec can't decode byte 0xff"),
        (polygons(polygon("car", (1, 2), (float("nan"), 3))), ": polygon [[1, 2], [nan, 3]] of 'car', must be"),
        (polygons(polygon("car", (1, 2), (float("inf"), 3))), ": polygon [[1, 2], [inf, 3]] of 'car', must be"),
        (polygons(polygon("car", (1, 2), (10**400, 3))), ": polygon [[1, 2], [10000"),
        (
            polygons(polygon("car", (1, 2, 3))),
            ": polygon [[1, 2, 3]] of 'car', must be pairs of numbers below 2147483648",
        ),
        (polygons(polygon("car", ("a", "b"))), " does not hold polygons; expected objects with label and polygon"),
        (polygons(polygon("x" * 10**6, (1, 2))), f": an object of class '{'x' * 79}..., allowed: unlabeled, "),
    ],
)
def test_hostile_polygons_are_one_line(objects, content, message):
    with pytest.raises(InputError, match=f"^{re.escape(f'{objects.file}{message}')}.*$"):
        objects(content)
