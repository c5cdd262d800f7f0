import hashlib
import json
import sys
from pathlib import Path

import lmdb
import msgpack
import pytest
import yaml
from PIL import Image

from imagedb import ImageDatabase
from stages import pack
from stages.cli import run

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """A folder with params.yaml for the embedded sample, and nothing else."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["pack"] = {
        "source": "torchvision",
        "dataset": "FashionMNIST",
        "root": "data/fashion_mnist",
        "splits": {"train": "train", "val": "test"},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(monkeypatch):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["pack", *arguments])
        run(pack.main)

    return call


def test_stage_packs_the_split_of_params(call, capsys):
    call("--split-name", "val", "--num-workers", "0")
    assert capsys.readouterr().out == "2000 images in artifacts/db/val.lmdb\n"
    with lmdb.open("artifacts/db/val.lmdb", subdir=False, lock=False, readonly=True) as env, env.begin() as transaction:
        entries = list(transaction.cursor())[:-1]
    assert json.loads(Path("metrics/pack_val.json").read_text()) == {
        "images": 2000,
        "classes": 10,
        "images_per_class": {"min": 200, "max": 200},
        "bytes": sum(len(msgpack.unpackb(value)["image"]) for _, value in entries),
        "digest": hashlib.sha256(b"".join(key + value for key, value in entries)).hexdigest(),
    }
    assert sorted(str(path) for path in Path("artifacts").rglob("*.*")) == ["artifacts/db/val.lmdb"]


def test_folder_by_hand(call, tmp_path, capsys):
    for name in ("ant/1.png", "ant/2.png", "bee/1.png"):
        path = tmp_path / "pictures" / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    arguments = "--src-data-dir pictures --target-data-dir out --split-name val --num-workers 0 --pack-type lmdb"
    call(*arguments.split(), "--source", "folder")
    assert capsys.readouterr().out == "3 images in out/val.lmdb\n"
    assert [record.name for record in ImageDatabase("out/val.lmdb")] == ["ant/1.png", "ant/2.png", "bee/1.png"]
    metrics = json.loads(Path("out/val.json").read_text())
    assert metrics["images_per_class"] == {"min": 1, "max": 2}
    assert not Path("metrics").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--src-data-dir no", "error: no does not exist, it should hold the data of torchvision's FashionMNIST"),
        ("--dataset FashionMNST", "error: torchvision has no dataset FashionMNST; did you mean FashionMNIST?"),
        (
            "--source folder --dataset MNIST",
            "error: --dataset MNIST is for --source torchvision, the source is a folder",
        ),
        ("--num-workers -1", "error: workers is -1, must be 0 or more"),
    ],
)
def test_mistakes_are_one_line(call, arguments, message):
    with pytest.raises(SystemExit) as stop:
        call("--split-name", "val", *arguments.split())
    assert stop.value.code == message


def test_folder_in_params_has_no_dataset(call):
    text = Path("params.yaml").read_text().replace("dataset: FashionMNIST", "dataset: null")
    Path("params.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        call("--split-name", "train")
    assert stop.value.code.startswith("error: pack.dataset is null: name a class of torchvision.datasets")


@pytest.mark.parametrize("arguments", ["", "--split val", "--split-name test", "--split-name val --pack-type tar"])
def test_wrong_usage(call, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        call(*arguments.split())
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err
