import json
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipeline.cli import run
from stages import overlap, pack

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a stage in a folder with four images, one of which is in both splits."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("train/ant/1.png", "train/bee/2.png", "val/ant/3.png", "val/bee/4.png")):
        Path("images", name).parent.mkdir(parents=True)
        Image.new("RGB", (2, 2), (min(number, 2), 0, 0)).save(Path("images", name))
    Image.new("RGB", (2, 2), (1, 0, 0)).save("images/val/ant/2.bmp")

    def call(module, *arguments, **changes):
        params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
        splits = {"train": "train", "val": "val"}
        params["pack"] |= {"source": "folder", "dataset": None, "root": "images", "splits": splits} | changes
        Path("params.yaml").write_text(yaml.safe_dump(params))
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        run(module.main)

    for split in ("train", "val"):
        call(pack, "--split-name", split, "--num-workers", "0")
    return call


def test_images_of_both_splits_are_reported(call, capsys):
    capsys.readouterr()
    call(overlap)
    line = "1 of 3 validation images are training images, too, 1 of them with another label; such as ant/2.bmp, there "
    assert capsys.readouterr().out == f"{line}bee/2.png\n"
    found = json.loads(Path("metrics/overlap.json").read_text())
    assert found["pairs"] == [{"val": "ant/2.bmp", "train": "bee/2.png", "same": "pixels", "labels": "other"}]
    assert found["repeated"]["val"] == {"images": 1, "other_labels": 1}


def test_or_refused(call):
    with pytest.raises(SystemExit) as stop:
        call(overlap, overlap="refuse")
    assert stop.value.code == (
        "error: 1 of 3 validation images are training images, too, 1 of them with another label; "
        "such as ant/2.bmp, there bee/2.png; pack.overlap refuses that"
    )
    assert not Path("metrics/overlap.json").exists()
    Path("images/val/ant/2.bmp").unlink()
    call(pack, "--split-name", "val", "--num-workers", "0")
    call(overlap, overlap="refuse")
    assert json.loads(Path("metrics/overlap.json").read_text())["val_in_train"] == 0


def test_the_same_split_twice_is_always_refused(call):
    call(pack, "--split-name", "val", "--source-split", "train", "--num-workers", "0")
    with pytest.raises(SystemExit) as stop:
        call(overlap)
    assert stop.value.code.startswith("error: artifacts/db/train.lmdb and artifacts/db/val.lmdb hold the same records")
