import gzip
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from imagedb.sources.folder import FolderSource
from imagedb.sources.source import WHOLE, Shard, Survey
from imagedb.sources.torchvision import TorchvisionSource

SAMPLE = Path(__file__).parents[2] / "data" / "fashion_mnist"
RAW = SAMPLE / "FashionMNIST" / "raw"


def idx(name, header):
    return np.frombuffer(gzip.decompress((RAW / name).read_bytes()), np.uint8, offset=header)


def error(kind, message):
    return pytest.raises(kind, match=f"^{message}$")


def test_sample_is_balanced():
    assert np.bincount(idx("train-labels-idx1-ubyte.gz", 8)).tolist() == [1000] * 10
    assert np.bincount(idx("t10k-labels-idx1-ubyte.gz", 8)).tolist() == [200] * 10


def test_fashion_mnist_pixels_labels_and_names_are_those_of_the_idx_files():
    before = sorted(SAMPLE.rglob("*"))
    source = TorchvisionSource("FashionMNIST", SAMPLE, "test")
    pixels = idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = idx("t10k-labels-idx1-ubyte.gz", 8)
    assert len(source) == len(labels) == 2000
    items = list(source)
    assert [item.label for item in items] == labels.tolist()
    assert [items[0].name, items[1999].name] == ["test/00000", "test/01999"]
    for item, expected in zip(items, pixels, strict=True):
        image = Image.open(io.BytesIO(item.image()))
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert source.class_names[0] == "T-shirt/top"
    assert len(source.class_names) == 10
    assert sorted(SAMPLE.rglob("*")) == before


def test_split_train_is_the_training_set():
    source = TorchvisionSource("FashionMNIST", SAMPLE, "train")
    assert (len(source), source[42].name) == (10000, "train/00042")
    assert source[42].label == idx("train-labels-idx1-ubyte.gz", 8)[42]


def test_torchvision_source_has_bounds_and_is_counted_unread():
    source = TorchvisionSource("FashionMNIST", SAMPLE, "test")
    assert source.survey() == Survey(2000, None)
    assert source.survey(Shard(3, 3)) == Survey(667, None)
    for index in (-1, 2000):
        with pytest.raises(IndexError):
            source[index]


def test_plain_files_are_read_where_they_lie(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in RAW.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    plain, packed = (TorchvisionSource("FashionMNIST", root, "test")[3] for root in (tmp_path, SAMPLE))
    assert (plain.name, plain.label, plain.image()) == (packed.name, packed.label, packed.image())


class Shapes(torchvision.datasets.VisionDataset):
    """A data set with `split`, synonyms as class names, and colour images."""

    classes = (("ring", "circle"), "square")
    image = Image.new("RGB", (3, 2), (1, 2, 3))
    targets = (np.int64(1), 0)

    def __init__(self, root, split="train", download=False):
        if split not in ("train", "test"):
            raise ValueError(f"Unknown value '{split}' for argument split.")
        assert download is False

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.image, self.targets[index]


@pytest.fixture
def shapes(monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "Shapes", Shapes, raising=False)


def test_dataset_with_split_and_synonyms(shapes, tmp_path):
    source = TorchvisionSource("Shapes", tmp_path, "test")
    assert source.class_names == ["ring, circle", "square"]
    assert [(item.name, item.label) for item in source] == [("test/00000", 1), ("test/00001", 0)]
    assert Image.open(io.BytesIO(source[0].image())).getpixel((2, 1)) == (1, 2, 3)


def test_unusable_torchvision_datasets_are_refused(shapes, tmp_path, monkeypatch):
    with error(ValueError, "torchvision has no dataset fashionmnst; did you mean FashionMNIST\\?"):
        TorchvisionSource("fashionmnst", tmp_path, "train")
    with error(ValueError, "torchvision has no dataset qqqqqq; allowed: .*CIFAR10, .*"):
        TorchvisionSource("qqqqqq", tmp_path, "train")
    with error(ValueError, "torchvision.datasets.FakeData has no argument train or split, so it cannot be packed"):
        TorchvisionSource("FakeData", tmp_path, "train")
    with error(ValueError, f"torchvision's Shapes \\(val\\) in {tmp_path}: Unknown value 'val' for argument split."):
        TorchvisionSource("Shapes", tmp_path, "val")
    monkeypatch.setattr(Shapes, "targets", ((1, 2), 0))
    with error(ValueError, "test/00000 of Shapes: \\(1, 2\\) is not a class index"):
        TorchvisionSource("Shapes", tmp_path, "test")[0]
    monkeypatch.setattr(Shapes, "image", "text")
    with error(ValueError, "test/00001 of Shapes is a str, not an image"):
        TorchvisionSource("Shapes", tmp_path, "test")[1]
    monkeypatch.setattr(Shapes, "classes", ())
    with error(ValueError, "torchvision.datasets.Shapes gives no class names, so it cannot be packed"):
        TorchvisionSource("Shapes", tmp_path, "test")


def test_missing_torchvision_data_is_named(tmp_path):
    expected = f"expected what torchvision.datasets.CIFAR10\\('{tmp_path}', download=True\\) puts there"
    with error(FileNotFoundError, f"{tmp_path} does not hold CIFAR10 \\(train\\): Dataset not found.*; {expected}"):
        TorchvisionSource("CIFAR10", tmp_path, "train")
    with error(FileNotFoundError, f"{tmp_path}/no does not exist, it should hold the data of torchvision's CIFAR10"):
        TorchvisionSource("CIFAR10", tmp_path / "no", "train")


def test_damaged_gzip_file_is_named(tmp_path):
    shutil.copytree(SAMPLE, tmp_path, dirs_exist_ok=True)
    bad = tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    bad.write_bytes(bad.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{re.escape(str(bad))} is damaged: Compressed file ended"):
        TorchvisionSource("FashionMNIST", tmp_path, "test")


def test_folder_is_ordered_by_name_and_bytes_are_untouched(tmp_path, png):
    for name in ("b/2.PNG", "b/10.png", "a/z.JPEG", "a/notes.txt", "a/.hidden.png", ".git/x.png"):
        path = tmp_path / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png + name.encode())
    source = FolderSource(tmp_path, "val")
    assert source.class_names == ["a", "b"]
    assert [(item.name, item.label) for item in source] == [("a/z.JPEG", 0), ("b/10.png", 1), ("b/2.PNG", 1)]
    assert len(source) == 3
    assert source[2].image() == png + b"b/2.PNG"
    assert source[2].file == tmp_path / "val" / "b" / "2.PNG"
    size = [len(png) + len(name) for name in ("a/z.JPEG", "b/10.png", "b/2.PNG")]
    assert source.survey() == Survey(3, sum(size))
    assert source.survey(Shard(2, 3)) == Survey(1, size[1])
    assert source.expected(Shard(2, 2)) == (2, "image")


@pytest.mark.parametrize("total", [0, 1, 7, 48])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_shards_are_consecutive_balanced_and_complete(total, count):
    parts = [Shard(number, count).of(total) for number in range(1, count + 1)]
    assert [index for part in parts for index in part] == list(range(total))
    assert {len(part) for part in parts} <= {total // count, total // count + 1}


@pytest.mark.parametrize("numbers", [(0, 3), (4, 3), (1, 0), (-1, -1)])
def test_impossible_shards_are_refused(numbers):
    with error(ValueError, f"shard {numbers[0]}/{numbers[1]} is not allowed, must be K/N with 1 <= K <= N"):
        Shard(*numbers)
    assert str(WHOLE) == "1/1"


def test_bad_folders_are_refused(tmp_path, png):
    folder = tmp_path / "val"
    expected = f"expected {folder}/<class>/<image>"
    with error(ValueError, f"{folder} is not a folder; {expected}"):
        FolderSource(tmp_path, "val")
    folder.mkdir()
    with error(ValueError, f"{folder} holds no class folders; {expected}"):
        FolderSource(tmp_path, "val")
    (folder / "cat").mkdir()
    suffixes = ".bmp, .gif, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp"
    with error(ValueError, f"{folder}/cat holds no images \\({suffixes}\\)"):
        FolderSource(tmp_path, "val")
    (folder / "1.jpg").write_bytes(png)
    with error(ValueError, f"{folder} holds images without a class, such as 1.jpg; {expected}"):
        FolderSource(tmp_path, "val")
