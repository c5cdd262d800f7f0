import io
import json
import os
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from imagedb.sources.coco import CocoSource, _drawn, _run_lengths
from storage.errors import InputError

HEIGHT, WIDTH = 4, 5

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools 2.0.11 under numpy 2


def drawn(top, bottom, left, right):
    """An image of 4 x 5 pixels that is white in these rows and columns."""
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    pixels[top:bottom, left:right] = True
    return pixels


def rectangle(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def instances(*segmentations, **fields):
    """The content of a JSON file: image 9 with an object of category 7 for each segmentation, and image 3."""
    annotation = {"image_id": 9, "category_id": 7, "bbox": [1, 1, 2, 2], "iscrowd": 0, "area": 4.0}
    return {
        "info": {"year": 2017},
        "images": [
            {"id": 9, "file_name": "000009.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 3, "file_name": "z/000003.jpg", "height": 2, "width": 1},
        ],
        "annotations": [
            annotation | {"id": 40 + number, "segmentation": segmentation} | fields
            for number, segmentation in enumerate(segmentations)
        ],
        "categories": [
            {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
            {"id": 1, "name": "person", "supercategory": "person"},
            {"id": 7, "name": "train", "supercategory": "vehicle"},
        ],
    }


@pytest.fixture
def opened(tmp_path):
    """Writes the images and a JSON file with the given content, and opens the source."""

    def opened(content):
        for name in ("000009.jpg", "z/000003.jpg"):
            path = tmp_path / "val2017" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"image " + name.encode())
        file = tmp_path / "annotations" / "instances_val2017.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return CocoSource(tmp_path, "val2017")

    return opened


def mask(source, index=0):
    png = source[1].annotation().objects[index].mask
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "1")
    return np.asarray(image)


def refused(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}")


def test_images_by_id_with_bytes_untouched_and_without_objects_too(opened, tmp_path):
    source = opened(instances([rectangle(1, 1, 3, 3)]))
    assert source.annotated
    first, second = source.images()
    assert [(first.name, first.label), (second.name, second.label)] == [("z/000003.jpg", None), ("000009.jpg", None)]
    assert (first.image(), second.image()) == (b"image z/000003.jpg", b"image 000009.jpg")
    assert first.file == tmp_path / "val2017" / "z" / "000003.jpg"
    assert first.annotation().objects == ()
    assert first.annotation().masks == second.annotation().masks == {}


def test_labels_are_positions_in_the_order_of_category_ids(opened):
    content = instances([], [], [])
    for annotation, category in zip(content["annotations"], (90, 1, 7), strict=True):
        annotation["category_id"] = category
    source = opened(content)
    assert source.class_names == ["person", "train", "toothbrush"]
    assert [obj.label for obj in source[1].annotation().objects] == [2, 0, 1]


def test_box_and_crowd(opened):
    content = instances([], [], bbox=[0.5, 1.25, 2.0, 2.5])
    content["annotations"][0]["iscrowd"] = 1
    crowd, single = opened(content)[1].annotation().objects
    assert crowd.box == single.box == (0.5, 1.25, 2.5, 3.75)
    assert (crowd.flags, single.flags) == (("crowd",), ())
    assert crowd.mask is None


@pytest.mark.parametrize("content", [{"segmentation": None}, {"segmentation": []}, {"segmentation": [[1, 1, 3, 3]]}])
def test_an_object_without_outline_has_no_mask(opened, content):
    assert opened(instances([], **content))[1].annotation().objects[0].mask is None


def test_boxes_alone(opened):
    content = instances([])
    del content["annotations"][0]["segmentation"], content["annotations"][0]["iscrowd"]
    obj = opened(content)[1].annotation().objects[0]
    assert (obj.box, obj.flags, obj.mask) == ((1, 1, 3, 3), (), None)


def test_polygons_are_merged_and_may_leave_the_image(opened):
    source = opened(instances([rectangle(1, 1, 3, 3)], [rectangle(0, 0, 2, 1), rectangle(3, 2, 90, 90), [0, 3, 1, 3]]))
    np.testing.assert_array_equal(mask(source, 0), drawn(1, 3, 1, 3))
    np.testing.assert_array_equal(mask(source, 1), drawn(0, 1, 0, 2) | drawn(2, 4, 3, 5))


def test_run_lengths_go_down_the_columns(opened):
    rows = [
        ".#...",
        ".....",
        "#....",
        "##...",
    ]
    expected = np.array([[pixel == "#" for pixel in row] for row in rows])
    counts = [2, 3, 2, 1, 12]
    # As text: characters from "0" on for 0..15, to "O" for -16..-1; from the fourth number on, less the one two before.
    text = "232" + chr(48 + 32 + 1 - 3) + chr(48 + 12 - 2)
    size = [HEIGHT, WIDTH]
    source = opened(instances({"size": size, "counts": counts}, {"size": size, "counts": text}))
    np.testing.assert_array_equal(mask(source, 0), expected)
    np.testing.assert_array_equal(mask(source, 1), expected)


def test_missing_files_are_named(opened, tmp_path):
    file = tmp_path / "annotations" / "instances_val2017.json"
    with refused(FileNotFoundError, f"{file} does not exist; it should describe the images in {tmp_path}/val2017"):
        CocoSource(tmp_path, "val2017")
    content = instances()
    content["images"][0]["file_name"] = "8.jpg"
    with refused(FileNotFoundError, f"{tmp_path}/val2017/8.jpg does not exist; {file} names it"):
        opened(content)


def without(part, key):
    content = instances([])
    del content[part][0][key]
    return content


def changed(part, key, value):
    content = instances([])
    content[part][0][key] = value
    return content


OTHER = " does not hold the instances of COCO; expected images with id, file_name, height, width; annotations with id,"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', ": Expecting value: line 1 column 13 (char 12)"),
        ([], OTHER),
        ({"images": []}, OTHER),
        (without("images", "file_name"), OTHER),
        (without("annotations", "bbox"), OTHER),
        (without("categories", "name"), OTHER),
        (instances([], category_id=2), ": annotation 40: category_id 2 is not among the categories"),
        (instances([], [], image_id=4), ": annotation 40: image_id 4 is not among the images"),
        (instances() | {"images": []}, ": no images"),
        (changed("images", "file_name", "../8.jpg"), ": the file name '../8.jpg' is not allowed"),
        (changed("images", "file_name", "/8.jpg"), ": the file name '/8.jpg' is not allowed"),
        (
            changed("images", "file_name", "8\0.jpg"),
            ": the file name '8\\x00.jpg' is not allowed",
        ),
        (changed("images", "file_name", "\ud800"), ": the file name '\\ud800' is not allowed"),
        (changed("images", "file_name", ""), ": the file name '' is not allowed"),
        (changed("images", "file_name", 7), OTHER),
        (changed("images", "height", -4), ": the height or width -4 of an image, must be a whole number from 1"),
        (changed("images", "width", 5.0), ": the height or width 5.0 of an image, must be a whole number from 1"),
        (changed("images", "id", []), OTHER),
        (changed("images", "id", "a"), OTHER),
        (changed("categories", "name", 7), ": the categories ['person', 'train', 7], must have text as name"),
        (
            changed("annotations", "segmentation", [2**64]),
            ": segmentation [18446744073709551616] with integers",
        ),
        (changed("annotations", "bbox", [2**64, 0, 1, 1]), OTHER),
        ('{"images":' + "[" * 100_000, ": maps and lists are nested too deep, allowed: 100"),
    ],
)
def test_bad_files_are_refused(opened, tmp_path, content, message):
    with refused(ValueError, f"{tmp_path}/annotations/instances_val2017.json{message}"):
        opened(content)


@pytest.mark.parametrize("seed", range(10))
def test_run_lengths_as_text_are_those_of_pycocotools(seed):
    draw = np.random.default_rng(seed)
    pixels = (draw.random((97, 103)) < draw.random()).astype(np.uint8)
    pixels[draw.integers(97) :, draw.integers(103) :] = draw.integers(2)
    text = rle.encode(np.asfortranarray(pixels))["counts"].decode()
    np.testing.assert_array_equal(_drawn(_run_lengths(text), 97, 103), pixels)


@pytest.mark.parametrize("name", ["annotations/instances_val2017.json", "val2017/000009.jpg"])
def test_fifos_are_named_and_not_opened(opened, tmp_path, name):
    opened(instances([]))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / name))} is (a FIFO|not a file), "):
        CocoSource(tmp_path, "val2017")[1].image()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bbox": [1, 2, 3]}, "not enough values to unpack"),
        ({"segmentation": rectangle(1, 1, 3, 3)}, "object of type 'int' has no len()"),
        ({"segmentation": [[1, 2, "a", 4, 5, 6]]}, "could not convert string to float"),
        ({"segmentation": {"size": [4, 5]}}, "'counts'"),
        ({"segmentation": {"size": [5, 4], "counts": [20]}}, "run lengths of size [5, 4], the image's is [4, 5]"),
        ({"segmentation": {"size": [4, 5], "counts": [2, 40]}}, "the run lengths do not cover the image"),
        (
            {"bbox": [1, 2, float("nan"), 1]},
            "box (1.0, 2.0, nan, 3.0), must be left <= right",
        ),
        (
            {"bbox": [1, 2, float("inf"), 1]},
            "box (1.0, 2.0, inf, 3.0), must be left <= right",
        ),
        ({"bbox": [1, 2, 1e308, 1]}, "box (1.0, 2.0, 1e+308, 3.0), must be left <= right"),
        ({"bbox": [1, 2, -1, 1]}, "box (1.0, 2.0, 0.0, 3.0), must be left <= right"),
        ({"bbox": {"a": 1}}, "could not convert string to float: 'a'"),
        (
            {"segmentation": [rectangle(1, 1, float("inf"), 3)]},
            "polygon [1, 1, inf, 1, inf, 3, 1, 3], must be",
        ),
        (
            {"segmentation": [rectangle(1, 1, float("nan"), 3)]},
            "polygon [1, 1, nan, 1, nan, 3, 1, 3], must be",
        ),
        ({"segmentation": [rectangle(1, 1, 1e30, 3)]}, "polygon [1, 1, 1e+30, 1, 1e+30, 3, 1, 3], must be"),
        ({"segmentation": [rectangle(1, 1, 2**31, 3)]}, "polygon [1, 1, 2147483648, 1, 2147483648, 3, 1, 3], must be"),
        (
            {"segmentation": [[1, 1, 2, 2, 3, 3, 4]]},
            "polygon [1, 1, 2, 2, 3, 3, 4], must be pairs",
        ),
        (
            {"segmentation": [[0, 0, 1e6, 1e6] * 1000]},
            "polygon with an outline of 2,000,000,000 pixels",
        ),
        ({"segmentation": {"size": [4, 5], "counts": [-1, 21]}}, "the run lengths do not cover the image"),
        ({"segmentation": {"size": [4, 5], "counts": [10.0, 10.0]}}, "the run lengths do not cover the image"),
        ({"segmentation": {"size": [4, 5], "counts": [2**63, 20]}}, "the run lengths do not cover the image"),
        ({"segmentation": {"size": [4, 5], "counts": "2o"}}, "run lengths '2o', which are cut short"),
        ({"segmentation": {"size": [4, 5], "counts": "\u00ff"}}, "run lengths '\u00ff', which are not COCO's text"),
        (
            {"segmentation": {"size": [4, 5], "counts": "o" * 50}},
            f"run lengths {'o' * 50!r}, which",
        ),
        ({"segmentation": {"size": [4, 5], "counts": 7}}, "'int' object is not iterable"),
        ({"segmentation": 7}, "'int' object is not iterable"),
    ],
)
def test_bad_objects_name_the_file_and_the_annotation(opened, tmp_path, fields, message):
    source = opened(instances([], **fields))
    file = tmp_path / "annotations" / "instances_val2017.json"
    with refused(ValueError, f"{file}: annotation 40: bbox or segmentation: {message}"):
        source[1].annotation()
