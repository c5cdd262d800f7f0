"""`python -m tools.verify` on whole and damaged databases, and on what DVC tracks."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from pipeline.cli import run
from tools import verify

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The stage in a folder with both splits of 4 images."""
    for index in range(4):
        path = tmp_path / "images" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((9, 9), 50).save(path)
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        write_database(FolderSource(tmp_path, "images"), f"artifacts/db/{split}.lmdb")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["verify", *arguments])
        run(verify.main)

    return call


def test_both_splits_are_verified(call, capsys):
    call()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", digest ")[0] for line in lines] == [
        f"artifacts/db/{split}.lmdb: 4 records are whole" for split in ("train", "val")
    ]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_one_changed_byte_of_one_image_is_found(call, workers):
    path, image = Path("artifacts/db/val.lmdb"), Path("images/b/3.png").read_bytes()
    at = image.index(b"IDAT") + 20
    changed = image[:at] + bytes([image[at] ^ 1]) + image[at + 1 :]
    path.write_bytes(path.read_bytes().replace(image, changed))  # LMDB may leave an old page with it
    message = r"^error: artifacts/db/val.lmdb: (record 3: damaged: its CRC-32 differs|digest \w+, the header)"
    with pytest.raises(SystemExit, match=message):
        call("artifacts/db/train.lmdb", "artifacts/db/val.lmdb", "--num-workers", workers)


def test_missing_database(call):
    with pytest.raises(SystemExit, match=r"^error: no.lmdb does not exist; `python -m stages.pack` makes it$"):
        call("no.lmdb")


def md5(contents: bytes) -> str:
    return hashlib.md5(contents, usedforsecurity=False).hexdigest()


def put(cache: Path, contents: bytes, suffix: str = "") -> Path:
    """An object of DVC's cache."""
    path = cache / "files/md5" / md5(contents)[:2] / (md5(contents)[2:] + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return path


@pytest.fixture
def tracked(call, monkeypatch) -> dict[str, Path]:
    """A file and a folder with one, their objects in DVC's cache, and dvc.lock."""
    cache, listed = Path("cache").absolute(), json.dumps([{"md5": md5(b"two"), "relpath": "sub/2"}]).encode()
    monkeypatch.setattr(verify, "cache_folder", lambda: cache)
    objects = {"one": put(cache, b"one"), "two": put(cache, b"two"), "list": put(cache, listed, ".dir")}
    (objects["one"].parent / ".x.tmp").write_bytes(b"half")
    Path("one").write_bytes(b"one")
    Path("folder/sub").mkdir(parents=True)
    Path("folder/sub/2").write_bytes(b"two")
    outs = [{"path": "one", "md5": md5(b"one")}, {"path": "folder", "md5": f"{md5(listed)}.dir"}]
    outs.append({"path": "never_made", "md5": md5(b"")})
    Path("dvc.lock").write_text(json.dumps({"stages": {"a": {"cmd": "x"}, "b": {"outs": outs}}}))
    return objects | {"file": Path("one"), "in_folder": Path("folder/sub/2")}


def test_what_dvc_tracks_is_verified(call, tracked, capsys):
    call()
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"DVC's cache: 3 files are whole, {6 + tracked['list'].stat().st_size} bytes",
        "dvc.lock: 2 files are whole, 6 bytes",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one", "1 files in DVC's cache are damaged"),
        ("two", "1 files in DVC's cache are damaged"),
        ("list", "1 files in DVC's cache are damaged"),
        ("file", "1 results are damaged, or were edited"),
        ("in_folder", "1 results are damaged, or were edited"),
    ],
)
def test_one_flipped_bit_of_what_dvc_tracks_is_found(call, tracked, capsys, name, message):
    contents = tracked[name].read_bytes()
    tracked[name].write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    with pytest.raises(SystemExit, match=f"^error: {message}$"):
        call()
    assert f"{tracked[name]} is damaged: remove it, and `dvc " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "dvc.lock is not as DVC writes it"), ("a: {", "dvc.lock is not valid YAML: ")],
)
def test_a_damaged_lock_is_one_line(call, tracked, text, message):
    Path("dvc.lock").write_text(text)
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        call()


def test_a_damaged_list_of_a_folder_is_one_line(call, tracked):
    """The digest is right: whoever wrote it, it was not DVC."""
    path = put(Path("cache"), b"[1]", ".dir")
    Path("dvc.lock").write_text(json.dumps({"stages": {"b": {"outs": [{"path": "d", "md5": f"{md5(b'[1]')}.dir"}]}}}))
    with pytest.raises(SystemExit, match=f"^error: {path.absolute()} is damaged: it does not list the files of d$"):
        call()
