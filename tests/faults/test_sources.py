"""Sources whose files are changed, hostile or no files at all: they are packed, or one line says why not."""

import gzip
import json
import os
import random
import struct

import numpy as np
import pytest
from forks import attacked, outcome
from imagenet_archives import SYNSETS, jpeg, tar, write_devkit, write_train, write_val
from mutated_values import replaced
from sample_images import encode

from imagedb.sources.files import CHUNK
from imagedb.writer import write_database
from pipeline.sources import open_source

pytestmark = pytest.mark.faults

PNG = encode(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
ODD = [
    *(None, True, -1, 0, 1.5, 2**31, 2**63, 2**64, 10**400, float("nan"), float("inf"), -float("inf"), 1e308),
    *("", " ", "../../x", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, "NaN", "o" * 100),
    *([], {}, [[]], [1] * 7, [1e9] * 8, {"counts": [-1], "size": [4, 4]}, {"counts": "o", "size": [4, 4]}),
]
PIECES = [b"\0", b'"', b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b",", b"<", b"&", b"[" * 3000]


def packed(tmp_path, kind, split):
    """How many images are packed; images that are no more images are left out, since these tests are about the rest."""
    source = open_source(kind, str(tmp_path), split, None)
    done = write_database(source, tmp_path / f"{kind}.lmdb", on_bad_image="skip")
    return done.header.count


def odd_value(draw):
    return draw.choice(ODD)


def in_text(text, draw):
    """A text with some bytes changed, doubled, lost, or with something hostile in between."""
    data = bytearray(text)
    for _ in range(draw.choice([1, 1, 3])):
        at = draw.randrange(len(data))
        match draw.randrange(5):
            case 0:
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                del data[at : at + draw.choice([1, 10])]
            case 2:
                data[at:at] = data[at : at + 20]
            case 3:
                data[at:at] = draw.choice(
                    [b"\0", b'"', b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b",", b"<", b"&", b"[" * 3000]
                )
            case 4:
                data[at:at] = str(draw.choice(ODD[:13])).encode()
    return bytes(data)


def texts(file, right):
    """A spoiler that changes the bytes of a text."""

    def spoil(seed):
        file.write_bytes(in_text(right, random.Random(seed)))
        return file.name

    return spoil


def values(file, right):
    """A spoiler that changes the values of a JSON file."""

    def spoil(seed):
        file.write_text(json.dumps(replaced(right, random.Random(seed), odd_value, 0.9)))
        return file.name

    return spoil


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_lists(tmp_path, suffix):
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(PNG)
    rows = [(f"{number}.png", number % 3) for number in range(6)]
    right = {
        "csv": "path,label\n" + "".join(f"{path},{label}\n" for path, label in rows),
        "jsonl": "".join(json.dumps({"path": path, "label": label}) + "\n" for path, label in rows),
    }[suffix]
    file = tmp_path / f"train.{suffix}"
    file.write_text(right)
    assert outcome(lambda: packed(tmp_path, "list", file.name)) == ("value", 6)
    counts = attacked(80, texts(file, right.encode()), lambda: packed(tmp_path, "list", file.name))
    assert counts["line"] > 20, counts


@pytest.fixture
def coco(tmp_path):
    outlines = [
        [[0, 0, 2, 0, 2, 2, 0, 2]],
        {"size": [4, 4], "counts": "88"},  # as text: 8 and 8
        {"size": [4, 4], "counts": [8, 8]},
    ]
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 4, "width": 4} for n in (1, 2)],
        "annotations": [
            {"id": n, "image_id": 1 + n % 2, "category_id": 1, "bbox": [0, 0, 2, 2], "segmentation": outline}
            for n, outline in enumerate(outlines)
        ],
        "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").mkdir()
    for number in (1, 2):
        (tmp_path / "val" / f"{number}.png").write_bytes(PNG)
    file = tmp_path / "annotations" / "instances_val.json"
    file.write_text(json.dumps(content))
    assert outcome(lambda: packed(tmp_path, "coco", "val")) == ("value", 2)
    return file, content


def test_values_of_coco(tmp_path, coco):
    counts = attacked(150, values(*coco), lambda: packed(tmp_path, "coco", "val"))
    assert counts["line"] > 50, counts


def test_polygons_of_coco(tmp_path, coco):
    """Coordinates of all sizes, of which pycocotools makes signals where they are too large for its integers."""
    file, content = coco

    def spoil(seed):
        draw = random.Random(seed)
        sides = [draw.choice([0, 1, -1]) * 10.0 ** draw.uniform(-3, draw.choice([3, 6, 10, 30])) for _ in range(12)]
        content["annotations"][0]["segmentation"] = [sides]
        file.write_text(json.dumps(content))
        return sides

    counts = attacked(80, spoil, lambda: packed(tmp_path, "coco", "val"))
    assert min(counts["line"], counts["value"]) > 5, counts


def test_text_of_coco(tmp_path, coco):
    file, content = coco
    attacked(60, texts(file, json.dumps(content).encode()), lambda: packed(tmp_path, "coco", "val"))


def test_cityscapes(tmp_path):
    image = tmp_path / "leftImg8bit" / "val" / "a" / "x_leftImg8bit.png"
    fine = tmp_path / "gtFine" / "val" / "a"
    for folder in (image.parent, fine):
        folder.mkdir(parents=True)
    for file in (image, fine / "x_gtFine_labelIds.png", fine / "x_gtFine_instanceIds.png"):
        file.write_bytes(PNG)
    content = {
        "objects": [{"label": "car", "polygon": [[0, 0], [2, 2], [1, 3]]}, {"label": "cargroup", "polygon": [[1, 2]]}]
    }
    file = fine / "x_gtFine_polygons.json"
    file.write_text(json.dumps(content))
    assert outcome(lambda: packed(tmp_path, "cityscapes", "val")) == ("value", 1)
    counts = attacked(80, values(file, content), lambda: packed(tmp_path, "cityscapes", "val"))
    assert counts["line"] > 20, counts


def test_voc(tmp_path):
    xml = (
        b"<annotation><object><name>cat</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax>"
        b"<ymax>4</ymax></bndbox></object></annotation>"
    )
    files = {"JPEGImages/1.jpg": jpeg(0), "Annotations/1.xml": xml, "ImageSets/Main/train.txt": b"1\n"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert outcome(lambda: packed(tmp_path, "voc", "train")) == ("value", 1)
    counts = attacked(60, texts(tmp_path / "Annotations" / "1.xml", xml), lambda: packed(tmp_path, "voc", "train"))
    assert counts["line"] > 20, counts


@pytest.fixture
def imagenet(tmp_path):
    wnids = ["n02100735", "n02110185", "n02119789"]
    write_devkit(tmp_path, SYNSETS, [3, 1, 2])
    write_train(tmp_path, [(wnid, {f"{wnid}_{n}.JPEG": jpeg(n) for n in (1, 2)}) for wnid in wnids])
    write_val(tmp_path, [(f"ILSVRC2012_val_{n:08d}.JPEG", jpeg(n)) for n in (1, 2, 3)])
    assert outcome(lambda: packed(tmp_path, "imagenet", "train")) == ("value", 6)
    assert outcome(lambda: packed(tmp_path, "imagenet", "val")) == ("value", 3)
    return tmp_path


@pytest.mark.parametrize(("split", "file"), [("train", "ILSVRC2012_img_train.tar"), ("val", "ILSVRC2012_img_val.tar")])
def test_archives_of_imagenet(imagenet, split, file):
    """Fields of the headers of members, with right checksums of the headers: sizes, types, names."""
    right = (imagenet / file).read_bytes()
    headers = [at for at in range(0, len(right), 512) if right[at + 257 : at + 262] == b"ustar"]

    def spoil(seed):
        draw, data = random.Random(seed), bytearray(right)
        at = draw.choice(headers)
        start, length = draw.choice([(0, 100), (124, 12), (124, 12), (156, 1), (156, 1), (157, 100), (345, 155)])
        field = draw.choice(
            [
                draw.randbytes(length),
                b"\xff" * length,
                b"\x80" + draw.randbytes(11),
                b"%011o" % draw.randrange(10**6),
                bytes([draw.choice(b"0123456789xgLKSVD")]),
                b"../../../tmp/x",
            ]
        )[:length]
        data[at + start : at + start + len(field)] = field
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
        (imagenet / file).write_bytes(data)
        return f"{start} of the header at {at}: {field!r}"

    counts = attacked(100, spoil, lambda: packed(imagenet, "imagenet", split))
    assert counts["line"] > 30, counts


@pytest.mark.parametrize("inner", [False, True])
def test_devkit_of_imagenet(imagenet, inner):
    """Changed bytes, of the gzip file and of what it holds."""
    file = imagenet / "ILSVRC2012_devkit_t12.tar.gz"
    right = gzip.decompress(file.read_bytes()) if inner else file.read_bytes()

    def spoil(seed):
        draw, data = random.Random(seed), bytearray(right)
        for _ in range(draw.choice([1, 8])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(gzip.compress(data, 1) if inner else data)
        return file.name

    attacked(60, spoil, lambda: packed(imagenet, "imagenet", "val"))


@pytest.mark.parametrize("packer", [gzip.compress, lambda data: gzip.compress(tar({"meta.mat": data}))])
def test_devkit_that_inflates_without_end(imagenet, packer):
    file = imagenet / "ILSVRC2012_devkit_t12.tar.gz"
    file.write_bytes(packer(bytes(200 * CHUNK)) * 50)
    kind, line = outcome(lambda: packed(imagenet, "imagenet", "val"), memory=2**28)
    assert (kind, "unpacks to more than" in str(line)) == ("line", True)


@pytest.mark.parametrize("kind", ["list", "coco", "voc", "cityscapes", "imagenet", "reference", "database", "folder"])
def test_what_is_no_file_is_never_opened(tmp_path, kind):
    """Each file of a source in turn is a FIFO, which nobody writes to: opening it would last for ever."""
    names = {
        "list": ["train", "classes.txt"],
        "coco": ["annotations/instances_train.json"],
        "voc": ["ImageSets/Main/train.txt"],
        "cityscapes": ["leftImg8bit/train/a/x_leftImg8bit.png"],
        "imagenet": ["ILSVRC2012_img_train.tar", "train/ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_devkit_t12.tar.gz"],
        "reference": ["train", "train/data.mdb"],
        "database": ["train", "train/data.rec", "train/header.json"],
        "folder": ["train/a/1.png"],
    }[kind]
    for number, name in enumerate(names):
        root = tmp_path / str(number)
        (root / name).parent.mkdir(parents=True)
        os.mkfifo(root / name)
        ended, line = outcome(lambda root=root: packed(root, kind, "train"), seconds=10)
        assert ended == "line", (name, line)


def test_compressed_meta_of_the_devkit_that_inflates_without_end(imagenet):
    """A matrix of meta.mat that claims far more bytes than it has."""
    (imagenet / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    folder = imagenet / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n")
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    dims = struct.pack("<IIiiII", 5, 8, 2**15, 2**15, 1, 8) + b"synsets\0"
    flags = struct.pack("<IIII", 6, 8, 6, 0)
    matrix = flags + dims + struct.pack("<II", 9, 2**31 - 64)
    (folder / "meta.mat").write_bytes(head + struct.pack("<II", 14, len(matrix)) + matrix)
    kind, line = outcome(lambda: packed(imagenet, "imagenet", "val"))
    assert (kind, "meta.mat cannot be read" in str(line)) == ("line", True)
