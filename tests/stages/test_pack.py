import hashlib
import json
import subprocess
import sys
from pathlib import Path

import lmdb
import msgpack
import pytest
import yaml
from PIL import Image

from imagedb.images import decode_image
from imagedb.reader import ImageDatabase
from pipeline.cli import run
from stages import pack

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    """A folder with params.yaml for the embedded sample, and nothing else."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["pack"] |= {
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
        "bytes": sum(len(msgpack.unpackb(value[4:])["image"]) for _, value in entries),
        "digest": hashlib.sha256(b"".join(hashlib.sha256(value[4:]).digest() for _, value in entries)).hexdigest(),
        "bad_images": {},
        "notes": {"grey": {"images": 2000, "names": []}},
    }
    assert sorted(str(path) for path in Path("artifacts").rglob("*.*")) == [
        "artifacts/db/val.digests",
        "artifacts/db/val.lmdb",
    ]


def test_folder_by_hand(call, tmp_path, capsys):
    for name in ("ant/1.png", "ant/2.png", "bee/1.png"):
        path = tmp_path / "images" / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    arguments = "--src-data-dir images --target-data-dir out --split-name val --num-workers 0 --pack-type lmdb"
    call(*arguments.split(), "--source", "folder")
    assert capsys.readouterr().out == "3 images in out/val.lmdb\n"
    assert [record.name for record in ImageDatabase("out/val.lmdb")] == ["ant/1.png", "ant/2.png", "bee/1.png"]
    metrics = json.loads(Path("out/val.json").read_text())
    assert metrics["images_per_class"] == {"min": 1, "max": 2}
    assert not Path("metrics").exists()


def test_only_what_a_source_needs_is_imported(images):
    """Networks and the annotations of other sources are not needed for a folder of images."""
    command = "import sys; sys.path[0] = sys.argv.pop(1); from pipeline.cli import run; from stages import pack; "
    command += "run(pack.main); print(*{'torch', 'torchvision', 'scipy', 'pycocotools'} & {*sys.modules})"
    arguments = [str(REPOSITORY), "--split-name", "val"]
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("5 images in artifacts/db/val.lmdb\n\n", "")


def change(**keys):
    """Change keys of `pack` in params.yaml."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["pack"] |= keys
    Path("params.yaml").write_text(yaml.safe_dump(params))


def image(path, size=(2, 2), mode="RGB"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 50).convert(mode).save(path)


@pytest.fixture
def images():
    """images/val/{ant,bee}: 5 images; the pack block of params.yaml says so."""
    for name in ("ant/1.png", "ant/2.jpg", "bee/1.png", "bee/2.png", "bee/3.jpg"):
        image(f"images/val/{name}", (40, 30))
    change(source="folder", dataset=None, root="images", splits={"train": "train", "val": "val"})


@pytest.mark.parametrize("kind", ["lmdb", "recordio"])
def test_shards_are_merged_to_the_whole(images, call, capsys, kind):
    call("--split-name", "val", "--pack-type", kind)
    metrics = Path("metrics/pack_val.json").read_text()
    for k in (3, 1, 2):
        call("--split-name", "val", "--pack-type", kind, "--shard", f"{k}/3", "--num-workers", "0")
    shard = json.loads(Path("artifacts/db/val-2-of-3.json").read_text())
    assert (shard["images"], shard["classes"]) == (2, 2)
    whole = ImageDatabase(f"artifacts/db/val.{kind}")
    header, records, digests = whole.header, list(whole), Path("artifacts/db/val.digests").read_bytes()
    Path("artifacts/db/val.digests").unlink()
    Path("metrics/pack_val.json").unlink()
    capsys.readouterr()
    call("--split-name", "val", "--pack-type", kind, "--merge", "3")
    assert capsys.readouterr().out == f"5 images in artifacts/db/val.{kind}\n"
    merged = ImageDatabase(f"artifacts/db/val.{kind}")
    assert (merged.header, list(merged)) == (header, records)
    assert Path("artifacts/db/val.digests").read_bytes() == digests
    assert len(digests) == 32 + 5 * 32
    assert Path("metrics/pack_val.json").read_text() == metrics


def test_merging_before_all_shards_are_there(images, call):
    call("--split-name", "val", "--shard", "1/12")
    with pytest.raises(SystemExit) as stop:
        call("--split-name", "val", "--merge", "12")
    assert stop.value.code == (
        "error: artifacts/db/val-02-of-12.json does not exist; `python -m stages.pack ... --shard 2/12` makes it"
    )


def test_bad_and_remarkable_images_are_named(images, call, capsys):
    data = Path("images/val/bee/3.jpg").read_bytes()
    Path("images/val/bee/3.jpg").write_bytes(data[:-20])
    image("images/val/bee/4.jpg", mode="CMYK")
    with pytest.raises(SystemExit) as stop:
        call("--split-name", "val")
    assert stop.value.code.startswith("error: image bee/3.jpg (images/val/bee/3.jpg): a truncated JPEG file")
    assert not Path("artifacts/db/val.lmdb").exists()
    change(on_bad_image="skip")
    call("--split-name", "val")
    assert capsys.readouterr().out == "5 images in artifacts/db/val.lmdb; 1 bad ones, named in the metrics\n"
    metrics = json.loads(Path("metrics/pack_val.json").read_text())
    assert metrics["bad_images"] == {"bee/3.jpg": "skipped: a truncated JPEG file: it has no end marker"}
    assert metrics["notes"] == {"CMYK": {"images": 1, "names": ["bee/4.jpg"]}}


def test_encoding_of_params(images, call):
    encoding = {"type": "resized", "side": "long", "size": 20, "format": "webp", "quality": 80}
    change(encoding=encoding, format="recordio")
    call("--split-name", "val")
    database = ImageDatabase("artifacts/db/val.recordio")
    assert database.header.encoding == encoding
    assert {decode_image(record.image).size for record in database} == {(20, 15)}


def test_dry_run_counts_and_writes_nothing(images, call, capsys):
    size = sum(path.stat().st_size for path in Path("images").rglob("*.*"))
    call("--split-name", "val", "--dry-run")
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        f"5 images in 2 classes, {size / 1e6:,.1f} MB as they are; artifacts/db/val.lmdb would be written there"
    )
    assert second.endswith(" MB are free")
    assert not Path("artifacts").exists()


def test_list_with_a_split_of_another_name(images, call):
    Path("mine.csv").write_text("path,label\nimages/val/bee/1.png,bee\nimages/val/ant/1.png,ant\n")
    arguments = "--source list --src-data-dir . --source-split mine.csv --target-data-dir out --split-name train"
    call(*arguments.split())
    assert [(r.name, r.label) for r in ImageDatabase("out/train.lmdb")] == [
        ("images/val/bee/1.png", 1),
        ("images/val/ant/1.png", 0),
    ]


def test_a_database_is_packed_again_in_the_other_format(images, call):
    call("--split-name", "val")
    call(
        *["--source", "database", "--src-data-dir", "artifacts/db", "--source-split", "val.lmdb"],
        *["--split-name", "val", "--pack-type", "recordio", "--target-data-dir", "again"],
    )
    assert list(ImageDatabase("again/val.recordio")) == list(ImageDatabase("artifacts/db/val.lmdb"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--src-data-dir no", "error: no does not exist, it should hold the data of torchvision's FashionMNIST"),
        ("--dataset FashionMNST", "error: torchvision has no dataset FashionMNST; did you mean FashionMNIST?"),
        (
            "--source folder --dataset MNIST",
            "error: --dataset MNIST is for --source torchvision, the source is folder",
        ),
        ("--num-workers -1", "error: --num-workers -1 is not allowed, must be 0 or more"),
        ("--merge 1", "error: --merge 1 is not allowed, must be 2 or more"),
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


@pytest.mark.parametrize(
    "arguments",
    ["", "--split val", "--split-name test", "--split-name val --pack-type tar", "--split-name val --shard 4/3"],
)
def test_wrong_usage(call, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        call(*arguments.split())
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err
