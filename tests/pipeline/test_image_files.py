import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.image_files import ImageFiles
from pixels.augmentation import InputFormat
from pixels.batches import NO_LABEL
from storage.errors import InputError

FORMAT = InputFormat(size=8, color_space="rgb", resize=None, resample="bilinear")


@pytest.fixture
def folder(tmp_path):
    """Twelve images of 8 x 8 pixels, number i of the colour (i, i, i), and files that are none."""
    for number in range(12):
        path = tmp_path / "photos" / ("deep/er" if number % 2 else "here") / f"{number:02}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path)
    (tmp_path / "photos/.hidden").mkdir()
    (tmp_path / "photos/.hidden/1.png").write_bytes(b"no image")
    (tmp_path / "photos/notes.txt").write_text("no image")
    (tmp_path / "photos/folder.jpg").mkdir()
    return tmp_path / "photos"


def test_all_images_at_any_depth(folder):
    images = ImageFiles(folder, 100, FORMAT, 5)
    assert images.found == 12 and [len(pixels) for pixels, _ in images] == [5, 5, 2]
    pixels, labels = (torch.cat(each) for each in zip(*images, strict=True))
    assert pixels.shape == (12, 3, 8, 8) and labels.tolist() == [NO_LABEL] * 12
    order = pixels[:, 0, 0, 0].tolist()
    assert sorted(order) == [*range(12)] and {number % 2 for number in order[:6]} == {0, 1}  # of both folders
    assert [images.record(image)[1] for image in range(12)] == [
        str(folder / ("deep/er" if number % 2 else "here") / f"{number:02}.PNG") for number in order
    ]


def test_some_are_drawn_and_always_the_same(folder):
    images, again = (ImageFiles(folder, 6, FORMAT, 5) for _ in range(2))
    assert images.files == again.files == ImageFiles(folder, 12, FORMAT, 5).files[:6] and len({*images.files}) == 6
    first = images.first(4)
    assert first.files == images.files[:4] and torch.equal(first.pixels, images.pixels[:4])
    assert len(images.first(None).files) == len(images.files) == 6


def test_mistakes(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (folder / "here/bad.jpg").write_bytes(b"no image")
    (tmp_path / "file").touch()
    for path, message in {
        tmp_path / "nowhere": "nowhere is not there; name a folder of images",
        tmp_path / "file": "file is no folder; name a folder of images",
        tmp_path / "empty": r"empty holds no images, which are named \.bmp, ",
        folder: r"here/bad\.jpg: not an image, allowed: JPEG",
    }.items():
        with pytest.raises(InputError, match=message):
            ImageFiles(path, 100, FORMAT, 5)
