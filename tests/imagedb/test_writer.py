import hashlib
import io
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest
from PIL import Image

import imagedb.lmdb_file
from imagedb.encode import Encoding
from imagedb.images import decode_image
from imagedb.reader import ImageDatabase
from imagedb.record import Annotation, Header, Object
from imagedb.sources.folder import FolderSource
from imagedb.sources.source import IndexedSource, Shard, SourceImage
from imagedb.writer import merge_databases, write_database

REPOSITORY = Path(__file__).parents[2]


def content(path):
    """The bytes of a file, or of each file in a folder."""
    return {each.name: each.read_bytes() for each in path.iterdir()} if path.is_dir() else path.read_bytes()


def jpeg(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


class Items(IndexedSource):
    def __init__(self, *items, class_names=("a", "b"), annotated=False):
        self.items_, self.class_names, self.annotated = items, list(class_names), annotated

    def __len__(self):
        return len(self.items_)

    def __getitem__(self, index):
        return self.items_[index]


def test_content_read_without_this_library(database, image_root):
    files = sorted((image_root / "train").rglob("*.*"), key=lambda path: (path.parent.name, path.name))
    with lmdb.open(str(database), subdir=False, lock=False, readonly=True) as env, env.begin() as transaction:
        entries = list(transaction.cursor())
    assert [key for key, _ in entries] == [i.to_bytes(8, "big") for i in range(70)] + [b"header"]
    values = [value[4:] for _, value in entries[:-1]]
    for (key, stored), value, file in zip(entries[:-1], values, files, strict=True):
        assert int.from_bytes(stored[:4], "big") == zlib.crc32(key + value)
        assert msgpack.unpackb(value) == {
            "image": file.read_bytes(),
            "label": ["ant", "bee", "cat"].index(file.parent.name),
            "name": f"{file.parent.name}/{file.name}",
        }
    header = msgpack.unpackb(entries[-1][1])
    header.pop("checksum")
    assert header == {
        "format": "imagedb",
        "version": 3,
        "count": 70,
        "class_names": ["ant", "bee", "cat"],
        "digest": hashlib.sha256(b"".join(hashlib.sha256(value).digest() for value in values)).hexdigest(),
        "annotated": False,
        "shard": [1, 1],
        "kept": [],
        "encoding": None,
    }


@pytest.mark.parametrize("encoding", [None, Encoding("resized", "long", 24), Encoding("raw")])
@pytest.mark.parametrize("suffix", ["lmdb", "recordio"])
def test_bytes_do_not_depend_on_run_or_workers(image_root, tmp_path, encoding, suffix):
    source = FolderSource(image_root, "train")
    paths = [tmp_path / f"{workers}.{suffix}" for workers in (0, 1, 3)]
    packed = [
        write_database(source, path, encoding=encoding, workers=w) for w, path in zip((0, 1, 3), paths, strict=True)
    ]
    assert packed[0] == packed[1] == packed[2]
    assert sorted(tmp_path.iterdir()) == paths
    assert content(paths[0]) == content(paths[1]) == content(paths[2])
    assert ImageDatabase(paths[0]).verify() == 70


def test_both_formats_hold_the_same(database, image_root, tmp_path):
    write_database(FolderSource(image_root, "train"), tmp_path / "train.recordio")
    one, other = ImageDatabase(database), ImageDatabase(tmp_path / "train.recordio")
    assert one.header == other.header
    assert list(one) == list(other)


@pytest.mark.parametrize("limit", [1, 1000])
def test_transactions_and_growth_change_no_record(image_root, database, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(imagedb.lmdb_file, "INITIAL_MAP_SIZE", 2**15)
    monkeypatch.setattr(imagedb.lmdb_file, "TRANSACTION_BYTES", limit)
    source = FolderSource(image_root, "train")
    for name in ("a", "b"):
        assert write_database(source, tmp_path / name).header == ImageDatabase(database).header
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert (tmp_path / "a").stat().st_size > 2**17


def test_progress_sees_each_record(png, tmp_path):
    seen = []
    source = Items(SourceImage("x", 1, png), SourceImage("y", 0, lambda: png))
    header = write_database(source, tmp_path / "new" / "db", progress=seen.append).header
    assert [(record.name, record.label, record.image) for record in seen] == [("x", 1, png), ("y", 0, png)]
    assert header == Header(2, ["a", "b"], header.digest)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([("x", 2)], "image x: label 2, allowed: 0 to 1"),
        ([("x", -1)], "image x: label -1, allowed: 0 to 1"),
        ([("x", 0), ("x", 1)], "image x: the name occurs twice in the source"),
        ([("a\udcff", 0)], r"image name 'a\\udcff' is not valid UTF-8"),
        ([], "the source holds no images"),
    ],
)
@pytest.mark.parametrize("name", ["db", "db.recordio"])
def test_bad_source_is_refused_and_leaves_nothing(items, message, name, png, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}$"):
        write_database(Items(*(SourceImage(item, label, png) for item, label in items)), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["x", "x.recordio"])
def test_damaged_image_is_named_and_the_old_database_stays(workers, name, png, tmp_path):
    bad = tmp_path / "train" / "cat" / "2.png"
    bad.parent.mkdir(parents=True)
    (bad.parent / "1.png").write_bytes(png)
    bad.write_bytes(png)
    target = tmp_path / "db"
    write_database(FolderSource(tmp_path, "train"), target / name)
    old = content(target / name)
    bad.write_bytes(png[:50])
    advice = "on_bad_image: skip leaves such images out"
    message = rf"^image cat/2.png \({bad}\): a truncated PNG file: chunk IDAT is not whole; {advice}$"
    with pytest.raises(ValueError, match=message):
        write_database(FolderSource(tmp_path, "train"), target / name, workers=workers)
    assert [path.name for path in target.iterdir()] == [name]
    assert content(target / name) == old


def test_database_takes_the_place_of_an_old_one(png, tmp_path):
    for name in ("db", "db.recordio"):
        for label in (0, 1):
            write_database(Items(SourceImage("x", label, png)), tmp_path / name)
        assert ImageDatabase(tmp_path / name)[0].label == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "db.recordio"]


@pytest.mark.parametrize("suffix", ["", ".recordio"])
def test_a_name_as_long_as_the_file_system_allows(png, tmp_path, suffix):
    path = tmp_path / ("a" * (255 - len(suffix)) + suffix)
    for label in (0, 1):
        write_database(Items(SourceImage("x", label, png)), path)
    assert ImageDatabase(path)[0].label == 1
    assert list(tmp_path.iterdir()) == [path]


class Damaged:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = jpeg(noise)
    items = (
        SourceImage("whole", 0, whole),
        SourceImage("short", 1, whole[: len(whole) // 2]),
        SourceImage("empty", 0, b""),
        SourceImage("last", 1, whole),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_images_are_skipped_or_kept_and_named(workers, tmp_path):
    skipped = write_database(Items(*Damaged.items), tmp_path / "skip", on_bad_image="skip", workers=workers)
    assert skipped.bad == {
        "short": "skipped: a truncated JPEG file: it has no end marker",
        "empty": "skipped: empty",
    }
    assert [record.name for record in ImageDatabase(tmp_path / "skip")] == ["whole", "last"]
    assert ImageDatabase(tmp_path / "skip").verify() == 2

    kept = write_database(Items(*Damaged.items), tmp_path / "keep", on_bad_image="keep", workers=workers)
    assert kept.bad == {"short": "kept: a truncated JPEG file: it has no end marker", "empty": "skipped: empty"}
    database = ImageDatabase(tmp_path / "keep")
    assert [record.name for record in database] == ["whole", "short", "last"]
    assert database[1].image == Damaged.items[1].image
    assert database.header.kept == (1,)
    assert database.verify() == 3


def test_kept_images_are_encoded_again_whole(tmp_path):
    encoding = Encoding("resized", "short", 32)
    packed = write_database(Items(*Damaged.items), tmp_path / "db", encoding=encoding, on_bad_image="keep")
    assert list(packed.bad) == ["short", "empty"]
    assert [decode_image(record.image).size for record in ImageDatabase(tmp_path / "db")] == [(32, 32)] * 3


def test_remarkable_images_are_named(png, tmp_path):
    grey = jpeg(Damaged.noise[..., 0])
    items = [
        SourceImage("a.jpg", 0, grey),
        SourceImage("b.jpg", 0, png),
        SourceImage("c.png", 0, grey),
        SourceImage("d.png", 1, png),
    ]
    packed = write_database(Items(*items), tmp_path / "db")
    assert packed.notes == {"JPEG named .png": ["c.png"], "PNG named .jpg": ["b.jpg"], "grey": ["a.jpg", "c.png"]}
    assert packed.bad == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_warnings_of_pillow_are_named_once(workers, png, tmp_path, capfd):
    """Of each image, in whatever thread; those of others are shown."""
    turned = png[:33] + png_chunk(b"eXIf", b"II*\0\xff\xff\xff\xff") + png[33:]

    def other():
        warnings.warn("not of Pillow", stacklevel=1)
        return png

    items = [SourceImage(f"{i}.png", 0, turned if i % 3 == 0 else png) for i in range(30)]
    with pytest.warns(UserWarning, match="^not of Pillow$") as shown:
        packed = write_database(Items(*items, SourceImage("o", 0, other)), tmp_path / "db", workers=workers)
    assert packed.notes == {
        "Pillow: Corrupt EXIF data. Expecting to read N bytes but only got N.": [f"{i}.png" for i in range(0, 30, 3)]
    }
    assert len(shown) == 1
    assert capfd.readouterr().err == ""


def png_chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_what_is_packed_can_be_decoded_and_only_jpeg_files_are_kept(png, tmp_path):
    """A PNG file whose compressed pixels end too early: Pillow would give black."""
    stream = zlib.compress((b"\0" + bytes(15)) * 3)  # of four rows
    short = png[:33] + png_chunk(b"IDAT", stream) + png_chunk(b"IEND", b"")
    source = Items(SourceImage("short", 0, short), SourceImage("whole", 0, png))
    message = "a truncated PNG file: its compressed pixels end too early"
    with pytest.raises(ValueError, match=rf"^image short: {message}; on_bad_image: skip leaves such images out$"):
        write_database(source, tmp_path / "db")
    for choice in ("skip", "keep"):
        packed = write_database(source, tmp_path / "db", on_bad_image=choice)
        assert (packed.bad, packed.header.count) == ({"short": f"skipped: {message}"}, 1)


def test_an_image_that_the_format_cannot_hold_is_a_bad_image(png, tmp_path):
    long = jpeg(np.zeros((2, 40_000, 3), np.uint8))
    source = Items(SourceImage("long", 0, long), SourceImage("whole", 0, png))
    for choice in ("skip", "keep"):
        encoding = Encoding("resized", "short", 1, "webp")
        packed = write_database(source, tmp_path / "db", encoding=encoding, on_bad_image=choice)
        assert packed.bad["long"].startswith("skipped: 20000 x 1 pixels cannot be encoded as webp: ")


def test_a_damaged_mask_is_an_error(png, tmp_path):
    annotation = Annotation(masks={"class": png[:60]})
    source = Items(SourceImage("a", None, png, "a.png", lambda: annotation), annotated=True)
    with pytest.raises(ValueError, match=r"^image a \(a.png\): a truncated PNG file"):
        write_database(source, tmp_path / "db", on_bad_image="skip")


def test_a_mistake_of_the_program_is_not_taken_for_a_bad_image(png, tmp_path):
    source = Items(SourceImage("a", None, png, annotation=lambda: int("x")), annotated=True)
    with pytest.raises(ValueError, match=r"^invalid literal for int"):
        write_database(source, tmp_path / "db", on_bad_image="skip")


def test_digests_are_those_of_the_images_in_the_source(png, tmp_path):
    """Of the bytes, and of size and pixels; an encoding changes neither."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    again = io.BytesIO()
    Image.fromarray(pixels).save(again, "BMP")
    source = Items(SourceImage("x", 0, png), SourceImage("y", 0, again.getvalue()))
    expected = b"".join(
        hashlib.sha256(content).digest()[:16]
        for data in (png, again.getvalue())
        for content in (data, b"5 4 " + pixels.tobytes())
    )
    for encoding in (None, Encoding("raw"), Encoding("resized", "long", 2)):
        assert write_database(source, tmp_path / "db", encoding=encoding).digests == expected
    kept = write_database(Items(*Damaged.items), tmp_path / "keep", on_bad_image="keep")
    filled = decode_image(Damaged.items[1].image, tolerant=True).tobytes()
    assert kept.digests[48:64] == hashlib.sha256(b"64 64 " + filled).digest()[:16]


def test_annotations_are_packed(png, tmp_path):
    annotation = Annotation((Object(1, (0, 0, 2, 2), ("crowd",), png),), {"class": png})
    source = Items(SourceImage("a", None, png, annotation=lambda: annotation), annotated=True)
    packed = write_database(source, tmp_path / "db", workers=1)
    assert packed.header.annotated
    assert (packed.per_class, packed.bytes) == ([0, 1], len(png)), "objects are counted, masks are not"
    assert ImageDatabase(tmp_path / "db")[0].annotation == annotation
    assert ImageDatabase(tmp_path / "db").verify() == 1
    with pytest.raises(ValueError, match=r"^annotations are in pixels of the original images"):
        write_database(source, tmp_path / "small", encoding=Encoding("resized", size=2))
    bad = Items(SourceImage("a", None, png, annotation=lambda: Annotation((Object(2, (0, 0, 1, 1)),))), annotated=True)
    with pytest.raises(ValueError, match=r"^image a: label 2, allowed: 0 to 1$"):
        write_database(bad, tmp_path / "bad")


@pytest.mark.parametrize("suffix", ["lmdb", "recordio"])
@pytest.mark.parametrize("count", [1, 3, 16])
def test_merged_shards_are_the_database_packed_at_once(image_root, tmp_path, suffix, count):
    source = FolderSource(image_root, "train")
    shards = [tmp_path / f"{k}.{suffix}" for k in range(1, count + 1)]
    for k, path in enumerate(shards, 1):
        write_database(source, path, shard=Shard(k, count))
    seen = []
    merged = merge_databases(reversed(shards), tmp_path / f"all.{suffix}", seen.append)
    whole = write_database(source, tmp_path / f"whole.{suffix}")
    assert merged == replace(whole, digests=bytearray())
    assert merged.per_class == [23, 23, 24]
    assert merged.bytes == sum(file.stat().st_size for file in image_root.rglob("*.*"))
    assert len(seen) == 70
    assert content(tmp_path / f"all.{suffix}") == content(tmp_path / f"whole.{suffix}")


def test_merging_moves_the_numbers_of_kept_images(tmp_path):
    source = Items(*Damaged.items[:2], *(SourceImage(f"{i.name}2", i.label, i.image) for i in Damaged.items[:2]))
    for k in (1, 2):
        write_database(source, tmp_path / str(k), shard=Shard(k, 2), on_bad_image="keep")
    assert merge_databases([tmp_path / "1", tmp_path / "2"], tmp_path / "all").header.kept == (1, 3)


def test_shards_that_do_not_belong_together_are_refused(image_root, png, tmp_path):
    source = FolderSource(image_root, "train")
    for k in (1, 2, 3):
        write_database(source, tmp_path / str(k), shard=Shard(k, 3))
    write_database(
        Items(SourceImage("x", 0, png), SourceImage("y", 0, png), SourceImage("z", 0, png)),
        tmp_path / "x",
        shard=Shard(3, 3),
    )

    def refused(names, message):
        with pytest.raises(ValueError, match=message):
            merge_databases([tmp_path / name for name in names], tmp_path / "all")
        assert not (tmp_path / "all").exists()

    refused("12", "^the shards are 1/3, 2/3, not each of 3 once$")
    refused("122", "^the shards are 1/3, 2/3, 2/3, not each of 3 once$")
    refused("12x", f"^{tmp_path}/x and {tmp_path}/1 have different class_names$")


def test_negative_workers_are_refused(png, tmp_path):
    with pytest.raises(ValueError, match=r"^--num-workers -1 is not allowed, must be 0 or more$"):
        write_database(Items(SourceImage("x", 0, png)), tmp_path / "db", workers=-1)


def test_path_that_cannot_be_written(png, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        write_database(Items(SourceImage("x", 0, png)), tmp_path / "file" / "db")


@pytest.mark.parametrize("name", ["db", "db.recordio"])
def test_full_disk_is_named_and_leaves_nothing(name, image_root, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # a file that cannot grow, as on a full disk
    try:
        with pytest.raises(OSError, match=r"File too large|cannot write .*; [\d,.]+ MB are free there"):
            write_database(FolderSource(image_root, "train"), tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from imagedb.writer import write_database
from imagedb.sources.folder import FolderSource
written = []
def progress(record):
    written.append(record)
    if len(written) == 50:
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))
write_database(FolderSource(sys.argv[1], "train"), sys.argv[2], workers=2, progress=progress)
"""


@pytest.mark.parametrize("name", ["db", "db.recordio"])
def test_killed_run_leaves_no_database_and_a_rerun_gives_the_same_bytes(name, image_root, tmp_path):
    path = tmp_path / name
    command = [sys.executable, "-c", KILLED, image_root, path, "SIGKILL"]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -signal.SIGKILL
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        ImageDatabase(path)
    partial = tmp_path / f".{name}.partial"
    with pytest.raises(ValueError, match=r"no header: packing did not|not an LMDB file|truncated"):
        ImageDatabase(partial)
    source = FolderSource(image_root, "train")
    write_database(source, path)
    assert list(tmp_path.iterdir()) == [path]
    write_database(source, tmp_path / f"whole_{name}")
    assert content(path) == content(tmp_path / f"whole_{name}")


def test_an_old_database_outlives_a_run_killed_between_its_last_two_steps(png, tmp_path):
    path, good = tmp_path / "db.recordio", Items(SourceImage("x", 1, png))
    write_database(good, path)
    path.replace(tmp_path / ".db.recordio.old")
    with pytest.raises(ValueError, match=r"^image x: empty; on_bad_image: skip leaves such images out$"):
        write_database(Items(SourceImage("x", 1, b"")), path)
    assert list(tmp_path.iterdir()) == [path]
    assert ImageDatabase(path)[0].label == 1


def test_two_processes_do_not_write_one_database(image_root, tmp_path):
    command = [sys.executable, "-c", KILLED, image_root, tmp_path / "db", "SIGSTOP"]
    other = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        _, status = os.waitpid(other.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "in the middle of writing"
        with pytest.raises(ValueError, match=f"^another process is writing {tmp_path}/db$"):
            write_database(FolderSource(image_root, "train"), tmp_path / "db")
        os.kill(other.pid, signal.SIGCONT)
        assert other.wait(60) == 0
    finally:
        other.kill()
    assert len(ImageDatabase(tmp_path / "db")) == 70


def test_interrupt_stops_at_once_and_leaves_nothing(tmp_path, png):
    def slow():
        time.sleep(0.01)
        return png

    def stop(record):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        write_database(
            Items(*(SourceImage(str(i), 0, slow) for i in range(10_000))), tmp_path / "db", workers=2, progress=stop
        )
    assert time.monotonic() - start < 10, "the images that wait are not read any more"
    assert list(tmp_path.iterdir()) == []
