import gzip
import io
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from imagedb import folder_source, torchvision_source

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
    source = torchvision_source("FashionMNIST", SAMPLE, "test")
    pixels = idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = idx("t10k-labels-idx1-ubyte.gz", 8)
    assert len(source) == len(labels) == 2000
    items = list(source)
    assert [item.label for item in items] == labels.tolist()
    assert [items[0].name, items[1999].name] == ["test/00000", "test/01999"]
    for item, expected in zip(items, pixels, strict=True):
        image = Image.open(io.BytesIO(item.image))
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert source.class_names[0] == "T-shirt/top"
    assert len(source.class_names) == 10
    assert sorted(SAMPLE.rglob("*")) == before


def test_split_train_is_the_training_set():
    source = torchvision_source("FashionMNIST", SAMPLE, "train")
    assert (len(source), source[42].name) == (10000, "train/00042")
    assert source[42].label == idx("train-labels-idx1-ubyte.gz", 8)[42]


def test_torchvision_source_survives_pickling_and_bounds():
    source = torchvision_source("FashionMNIST", SAMPLE, "test")
    copy = pickle.loads(pickle.dumps(source))
    assert copy[7] == source[7]
    for index in (-1, 2000):
        with pytest.raises(IndexError):
            source[index]


def test_plain_files_are_read_where_they_lie(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in RAW.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    assert (
        torchvision_source("FashionMNIST", tmp_path, "test")[3] == torchvision_source("FashionMNIST", SAMPLE, "test")[3]
    )


class Shapes(torchvision.datasets.VisionDataset):
    """A data set with `split`, synonyms as class names, and colour pictures."""

    classes = (("ring", "circle"), "square")
    picture = Image.new("RGB", (3, 2), (1, 2, 3))
    targets = (np.int64(1), 0)

    def __init__(self, root, split="train", download=False):
        if split not in ("train", "test"):
            raise ValueError(f"Unknown value '{split}' for argument split.")
        assert download is False

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.picture, self.targets[index]


@pytest.fixture
def shapes(monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "Shapes", Shapes, raising=False)


def test_dataset_with_split_and_synonyms(shapes, tmp_path):
    source = torchvision_source("Shapes", tmp_path, "test")
    assert source.class_names == ["ring, circle", "square"]
    assert [(item.name, item.label) for item in source] == [("test/00000", 1), ("test/00001", 0)]
    assert Image.open(io.BytesIO(source[0].image)).getpixel((2, 1)) == (1, 2, 3)


def test_unusable_torchvision_datasets_are_refused(shapes, tmp_path, monkeypatch):
    with error(ValueError, "torchvision has no dataset fashionmnst; did you mean FashionMNIST\\?"):
        torchvision_source("fashionmnst", tmp_path, "train")
    with error(ValueError, "torchvision has no dataset qqqqqq; allowed: .*CIFAR10, .*"):
        torchvision_source("qqqqqq", tmp_path, "train")
    with error(ValueError, "torchvision.datasets.FakeData has no argument train or split, so it cannot be packed"):
        torchvision_source("FakeData", tmp_path, "train")
    with error(ValueError, f"torchvision's Shapes \\(val\\) in {tmp_path}: Unknown value 'val' for argument split."):
        torchvision_source("Shapes", tmp_path, "val")
    monkeypatch.setattr(Shapes, "targets", ((1, 2), 0))
    with error(ValueError, "test/00000 of Shapes: \\(1, 2\\) is not a class index"):
        torchvision_source("Shapes", tmp_path, "test")[0]
    monkeypatch.setattr(Shapes, "picture", "text")
    with error(ValueError, "test/00001 of Shapes is a str, not a picture"):
        torchvision_source("Shapes", tmp_path, "test")[1]
    monkeypatch.setattr(Shapes, "classes", ())
    with error(ValueError, "torchvision.datasets.Shapes gives no class names, so it cannot be packed"):
        torchvision_source("Shapes", tmp_path, "test")


def test_missing_torchvision_data_is_named(tmp_path):
    expected = f"expected what torchvision.datasets.CIFAR10\\('{tmp_path}', download=True\\) puts there"
    with error(FileNotFoundError, f"{tmp_path} does not hold CIFAR10 \\(train\\): Dataset not found.*; {expected}"):
        torchvision_source("CIFAR10", tmp_path, "train")
    with error(FileNotFoundError, f"{tmp_path}/no does not exist, it should hold the data of torchvision's CIFAR10"):
        torchvision_source("CIFAR10", tmp_path / "no", "train")


def test_damaged_gzip_file_is_named(tmp_path):
    shutil.copytree(SAMPLE, tmp_path, dirs_exist_ok=True)
    bad = tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    bad.write_bytes(bad.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{re.escape(str(bad))} is damaged: Compressed file ended"):
        torchvision_source("FashionMNIST", tmp_path, "test")


def test_folder_is_ordered_by_name_and_bytes_are_untouched(tmp_path, png):
    for name in ("b/2.PNG", "b/10.png", "a/z.JPEG", "a/notes.txt", "a/.hidden.png", ".git/x.png"):
        path = tmp_path / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png + name.encode())
    source = folder_source(tmp_path, "val")
    assert source.class_names == ["a", "b"]
    assert [(item.name, item.label) for item in source] == [("a/z.JPEG", 0), ("b/10.png", 1), ("b/2.PNG", 1)]
    assert len(source) == 3
    assert source[2].image() == png + b"b/2.PNG"
    assert source[2].file == tmp_path / "val" / "b" / "2.PNG"
    assert pickle.loads(pickle.dumps(source))[1].name == "b/10.png"


def test_bad_folders_are_refused(tmp_path, png):
    folder = tmp_path / "val"
    expected = f"expected {folder}/<class>/<picture>"
    with error(ValueError, f"{folder} is not a folder; {expected}"):
        folder_source(tmp_path, "val")
    folder.mkdir()
    with error(ValueError, f"{folder} holds no class folders; {expected}"):
        folder_source(tmp_path, "val")
    (folder / "cat").mkdir()
    suffixes = ".bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp"
    with error(ValueError, f"{folder}/cat holds no pictures \\({suffixes}\\)"):
        folder_source(tmp_path, "val")
    (folder / "1.jpg").write_bytes(png)
    with error(ValueError, f"{folder} holds pictures without a class, such as 1.jpg; {expected}"):
        folder_source(tmp_path, "val")
