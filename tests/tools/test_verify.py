"""`python -m tools.verify` on whole and damaged databases."""

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
    message = (
        r"^error: artifacts/db/val.lmdb: (record 3 \(b/3.png\): the image cannot be decoded|digest \w+, the header)"
    )
    with pytest.raises(SystemExit, match=message):
        call("artifacts/db/train.lmdb", "artifacts/db/val.lmdb", "--num-workers", workers)


def test_missing_database(call):
    with pytest.raises(SystemExit, match=r"^error: no.lmdb does not exist; `python -m stages.pack` makes it$"):
        call("no.lmdb")
