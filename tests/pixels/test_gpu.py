"""The renderer's arithmetic, on the CPU; nvJPEG's needs a GPU."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import difference, encode, noise, photo

from imagedb.images import decode_image
from imagedb.record import Record
from pixels import gpu as device
from pixels.augmentation import Augmentation, InputFormat
from pixels.batches import Pixels
from pixels.draws import Draws
from pixels.gpu import DeviceRenderer
from pixels.policies import apply_operations
from pixels.views import random_views

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding")  # torchvision's will move to TorchCodec
SIZE = 24


class Records(list):
    """Encoded images as a database, of class 0, 1, 2, ..."""

    path = Path("some.lmdb")

    def __init__(self, images):
        super().__init__(Record(image, label, f"image {label}") for label, image in enumerate(images))


def pixels_of(images, color_space="yuv444", seed=0, resample="bilinear", **changes):
    plain = {"crop": "resized", "crop_scale": (0.2, 1), "crop_ratio": (3 / 4, 4 / 3), "crop_padding": 0}
    plain |= {"flip": 0.5, "color_jitter": (0, 0, 0, 0)}
    plain |= {"policy": None, "policy_operations": 2, "policy_magnitude": 9, "extra": None, "erase": 0}
    given = Augmentation(**plain | changes)
    input_format = InputFormat(size=SIZE, color_space=color_space, resize=None, resample=resample)
    return Pixels(Records(images), random_views(given, input_format), input_format, seed)


def rendered(pixels, keys):
    batch = pixels.encoded(keys)
    return DeviceRenderer(pixels.input_format, torch.device("cpu"))(batch)


def both(pixels, epoch=0):
    """All images by the renderer and by the workers, uint8 [n, 3, SIZE, SIZE] each."""
    keys = [(epoch, index) for index in range(len(pixels.database))]
    expected, labels = zip(*(pixels[key] for key in keys), strict=True)
    found, found_labels = rendered(pixels, keys)
    assert found.dtype == torch.uint8
    assert found_labels.dtype == torch.int64
    assert found_labels.tolist() == list(labels)
    return found, torch.stack(expected)


def drawn(draw, count=8):
    return [draw(40 + 9 * number, 70 - 6 * number, number) for number in range(count)]


CHANGES = {
    "resized": {},
    "never flipped": {"flip": 0},
    "always flipped": {"flip": 1},
    "enlarged": {"crop_scale": (0.01, 0.05)},
    "bicubic": {"resample": "bicubic"},
    "bicubic, enlarged": {"resample": "bicubic", "crop_scale": (0.01, 0.05)},
    "padded": {"crop": "padded", "crop_padding": 12},
    "padded, flipped": {"crop": "padded", "crop_padding": 12, "flip": 1},
}


@pytest.mark.parametrize("color_space", ["rgb", "yuv444"])
@pytest.mark.parametrize("change", CHANGES)
def test_png_images_are_those_of_the_cpu(change, color_space):
    images = [encode(pixels) for pixels in [*drawn(noise), noise(9, 7), noise(7, 60)]]
    for epoch in range(3):
        found, expected = both(pixels_of(images, color_space, **CHANGES[change]), epoch)
        assert difference(found, expected).max() <= (0 if (change[:6], color_space) == ("padded", "rgb") else 1)
        assert difference(found, expected).mean() < 0.03, "of ties between two values"


@pytest.mark.parametrize("color_space", ["rgb", "yuv444"])
@pytest.mark.parametrize(("change", "most"), [("resized", 3), ("padded, flipped", 1)])
def test_jitter_of_png_images_is_that_of_the_cpu(change, most, color_space):
    changes = CHANGES[change] | {"color_jitter": (0.4, 0.4, 0.4, 0.1)}
    found, expected = both(pixels_of([encode(pixels) for pixels in drawn(noise)], color_space, **changes))
    assert difference(found, expected).max() <= most, "a difference of one before the jitter"
    assert difference(found, expected).mean() < 0.05


@pytest.mark.parametrize("policy", ["trivial_augment", "rand_augment", "auto_augment"])
def test_policies_and_erased_rectangles_are_nearly_those_of_the_cpu(policy):
    images = [encode(pixels) for pixels in drawn(photo)]
    changes = {"policy": policy, "erase": 0.5, "color_jitter": (0.4, 0.4, 0.4, 0.1)}
    for color_space in ("rgb", "yuv444"):
        pixels = pixels_of(images, color_space, **changes)
        for epoch in range(5):
            views = pixels.encoded([(epoch, index) for index in range(len(images))]).views
            for view, *pair in zip(views, *both(pixels, epoch), strict=True):
                turned = any(name.startswith(("Rotate", "Shear")) for name, _ in view.operations)
                assert difference(*pair).mean() < (5 if turned else 1.5), view.operations


def test_operations_are_those_of_torchvision_on_tensors_and_what_is_erased_is_grey():
    images = [encode(pixels) for pixels in drawn(noise)]
    changes = CHANGES["padded"] | {"policy": "trivial_augment", "erase": 0.5}
    for epoch in range(5):
        pixels = pixels_of(images, "rgb", **changes)
        batch = pixels.encoded(keys := [(epoch, index) for index in range(len(images))])
        plain = DeviceRenderer(pixels.input_format, torch.device("cpu"))(
            batch._replace(views=[replace(view, operations=(), erase=None) for view in batch.views])
        )[0]
        for found, view, before in zip(rendered(pixels, keys)[0], batch.views, plain, strict=True):
            expected = apply_operations(before, view.operations)
            if view.erase:
                left, top, width, height = view.erase
                expected[:, top : top + height, left : left + width] = 128
            assert torch.equal(found, expected)


@pytest.mark.parametrize("jitter", [(0, 0, 0, 0), (0.4, 0.4, 0.4, 0.1)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_images_are_nearly_those_of_the_cpu(subsampling, jitter):
    images = [encode(pixels, "JPEG", quality=95, subsampling=subsampling) for pixels in drawn(photo)]
    for change in CHANGES.values():
        found, expected = both(pixels_of(images, color_jitter=jitter, **change))
        assert difference(found, expected).mean(axis=(1, 2, 3)).max() < 1


def test_images_of_all_kinds_in_one_batch():
    photos = drawn(photo, 6)
    jpeg = encode(photos[4], "JPEG", quality=95)
    images = [
        encode(photos[0], "JPEG", quality=95),
        encode(photos[1]),
        encode(photos[2][..., 0], "JPEG", quality=95),
        encode(Image.fromarray(photos[3]).convert("CMYK"), "JPEG"),
        encode(photos[5][..., 1]),
        jpeg[: len(jpeg) * 3 // 4],
    ]
    found, expected = both(pixels_of(images))
    assert (difference(found, expected).mean(axis=(1, 2, 3)) < [0.6, 0.05, 0.05, 0.05, 0.05, 0.6]).all()
    assert difference(found[[1, 3, 4]], expected[[1, 3, 4]]).max() <= 1


def test_a_batch_without_a_jpeg_file_and_one_of_them_alone():
    for images in ([encode(noise(30, 30))], [encode(photo(30, 30), "JPEG", quality=95)]):
        found, expected = both(pixels_of(images))
        assert difference(found, expected).mean() < 1


def test_a_batch_in_parts_is_the_same(monkeypatch):
    images = [encode(pixels) for pixels in drawn(noise)]
    pixels = pixels_of(images, color_jitter=(0.4, 0.4, 0.4, 0.1))
    whole, _ = both(pixels)
    parts, split = [], device._parts
    monkeypatch.setattr(device, "_parts", lambda views: parts.append(split(views)) or parts[-1])
    for canvas in (20_000, 1):
        monkeypatch.setattr(device, "CANVAS", canvas)
        found, _ = both(pixels)
        assert difference(found, whole).max() <= 1
        assert difference(found, whole).mean() < 0.001, "sums of other lengths round otherwise"
    some, alone = parts
    assert 1 < len(some) < len(images)
    assert alone == [slice(i, i + 1) for i in range(len(images))]


def test_parts_are_all_images_in_order_and_below_the_limit(monkeypatch):
    pixels = pixels_of([b""] * 50)
    generator = Draws(0)
    views = [pixels.views(10 + i, 60 - i, generator) for i in range(50)]
    sides = np.array([[view.box[2] - view.box[0], view.box[3] - view.box[1]] for view in views])
    monkeypatch.setattr(device, "CANVAS", 3 * 10_000)
    parts = device._parts(views)
    assert [i for part in parts for i in range(50)[part]] == list(range(50))
    size = [len(sides[part]) * sides[part].max(axis=0).prod() for part in parts]
    assert max(size) <= 10_000
    for part, following in pairwise(parts):
        more = sides[part.start : following.start + 1]
        assert len(more) * more.max(axis=0).prod() > 10_000, "it would have fitted"


@pytest.mark.parametrize(
    "image",
    [b"garbage", encode(noise(64, 64))[:5000], encode(noise(64, 64), "JPEG").replace(b"\xff\xdb", b"\xff\xef")],
)
def test_a_damaged_image_is_named(image):
    pixels = pixels_of([encode(noise(9, 9), "JPEG"), image])
    with pytest.raises(ValueError, match=r"^some\.lmdb: record 1 \(image 1\): (the image cannot|not an image|a trunc)"):
        rendered(pixels, [(0, 0), (0, 1)])


def test_decoding_by_torchvision_is_that_of_pillow():
    """The comparisons above rest on this; what torchvision refuses, Pillow decodes."""
    renderer = DeviceRenderer(
        InputFormat(size=SIZE, color_space="rgb", resize=None, resample="bilinear"), torch.device("cpu")
    )
    jpeg = encode(photo(40, 30), "JPEG")
    for files in ([jpeg], [jpeg[:-100], jpeg]):
        images = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
        found = renderer._decode(images, ["a record"] * len(files))
        for image, file in zip(found, files, strict=True):
            assert difference(image.permute(1, 2, 0), decode_image(file, tolerant=True)).max() <= 1
