import gzip
import os
import re
import tarfile

import pytest
import torchvision.datasets.imagenet
from imagenet_archives import SYNSETS, add, jpeg, meta_mat, tar, write_devkit, write_train, write_val

from imagedb.sources.folder import FolderSource
from imagedb.sources.imagenet import imagenet_source
from imagedb.sources.source import WHOLE, Shard, Survey
from storage.errors import InputError

WNIDS = ["n02100735", "n02110185", "n02119789"]  # English setter, Siberian husky, kit fox
TRAIN = {  # unordered, with about equal numbers of bytes per image
    "n02119789": {f"n02119789_{number}.JPEG": jpeg(number) for number in (7, 10026, 3, 4)},
    "n02100735": {f"n02100735_{number}.JPEG": jpeg(number, (30, 40)) for number in (11, 2)},
    "n02110185": {f"n02110185_{number}.JPEG": jpeg(number) for number in (5, 1)},
}
TRUTH = [3, 1, 2, 2, 1]
VAL = {f"ILSVRC2012_val_{number:08d}.JPEG": jpeg(100 + number) for number in (2, 1, 5, 4, 3)}
VAL_NAMES = {  # worked out by hand from TRUTH
    "ILSVRC2012_val_00000001.JPEG": ("n02110185", 1),
    "ILSVRC2012_val_00000002.JPEG": ("n02119789", 2),
    "ILSVRC2012_val_00000003.JPEG": ("n02100735", 0),
    "ILSVRC2012_val_00000004.JPEG": ("n02100735", 0),
    "ILSVRC2012_val_00000005.JPEG": ("n02119789", 2),
}
EXPECTED = {
    "train": [
        (f"{wnid}/{file}", WNIDS.index(wnid), image) for wnid, files in TRAIN.items() for file, image in files.items()
    ],
    "val": [(f"{VAL_NAMES[file][0]}/{file}", VAL_NAMES[file][1], image) for file, image in VAL.items()],
}


@pytest.fixture
def root(tmp_path):
    """The three archives."""
    write_devkit(tmp_path, SYNSETS, TRUTH)
    write_train(tmp_path, TRAIN.items())
    write_val(tmp_path, VAL.items())
    return tmp_path


def content(source, shard=WHOLE):
    return [
        (item.name, item.label, item.image() if callable(item.image) else item.image) for item in source.images(shard)
    ]


def refused(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(str(message))}$")


@pytest.mark.parametrize("split", ["train", "val"])
def test_archives_in_their_order(root, split):
    before = sorted(root.rglob("*"))
    source = imagenet_source(root, split)
    assert content(source) == EXPECTED[split]
    assert source.class_names == ["English setter", "Siberian husky", "kit fox, Vulpes macrotis"]
    assert source.survey() == Survey(len(EXPECTED[split]), sum(len(image) for *_, image in EXPECTED[split]))
    assert {item.file for item in source.images()} == {root / f"ILSVRC2012_img_{split}.tar"}
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("split", ["train", "val"])
def test_torchvision_agrees_and_what_it_extracts_is_the_same_source(root, split, monkeypatch):
    metas = torchvision.datasets.imagenet.ARCHIVE_META
    for key, (file, _) in metas.items():
        monkeypatch.setitem(metas, key, (file, None))  # the checksums are of the real archives
    oracle = torchvision.datasets.ImageNet(root, split)
    expected = {path.removeprefix(f"{root / split}/"): label for path, label in oracle.samples}
    source = imagenet_source(root, split)
    assert {item.name: item.label for item in source.images()} == expected
    assert [tuple(words.split(", ")) for words in source.class_names] == oracle.classes
    (root / f"ILSVRC2012_img_{split}.tar").unlink()
    folders = imagenet_source(root, split)
    assert content(folders) == sorted(EXPECTED[split])
    assert folders.class_names == source.class_names


def test_archives_packed_again_with_folders(root):
    """`tar --create --file ILSVRC2012_img_train.tar .` makes such archives from extracted ones."""
    folder = tarfile.TarInfo("./")
    folder.type = tarfile.DIRTYPE
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as archive:
        archive.addfile(folder)
        for wnid, files in TRAIN.items():
            add(archive, f"./{wnid}.tar", tar({f"./{file}": image for file, image in files.items()}))
    assert content(imagenet_source(root, "train")) == EXPECTED["train"]


def test_flat_validation_folder_and_extracted_devkit(root):
    for name in ("img_val.tar", "devkit_t12.tar.gz"):
        archive = root / f"ILSVRC2012_{name}"
        with tarfile.open(archive) as members:
            members.extractall(root / "val" if "val" in name else root, filter="data")
        archive.unlink()
    (root / "val" / ".DS_Store").touch()
    source = imagenet_source(root, "val")
    by_number = sorted(EXPECTED["val"], key=lambda image: image[0].split("/")[1])
    assert content(source) == by_number
    assert source.survey() == Survey(5, sum(map(len, VAL.values())))
    (root / "val" / "ILSVRC2012_val_00000003.JPEG").unlink()
    with refused(ValueError, f"{root / 'val'} holds 4 images, the devkit's ground truth 5"):
        imagenet_source(root, "val")


def test_class_folders_without_a_devkit_are_a_folder_source(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.JPEG").write_bytes(jpeg(1))
    source = imagenet_source(tmp_path, "train")
    assert isinstance(source, FolderSource)
    assert source.class_names == ["ant", "bee"]


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([3, 1, 1, 1], 2, [[3], [1, 1, 1]]),
        ([1, 1, 1, 3], 2, [[1, 1, 1], [3]]),
        ([1, 4, 1, 1, 1], 3, [[1], [4], [1, 1, 1]]),
        ([2], 1, [[2]]),
        ([50, 1, 1], 3, [[50], [1], [1]]),
        ([1, 1, 50], 3, [[1], [1], [50]]),
    ],
)
def test_training_parts_are_classes_of_like_bytes(tmp_path, sizes, count, expected):
    synsets = [(number, f"n{number:08d}", f"thing {number}", []) for number in range(1, len(sizes) + 1)]
    write_devkit(tmp_path, synsets, [1])
    # A tar file of one file of 10,240 n - 2,048 bytes has 10,240 n bytes.
    files = {
        wnid: {f"{wnid}_1.JPEG": bytes(10240 * size - 2048)} for size, (_, wnid, *_) in zip(sizes, synsets, strict=True)
    }
    write_train(tmp_path, files.items())
    source = imagenet_source(tmp_path, "train")
    shards = [Shard(k, count) for k in range(1, count + 1)]
    assert [[len(item.image) for item in source.images(shard)] for shard in shards] == [
        [10240 * size - 2048 for size in part] for part in expected
    ]
    assert [source.expected(shard) for shard in shards] == [(10240 * sum(part), "B") for part in expected]
    assert [source.survey(shard).images for shard in shards] == [len(part) for part in expected]
    names = [item.name for shard in shards for item in source.images(shard)]
    assert names == [item.name for item in source.images()]
    archive = tmp_path / "ILSVRC2012_img_train.tar"
    with refused(ValueError, f"shard 1/6 is not allowed, {archive} holds {len(sizes)} class tars, which stay whole"):
        next(source.images(Shard(1, 6)))


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_validation_parts_make_up_the_whole(root, count):
    source = imagenet_source(root, "val")
    shards = [Shard(k, count) for k in range(1, count + 1)]
    parts = [content(source, shard) for shard in shards]
    assert [image for part in parts for image in part] == EXPECTED["val"]
    assert [source.expected(shard) for shard in shards] == [(len(part), "image") for part in parts]
    assert [source.survey(shard).bytes for shard in shards] == [sum(len(image) for *_, image in part) for part in parts]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n02110185": None, "n02119789": None}, "missing classes of the devkit (2): n02110185, n02119789"),
        (dict.fromkeys(WNIDS), "missing classes of the devkit (3): n02100735, n02110185, n02119789"),
        ({"n02083346": {}}, "not classes of the devkit (1): n02083346"),
    ],
)
def test_other_classes_than_the_devkits_are_refused(root, change, message):
    classes = {wnid: files for wnid, files in (TRAIN | change).items() if files is not None}
    write_train(root, classes.items())
    with refused(ValueError, f"{root / 'ILSVRC2012_img_train.tar'}: {message}"):
        imagenet_source(root, "train")


def test_class_twice_in_the_archive_is_refused(root):
    write_train(root, [*TRAIN.items(), ("n02110185", {})])
    with refused(ValueError, f"{root / 'ILSVRC2012_img_train.tar'}: more than once (1): n02110185"):
        imagenet_source(root, "train")


def test_only_three_missing_classes_are_named(tmp_path):
    write_devkit(tmp_path, [(number, f"n{number:08d}", "thing", []) for number in range(1, 6)], [1])
    write_train(tmp_path, [("n00000003", {})])
    with pytest.raises(ValueError, match=r"\(4\): n00000001, n00000002, n00000004, \.\.\.$"):
        imagenet_source(tmp_path, "train")


def test_class_folders_must_be_the_devkits(root):
    (root / "ILSVRC2012_img_train.tar").unlink()
    for wnid in ("n02119789", "n02100735"):
        (root / "train" / wnid).mkdir(parents=True)
        (root / "train" / wnid / "1.JPEG").touch()
    with refused(ValueError, f"{root / 'train'}: missing classes of the devkit (1): n02110185"):
        imagenet_source(root, "train")


def test_truncated_training_archive_is_found_before_the_first_image(root):
    archive = root / "ILSVRC2012_img_train.tar"
    data = archive.read_bytes()
    last = data.index(b"n02110185.tar")
    for size, message in [
        (last + 1000, f"n02110185.tar extends beyond its {last + 1000} bytes"),
        (last + 100, f"no tar header at byte {last} of {last + 100}"),
        (last, f"no tar header at byte {last} of {last}"),
        (0, "no tar header at byte 0 of 0"),
    ]:
        archive.write_bytes(data[:size])
        with refused(ValueError, f"{archive} is truncated: {message}"):
            imagenet_source(root, "train")


def test_damaged_header_is_not_the_end_of_the_archive(root):
    """Python's tarfile would ignore everything that follows."""
    archive = root / "ILSVRC2012_img_train.tar"
    data = bytearray(archive.read_bytes())
    header = data.index(b"n02100735.tar")
    data[header] ^= 1
    archive.write_bytes(data)
    with refused(ValueError, f"{archive} is damaged: no tar header at byte {header} of {len(data)}"):
        imagenet_source(root, "train")


def flipped(data, header):
    return data[:header] + b"?" + data[header + 1 :]


def zeroed(data, header):
    return data[:header] + bytes(512) + data[header + 512 :]


def cut(data, header):
    return data[: header + 600]


def ended(data, header):
    return data[:header]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flipped, "damaged: no tar header at byte {header} of {size}"),
        (zeroed, "damaged: data follow its end at byte {header}"),
        (cut, "truncated: n02100735_2.JPEG extends beyond its {size} bytes"),
        (ended, "truncated: no tar header at byte {header} of {size}"),
    ],
)
def test_damaged_class_tar(root, damage, message):
    good = tar(TRAIN["n02100735"])
    header = good.index(b"n02100735_2.JPEG")
    bad = damage(good, header)
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as archive:
        for wnid, files in TRAIN.items():
            add(archive, f"{wnid}.tar", bad if wnid == "n02100735" else tar(files))
    source = imagenet_source(root, "train")
    message = message.format(header=header, size=len(bad))
    with refused(ValueError, f"{root / 'ILSVRC2012_img_train.tar'}: n02100735.tar is {message}"):
        list(source.images())
    with pytest.raises(ValueError, match="n02100735"):
        source.survey()


def test_long_zeros_are_damage(root):
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as archive:
        for wnid, files in TRAIN.items():
            add(archive, f"{wnid}.tar", tar(files) + bytes(2**20))
    with pytest.raises(ValueError, match=r": n02119789\.tar is damaged: data follow its end at byte \d+$"):
        list(imagenet_source(root, "train").images())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ILSVRC2012_val_00000003.JPEG": None}, "4 images, the devkit's ground truth 5"),
        ({"ILSVRC2012_val_00000006.JPEG": b""}, "6 images, the devkit's ground truth 5"),
        (
            {"ILSVRC2012_val_00000003.JPEG": None, "ILSVRC2012_val_00000006.JPEG": b""},
            "ILSVRC2012_val_00000006.JPEG, the devkit's ground truth has numbers 1 to 5",
        ),
        (
            {"ILSVRC2012_val_00000003.JPEG": None, "ILSVRC2012_val_00000000.JPEG": b""},
            "ILSVRC2012_val_00000000.JPEG, the devkit's ground truth has numbers 1 to 5",
        ),
        (
            {"ILSVRC2012_val_00000003.JPEG": None, "ILSVRC2012_test_00000003.JPEG": b""},
            "ILSVRC2012_test_00000003.JPEG; expected ILSVRC2012_val_<8 digits>.JPEG",
        ),
    ],
)
def test_validation_archive_must_be_that_of_the_ground_truth(root, change, message):
    write_val(root, [(file, image) for file, image in (VAL | change).items() if image is not None])
    source = imagenet_source(root, "val")
    for use in (lambda: list(source.images()), source.survey, lambda: list(source.images(Shard(2, 2)))):
        with refused(ValueError, f"{root / 'ILSVRC2012_img_val.tar'} holds {message}"):
            use()


def test_truncated_validation_archive(root):
    archive = root / "ILSVRC2012_img_val.tar"
    archive.write_bytes(archive.read_bytes()[:2000])
    source = imagenet_source(root, "val")
    with pytest.raises(ValueError, match=rf"^{archive} is truncated: "):
        list(source.images())


def test_devkit_without_a_file(root):
    archive = root / "ILSVRC2012_devkit_t12.tar.gz"
    for file in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
        write_devkit(root, SYNSETS, TRUTH, without=f"data/{file}")
        with refused(ValueError, f"{archive}: ILSVRC2012_devkit_t12/data/{file} is missing"):
            imagenet_source(root, "train")


def test_no_devkit(root):
    archive = root / "ILSVRC2012_devkit_t12.tar.gz"
    archive.unlink()
    with refused(
        FileNotFoundError,
        f"neither {archive} nor the folder {root / 'ILSVRC2012_devkit_t12'} exists; either defines ImageNet's classes",
    ):
        imagenet_source(root, "val")


def test_damaged_devkit(root):
    archive = root / "ILSVRC2012_devkit_t12.tar.gz"
    data = archive.read_bytes()
    middles = [data[:at] + b"????" + data[at + 4 :] for at in range(60, len(data), 50)]
    for damaged in (data[: len(data) // 2], b"<html>", gzip.compress(b"<html>"), *middles):
        archive.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"^{archive} is (damaged|truncated): .+$"):
            imagenet_source(root, "train")


def test_devkit_that_inflates_without_end_is_refused_in_little_memory(root):
    archive = root / "ILSVRC2012_devkit_t12.tar.gz"
    archive.write_bytes(gzip.compress(bytes(2**24)) * 100)  # 1.6 MB that would be 1.6 GB
    with refused(InputError, f"{archive} unpacks to more than 67108864 bytes, which are allowed"):
        imagenet_source(root, "train")


def test_fifo_in_place_of_the_devkit_or_an_image_is_named(root):
    archive = root / "ILSVRC2012_devkit_t12.tar.gz"
    content = gzip.decompress(archive.read_bytes())
    archive.unlink()
    os.mkfifo(archive)
    with refused(InputError, f"{archive} is a FIFO, a file is expected there"):
        imagenet_source(root, "train")
    archive.unlink()
    archive.write_bytes(gzip.compress(content))
    (root / "ILSVRC2012_img_val.tar").unlink()
    (root / "val").mkdir()
    for number in range(1, 6):
        os.mkfifo(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    with refused(InputError, f"{root}/val/ILSVRC2012_val_00000001.JPEG is a FIFO, a file is expected there"):
        next(imagenet_source(root, "val").images()).image()


@pytest.mark.parametrize("line", ["5", "6", "0", "x"])
def test_ground_truth_of_other_synsets(root, line):
    write_devkit(root, SYNSETS, [1, 2, line])
    archive = root / "ILSVRC2012_devkit_t12.tar.gz"
    with refused(ValueError, f"{archive}: line 3 of the ground truth is {line}, no low-level ILSVRC2012_ID"):
        imagenet_source(root, "val")


@pytest.mark.parametrize("meta", [b"", b"MATLAB 5.0 MAT-file", meta_mat(SYNSETS)[:200], meta_mat(SYNSETS[3:])])
def test_damaged_meta(root, meta):
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    (folder / "meta.mat").write_bytes(meta)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n")
    (root / "ILSVRC2012_devkit_t12.tar.gz").unlink()
    with pytest.raises(ValueError, match=f"^{folder.parent}: meta.mat cannot be read: .+$"):
        imagenet_source(root, "val")


def test_split_and_root(tmp_path):
    with refused(ValueError, "split 'test' of ImageNet is not allowed, must be train or val"):
        imagenet_source(tmp_path, "test")
    archive, folder = tmp_path / "ILSVRC2012_img_val.tar", tmp_path / "val"
    with refused(FileNotFoundError, f"neither {archive} nor the folder {folder} exists, ImageNet is expected there"):
        imagenet_source(tmp_path, "val")
