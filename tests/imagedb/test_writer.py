import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import msgpack
import pytest

import imagedb.writer
from imagedb import Header, Item, Source, folder_source, write_database

REPOSITORY = Path(__file__).parents[2]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Items(Source):
    def __init__(self, *items, class_names=("a", "b")):
        self.items, self.class_names = items, list(class_names)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_content_read_without_this_library(database, picture_root):
    files = sorted((picture_root / "train").rglob("*.*"), key=lambda path: (path.parent.name, path.name))
    with lmdb.open(str(database), subdir=False, lock=False, readonly=True) as env, env.begin() as transaction:
        entries = list(transaction.cursor())
    assert [key for key, _ in entries] == [i.to_bytes(8, "big") for i in range(70)] + [b"header"]
    for (_, value), file in zip(entries[:-1], files, strict=True):
        assert msgpack.unpackb(value) == {
            "image": file.read_bytes(),
            "label": ["ant", "bee", "cat"].index(file.parent.name),
            "name": f"{file.parent.name}/{file.name}",
        }
    assert msgpack.unpackb(entries[-1][1]) == {
        "format": "imagedb",
        "version": 1,
        "count": 70,
        "class_names": ["ant", "bee", "cat"],
        "digest": hashlib.sha256(b"".join(key + value for key, value in entries[:-1])).hexdigest(),
    }


def test_bytes_do_not_depend_on_run_or_workers(database, picture_root, tmp_path):
    source = folder_source(picture_root, "train")
    headers = [write_database(source, tmp_path / f"{workers}.lmdb", workers) for workers in (0, 2)]
    assert headers[0] == headers[1]
    assert {path.name for path in tmp_path.iterdir()} == {"0.lmdb", "2.lmdb"}
    assert sha256(tmp_path / "0.lmdb") == sha256(tmp_path / "2.lmdb") == sha256(database)


def test_map_grows_and_stays_deterministic(picture_root, tmp_path, monkeypatch):
    monkeypatch.setattr(imagedb.writer, "INITIAL_MAP_SIZE", 2**15)
    source = folder_source(picture_root, "train")
    for name in ("a", "b"):
        assert write_database(source, tmp_path / name).count == 70
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
    assert (tmp_path / "a").stat().st_size > 2**17


def test_progress_sees_each_record(png, tmp_path):
    seen = []
    header = write_database(
        Items(Item("x", 1, png), Item("y", 0, lambda: png)), tmp_path / "new" / "db", progress=seen.append
    )
    assert [(record.name, record.label, record.image) for record in seen] == [("x", 1, png), ("y", 0, png)]
    assert header == Header(2, ["a", "b"], header.digest)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([("x", 2)], "image x: label 2, allowed: 0 to 1"),
        ([("x", -1)], "image x: label -1, allowed: 0 to 1"),
        ([("x", 0), ("x", 1)], "image x: the name occurs twice in the source"),
        ([], "the source holds no images"),
    ],
)
def test_bad_source_is_refused_and_leaves_nothing(items, message, png, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}$"):
        write_database(Items(*(Item(name, label, png) for name, label in items)), tmp_path / "db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_image_is_named_and_the_old_database_stays(workers, png, tmp_path):
    bad = tmp_path / "train" / "cat" / "2.png"
    bad.parent.mkdir(parents=True)
    (bad.parent / "1.png").write_bytes(png)
    bad.write_bytes(png[:50])
    target = tmp_path / "db"
    target.mkdir()
    (target / "x").write_bytes(b"old")
    with pytest.raises(ValueError, match=rf"^image cat/2.png \({bad}\): the image cannot be decoded: .+$"):
        write_database(folder_source(tmp_path, "train"), target / "x", workers)
    assert [path.read_bytes() for path in target.iterdir()] == [b"old"]


def test_negative_workers_are_refused(png, tmp_path):
    with pytest.raises(ValueError, match=r"^workers is -1, must be 0 or more$"):
        write_database(Items(Item("x", 0, png)), tmp_path / "db", -1)


def test_path_that_cannot_be_written(png, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        write_database(Items(Item("x", 0, png)), tmp_path / "file" / "db")


KILLED = """
import os, signal, sys
from imagedb import folder_source, write_database
written = []
def progress(record):
    written.append(record)
    if len(written) == 50:
        os.kill(os.getpid(), signal.SIGKILL)
write_database(folder_source(sys.argv[1], "train"), sys.argv[2], progress=progress)
"""


def test_killed_run_leaves_no_database_and_a_rerun_gives_the_same_bytes(database, picture_root, tmp_path):
    path = tmp_path / "db"
    command = [sys.executable, "-c", KILLED, picture_root, path]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == [tmp_path / ".db.partial"]
    write_database(folder_source(picture_root, "train"), path)
    assert list(tmp_path.iterdir()) == [path]
    assert sha256(path) == sha256(database)
