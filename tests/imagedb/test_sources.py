import errno
import gzip
import io
import os
import pickle
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from imagedb.sources.files import inflate, read_file
from imagedb.sources.folder import FolderSource
from imagedb.sources.source import WHOLE, Shard, Survey
from imagedb.sources.torchvision import TorchvisionSource
from imagedb.writer import write_database
from storage.errors import InputError

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


def write_idx(file, values):
    """A file of the MNIST family: two zeros, type uint8, number of sides, sides, values (LeCun's description)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, values.ndim]) + b"".join(side.to_bytes(4, "big") for side in values.shape)
    file.write_bytes(head + values.astype(np.uint8).tobytes())


@pytest.mark.parametrize("split", ["letters", "balanced"])
def test_emnist_has_a_training_and_a_test_part_of_each_split(tmp_path, split):
    labels = {"train": [1, 2, 3], "test": [4, 5]}
    for part, found in labels.items():
        stem = tmp_path / "EMNIST" / "raw" / f"emnist-{split}-{part}"
        write_idx(stem.with_name(f"{stem.name}-images-idx3-ubyte"), np.full((len(found), 28, 28), found[0]))
        write_idx(stem.with_name(f"{stem.name}-labels-idx1-ubyte"), np.array(found))
    for part in ("train", "test"):
        source = TorchvisionSource("EMNIST", tmp_path, f"{split}/{part}")
        assert [item.label for item in source] == labels[part]
        assert source[1].name == f"{split}/{part}/00001"
        assert Image.open(io.BytesIO(source[0].image())).getpixel((0, 0)) == labels[part][0]
    for wrong in (split, "train"):
        with error(InputError, f"split '{wrong}' of torchvision's EMNIST is not allowed, must be <split>/train or .*"):
            TorchvisionSource("EMNIST", tmp_path, wrong)
    with error(InputError, f"split '{split}/extra' of torchvision's EMNIST is not allowed, must be train, test or val"):
        TorchvisionSource("EMNIST", tmp_path, f"{split}/extra")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Kinetics", "needs frames_per_clip, so it cannot be packed"),
        ("PhotoTour", "needs name, so it cannot be packed"),
        ("CocoDetection", "has no argument train or split, so it cannot be packed"),
    ],
)
def test_datasets_that_need_more_are_refused(tmp_path, name, message):
    with error(InputError, f"torchvision.datasets.{name} {message}"):
        TorchvisionSource(name, tmp_path, "train")


def test_every_dataset_of_torchvision_is_opened_or_refused_in_one_line(tmp_path):
    """None has both parts in one split without a word, or raises anything else where its files are missing."""
    names = [name for name in torchvision.datasets.__all__ if name not in ("wrap_dataset_for_transforms_v2",)]
    assert len(names) > 60
    for name in names:
        with pytest.raises((FileNotFoundError, InputError)):
            TorchvisionSource(name, tmp_path, "train")


def test_a_pickle_that_is_not_the_original_is_not_loaded(tmp_path):
    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    for name, folder, files in (
        ("CIFAR10", "cifar-10-batches-py", [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"]),
        ("CIFAR100", "cifar-100-python", ["train", "test", "meta"]),
    ):
        (tmp_path / folder).mkdir()
        for file in files:
            (tmp_path / folder / file).write_bytes(pickle.dumps(Code()))
        with pytest.raises(FileNotFoundError, match=f"does not hold {name} .train.: Dataset not found or corrupted"):
            TorchvisionSource(name, tmp_path, "train")
    assert not (tmp_path / "run").exists()


def test_damaged_files_of_torchvision_are_one_line(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    for part in ("train", "t10k"):
        write_idx(raw / f"{part}-images-idx3-ubyte", np.zeros((2, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.array([1, 2]))
    assert len(TorchvisionSource("MNIST", tmp_path, "train")) == 2
    images = raw / "train-images-idx3-ubyte"
    data = images.read_bytes()
    images.write_bytes(data[:-1])
    with error(
        FileNotFoundError, f"{tmp_path} does not hold MNIST .train.: shape .* is invalid for .* of size 1567; .*"
    ):
        TorchvisionSource("MNIST", tmp_path, "train")
    images.write_bytes(b"\1" + data[1:])
    with error(InputError, f"torchvision's MNIST .train. in {tmp_path}: .*"):
        TorchvisionSource("MNIST", tmp_path, "train")
    images.unlink()
    os.mkfifo(images)
    with error(InputError, f"{images} is a FIFO, a file is expected there"):
        TorchvisionSource("MNIST", tmp_path, "train")


def test_files_of_torchvision_are_opened_by_our_rules(tmp_path, png):
    fill(tmp_path / "country211", png, "train/a/1.png")
    os.mkfifo(tmp_path / "country211" / "train" / "a" / "2.png")
    source = TorchvisionSource("Country211", tmp_path, "train")
    assert Image.open(io.BytesIO(source[0].image())).tobytes() == Image.open(io.BytesIO(png)).tobytes()
    with error(InputError, f"{tmp_path}/country211/train/a/2.png is a FIFO, a file is expected there"):
        source[1]


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


def fill(folder, png, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png)


NESTED = ("a/day2/1.png", "a/day-2/1.png", "a/day2/x/0.png", "a/9.png", "b/day2/1.png", "b/c.d/1.JPG", "b/1.png")


def test_folders_below_a_class_are_read_as_torchvision_reads_them(tmp_path, png):
    fill(tmp_path / "train", png, *NESTED)
    fill(tmp_path / "elsewhere", png, "1.png", "y/2.png")
    (tmp_path / "train" / "b" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train" / "c").symlink_to(tmp_path / "elsewhere")
    theirs = torchvision.datasets.ImageFolder(tmp_path / "train")
    source = FolderSource(tmp_path, "train")
    assert source.class_names == theirs.classes == ["a", "b", "c"]
    found = [(str(item.file), item.label) for item in source]
    assert found == theirs.samples
    assert len(found) == len(NESTED) + 2 + 2
    assert [item.name for item in source][:3] == ["a/9.png", "a/day-2/1.png", "a/day2/1.png"]
    assert source.notes == {}


def test_files_that_are_left_out_are_named_once_in_the_first_shard(tmp_path, png):
    fill(tmp_path / "train", png, "a/1.png", "a/x/2.png", "b/3.png")
    fill(tmp_path / "train", png, "README", ".cache/1.png", "a/1.txt", "a/x/.2.png", "a/.git/4.png", "a/png", "b/5.svg")
    source = FolderSource(tmp_path, "train")
    assert [item.name for item in source] == ["a/1.png", "a/x/2.png", "b/3.png"]
    expected = {
        "left out: hidden": [".cache", "a/.git", "a/x/.2.png"],
        "left out: not named as an image": ["README", "a/1.txt", "a/png", "b/5.svg"],
    }
    assert source.notes == expected
    first, second = (write_database(source, tmp_path / f"{k}.lmdb", shard=Shard(k, 2)) for k in (1, 2))
    assert (first.notes, second.notes) == (expected, {})


def test_loops_of_links_end_and_are_named_once(tmp_path, png):
    fill(tmp_path / "train", png, "a/x/1.png", "b/2.png")
    links = {"a/self": "../a", "a/up": "../../train", "a/top": "/", "a/again": "x", "b/to_a": "../a/x", "b/up": ".."}
    for link, target in links.items():
        (tmp_path / "train" / link).symlink_to(target)
    source = FolderSource(tmp_path, "train")
    assert [item.name for item in source] == ["a/x/1.png", "b/2.png", "b/to_a/1.png"]
    again = ["a/again", "a/self", "a/top", "a/up", "b/up"]
    assert source.notes == {"left out: a folder that was reached before, through links": again}


def test_links_that_double_the_ways_to_a_folder_are_walked_once(tmp_path, png):
    """Thirty folders with two links to the next: 2^30 paths, of which torchvision would follow all."""
    fill(tmp_path / "train", png, "a/1.png")
    for level in range(30):
        (tmp_path / f"{level}").mkdir()
        for name in "xy":
            (tmp_path / f"{level}" / name).symlink_to(f"../{level + 1}")
    fill(tmp_path / "30", png, "2.png")
    (tmp_path / "train" / "a" / "way").symlink_to("../../0")
    source = FolderSource(tmp_path, "train")
    assert [item.name for item in source] == ["a/1.png", "a/way" + "/x" * 30 + "/2.png"]
    assert len(source.notes["left out: a folder that was reached before, through links"]) == 30


def test_what_is_no_file_is_named_and_not_opened(tmp_path, png):
    fill(tmp_path / "train", png, "a/1.png")
    os.mkfifo(tmp_path / "train" / "a" / "2.png")
    (tmp_path / "train" / "a" / "3.png").symlink_to("/dev/zero")
    (tmp_path / "train" / "a" / "4.png").symlink_to("4.png")
    (tmp_path / "train" / "a" / "5.png").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "train" / "a" / "6.png"))
    _, *others = FolderSource(tmp_path, "train")
    with error(InputError, f"{tmp_path}/train/a/2.png is a FIFO, a file is expected there"):
        others[0].image()
    with error(InputError, f"{tmp_path}/train/a/3.png is a device, a file is expected there"):
        others[1].image()
    for other, symbol in ((others[2], "ELOOP"), (others[3], "ENOENT")):
        with pytest.raises(OSError, match=f"{other.name}'$") as refusal:
            other.image()
        assert refusal.value.errno == getattr(errno, symbol)
    with error(InputError, f"{tmp_path}/train/a/6.png is a socket, a file is expected there"):
        others[4].image()


def test_file_without_end_is_refused_by_its_size(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(2**40)
    with error(InputError, f"{tmp_path}/a.png has 1099511627776 bytes, allowed: 1073741824"):
        read_file(tmp_path / "a.png")


def test_gzip_file_without_end_is_refused(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(10**6)))
    assert inflate(tmp_path / "a.gz", 10**6) == bytes(10**6)
    with error(InputError, f"{tmp_path}/a.gz unpacks to more than 999999 bytes, which are allowed"):
        inflate(tmp_path / "a.gz", 10**6 - 1)


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
