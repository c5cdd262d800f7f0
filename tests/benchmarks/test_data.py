import io
import shutil
import sys

import pytest
from PIL import Image

from benchmarks import data as bench_data
from benchmarks import data_peers
from benchmarks.data import QUICK, make_images
from benchmarks.data_ours import Repeated
from imagedb.reader import ImageDatabase
from imagedb.writer import write_database

PEERS = {
    "packing": {
        "webdataset",
        *(f"FFCV, {how}" for how in ("512 px, 2 workers", "256 px, 1 worker", "256 px, 2 workers")),
    },
    "loading": {"webdataset", "FFCV, 512 px", "FFCV, 256 px"},
}
OURS = ["as it is, 1 worker", "as it is, 2 workers", "256 px, 1 worker", "256 px, 2 workers"]


pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("made") / "images", QUICK)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A function that runs the script with the arguments, as if no peer were installed, and returns its results."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench_data", "--quick", "--rounds", "1", *map(str, arguments)])
        monkeypatch.setenv("RUNS_DIR", str(tmp_path))
        monkeypatch.setattr(data_peers, "find_spec", lambda name: None)
        return bench_data.main()

    return run


def test_images(images):
    files = sorted(images.glob("*/*.jpg"))
    assert len({file.read_bytes() for file in files}) == len(files) == 40
    assert len({file.parent for file in files}) == 10
    assert {Image.open(file).size for file in files} == {(100, 75)}
    make_images(images, QUICK)
    assert sorted(images.glob("*/*.jpg")) == files


def test_packing(bench, images):
    results = bench("--images", images, "--parts", "packing")
    assert {each.contestant for each in results if each.error == "not installed"} == PEERS["packing"]
    speeds = [each for each in results if each.unit == "images/s" and each.values]
    assert min(value for each in speeds for value in each.values) > 0
    columns = ["warm", "warm, synced", "cold", "cold, synced"]
    named = ["cp -r", "tar", *(f"ours, {what}" for what in OURS)]
    assert [(each.column, each.contestant) for each in speeds] == [
        (column, name) for column in columns for name in named
    ]
    size = sum(file.stat().st_size for file in images.glob("*/*.jpg")) / 2**20
    found = {each.contestant: each.median for each in results if each.unit == "MiB"}
    assert found["cp -r"] == size < found["tar"] < found["ours, as it is, 1 worker"]


def test_loading_of_fewer_images_than_an_epoch_has(bench, images, tmp_path):
    (tmp_path / "few" / "class").mkdir(parents=True)
    for file in sorted(images.glob("*/*.jpg"))[:3]:
        shutil.copy(file, tmp_path / "few" / "class")
    results = bench("--images", tmp_path / "few", "--parts", "loading")
    assert {each.case for each in results} == {"loading 32 images to batches of 8 at 32 px"}
    for column in ("2 workers", "0 workers"):
        chosen = [each for each in results if each.column == column]
        assert {each.contestant for each in chosen if each.error == "not installed"} == PEERS["loading"]
        assert len({each.contestant for each in chosen}) == len(chosen) == 13
        assert all(each.median > 0 for each in chosen if not each.error)
    assert len(results) == 26


def test_scale(bench):
    results = bench("--parts", "scale")
    assert {each.case for each in results} == {"a database of 2,000 records"}
    found = {(each.contestant, each.unit): each.median for each in results}
    timed = {(name, "s") for name in ("packing", "imports", "open to the first batch")}
    memory = {(f"anonymous memory, {which} batch", "MiB") for which in ("first", "last")}
    assert timed | memory | {("size", "MiB")} <= found.keys()
    assert min(found[key] for key in timed | memory) > 0


def test_large_database(images, tmp_path):
    write_database(Repeated(next(images.glob("*/*.jpg")), 2000), tmp_path / "db")
    database = ImageDatabase(tmp_path / "db")
    assert (len(database), len(database.class_names)) == (2000, 1000)
    assert [database[index].label for index in (0, 1, 2, 1999)] == [0, 0, 1, 999]
    assert database[2].name == "n00000001/n00000001_2.JPEG"
    assert Image.open(io.BytesIO(database[1999].image)).size == (32, 32)
    assert 500 < len(database[0].image) < 1500


def test_images_that_are_not_there(bench, tmp_path):
    with pytest.raises(ValueError, match=f"^{tmp_path}/no is not a folder; expected {tmp_path}/no/<class>/<image>$"):
        bench("--images", tmp_path / "no")
