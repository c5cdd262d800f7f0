"""Whether the network's view fits the images: areas by hand, and the line for each kind that does not."""

import pytest
import torch
from PIL import Image

from imagedb.reader import ImageDatabase
from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from pipeline.framing import photographs, resize_for, seen, unfitting, warn_of_views
from pipeline.params import Params, load_params
from pixels.augmentation import InputFormat
from pixels.views import center_views


def with_values(size: int, resize: int | None = None, crop: str = "resized", qat_crop: str = "resized") -> Params:
    params = load_params()
    augment = params.augment.model_copy(update={"crop": crop})
    qat = params.qat.model_copy(update={"augment": params.qat.augment.model_copy(update={"crop": qat_crop})})
    shape = params.input.model_copy(update={"size": size, "resize": resize})
    return params.model_copy(update={"augment": augment, "qat": qat, "input": shape})


@pytest.mark.parametrize(
    ("image", "size", "resize", "share"),
    [
        ((28, 28), 32, None, 1),
        ((64, 64), 32, None, 1 / 4),
        ((320, 32), 32, None, 1 / 10),
        ((500, 400), 64, 80, 64 * 64 / (80 * 100)),
        ((400, 500), 64, 80, 64 * 64 / (80 * 100)),
        ((20, 30), 64, 64, 2 / 3),  # enlarged to 64 x 96
    ],
)
def test_the_share_of_an_image_that_the_network_sees(image, size, resize, share):
    assert seen(image, size, resize) == pytest.approx(share)
    shape = InputFormat(size=size, color_space="rgb", resize=resize, resample="bilinear")
    left, top, right, bottom = center_views(shape)(*image, torch.Generator()).box
    assert (right - left) * (bottom - top) / (image[0] * image[1]) == pytest.approx(share, rel=0.02)


def test_the_usual_resize():
    assert [resize_for(size) for size in (224, 64, 32)] == [256, 73, 36]
    # as timm crops, whose resnet18 has 0.95 (235.8 rounded down), and torchvision, whose mobilenet_v2 sees 224 of 232
    assert [resize_for(224, crop) for crop in (0.95, 224 / 232, 1)] == [235, 232, 224]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({(28, 28)}, False),
        ({(64, 64)}, False),
        ({(224, 224)}, True),
        ({(20, 30), (30, 30)}, False),
        ({(60, 80), (80, 60)}, True),
        ({(640, 480)}, True),
    ],
)
def test_photographs_by_their_sizes(sizes, expected):
    assert photographs(sizes) == expected


def test_images_that_fit_need_no_warning():
    digits, photos = {"a": (28, 28), "b": (28, 28)}, {"a": (640, 480), "b": (300, 500)}
    assert [*unfitting(digits, with_values(32, None, "padded", "padded"))] == []
    assert [*unfitting(photos, with_values(224, 256))] == []


def test_a_view_of_a_corner_names_the_worst_image_and_the_resize():
    sizes = {"a.jpg": (640, 480), "b.jpg": (1000, 800), "c.jpg": (33, 33)}
    (cut,) = unfitting(sizes, with_values(128))
    assert cut == (
        "the network sees less than a fifth of 2 of 3 images, such as b.jpg (1000 x 800 pixels): "
        "set input.resize to 146"
    )
    (long,) = unfitting({"a.jpg": (2000, 200), "b.jpg": (300, 200)}, with_values(128, 146))
    assert long.startswith("the network sees less than a fifth of 1 of 2 images, such as a.jpg (2000 x 200 pixels): ")
    assert long.endswith("they are long, so cut them or leave them out")


def test_a_resize_below_the_size_leaves_a_border():
    (border,) = unfitting({"a.jpg": (100, 80)}, with_values(64, 40))
    assert border.startswith("input.resize 40 is below input.size 64, so the network sees a border around each image: ")
    assert border.endswith("set input.resize to 73, or to 64 for the whole short side")


def test_images_far_larger_than_the_input():
    sizes = {"a": (4000, 3000), "b": (600, 512), "c": (512, 800)}
    (large,) = unfitting(sizes, with_values(128, 146))
    assert large.startswith("half of the images have a short side of 512 pixels or more, and the network sees 128 of ")
    assert "input.size" in large and "pack.encoding to {type: resized, size: 256}" in large
    assert [*unfitting({"a": (511, 511)}, with_values(128, 146))] == []


@pytest.mark.parametrize(
    ("crops", "keys"),
    [
        (("padded", "padded"), "augment.crop and qat.augment.crop"),
        (("padded", "resized"), "augment.crop"),
        (("resized", "padded"), "qat.augment.crop"),
    ],
)
def test_padded_crops_of_photographs(crops, keys):
    (padded,) = unfitting({"a": (200, 150), "b": (150, 200)}, with_values(128, 146, *crops))
    assert padded.endswith(f"a padded crop hardly changes: set {keys} to resized")


def test_the_sizes_are_those_of_the_database(tmp_path, capsys):
    (tmp_path / "x/a").mkdir(parents=True)
    for number, kind in enumerate(["png", "jpg", "webp"]):
        Image.new("RGB", (300 + number, 200)).save(tmp_path / f"x/a/{number}.{kind}")
    write_database(FolderSource(tmp_path, "x"), tmp_path / "db.lmdb")
    warn_of_views(ImageDatabase(tmp_path / "db.lmdb"), with_values(32, None, "padded", "padded"))
    cut, far, padded = capsys.readouterr().err.splitlines()
    assert cut.startswith("warning: the network sees less than a fifth of 3 of 3 images, such as a/2.webp (302 x 200 ")
    assert "short side of 200 pixels" in far and padded.startswith("warning: the images seem to be photographs")
