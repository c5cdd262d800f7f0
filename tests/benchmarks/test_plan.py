import sys

import pytest
from project import REPOSITORY

from benchmarks import plan
from benchmarks.plan import Rates, Records, limits, measured, page, write_plan
from benchmarks.record import Part, load
from benchmarks.results import Result
from storage.errors import InputError

PACKING = "packing 100 images, 10 MiB"
DATA = [
    Result("data", PACKING, "tar", "images/s", (5000.0,) * 5, column="cold"),
    Result("data", PACKING, "ours, as it is, 2 workers", "MiB", (100 * 100_000 / 2**20,)),
    Result("data", PACKING, "ours, 256 px, 2 workers", "MiB", (100 * 20_000 / 2**20,)),
    Result("data", "loading", "ours, as it is, yuv444, jitter", "images/s", (1000.0,) * 5, column="0 workers"),
    Result("data", "loading", "ours, 256 px, yuv444, jitter", "images/s", (2500.0,) * 5, column="0 workers"),
]
ORIGIN = {"processor": "P", "command": "python -m benchmarks data", "commit": "abc"}


def test_what_was_measured_is_found():
    forms, disk = measured(DATA)
    assert [(each.name, each.speed, round(each.bytes)) for each in forms] == [
        ("as it is", 1000, 100_000),
        ("256 px", 2500, 20_000),
    ]
    assert disk == pytest.approx(0.5)  # 5,000 images of 100 kB
    for missing in range(len(DATA)):
        with pytest.raises(InputError, match=r"no result of (packing|loading), .*`make bench ONLY=data` measures"):
            measured([*DATA[:missing], *DATA[missing + 1 :]])


@pytest.mark.parametrize(
    ("rates", "limit", "most", "cold"),
    [
        (Rates(2000, 24, 10, 100, 10), ["GPUs"] * 3, ["2,000", "16,000", "128,000"], ["GPUs"] * 3),
        (Rates(2000, 12, 10, 100, 10), ["decoding"] * 3, ["1,500", "12,000", "96,000"], ["decoding"] * 3),
        # 63/32 of 0.102 GB of gradients at 0.5 GB/s take 0.40252 s, in which 64 GPUs would have 16,384 images
        (Rates(2000, 24, 10, 100, 0.5), ["GPUs", "GPUs", "all-reduce"], ["2,000", "16,000", "40,703"], None),
        (Rates(2000, 24, 1, 100, 10), ["GPUs"] * 3, None, ["GPUs", "disk", "disk"]),  # 10,000 images/s a machine
    ],
)
def test_the_least_of_all_bounds_is_the_limit(rates, limit, most, cold):
    rows = limits(Records("r", 1000, 1e5), rates)
    assert rows["limit"] == limit
    assert most is None or rows["images/s at most"] == most
    assert cold is None or rows["limit while records come from a cold disk"] == cold


def test_the_page_is_written_of_a_full_measurement_alone(tmp_path):
    write_plan(tmp_path, {"data": Part(ORIGIN | {"command": "python -m benchmarks data --quick"}, DATA)})
    assert not (tmp_path / "scale.md").exists()
    write_plan(tmp_path, {"data": Part(ORIGIN, DATA)})
    text = (tmp_path / "scale.md").read_text()
    assert "2,470 images/s | ResNet-50 in mixed" in text and "| as it is | 1,000 | 100.0 | 128 |" in text
    assert "`train.processes: 8`, `batch_size: 2048`, `lr: 3.2` and `machine.workers: 16`" in text
    assert "--nnodes=8 --nproc-per-node=8" in text and "sbatch --gpus=8 --cpus-per-task=128 machine.sh" in text
    assert "Published, not measured here:" in text


def test_the_rates_of_the_reader_are_not_called_published(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plan, "load", lambda path: {"data": Part(ORIGIN, DATA)})
    monkeypatch.setattr(sys, "argv", ["plan", "--rate", "6000", "--cores", "16"])
    plan.main()
    printed = capsys.readouterr().out
    assert "| training step on a GPU | 6,000 images/s |\n" in printed and "Given, not measured" in printed
    assert "ublished" not in printed and "`lr: 3.2` and `machine.workers: 2`" in printed
    monkeypatch.setattr(sys, "argv", ["plan", "--rate", "-1"])
    with pytest.raises(InputError, match=r"--rate -1\.0 is not allowed"):
        plan.main()


def test_the_page_in_git_is_that_of_the_results_in_git():
    found = REPOSITORY / "docs/benchmarks.json"
    if not found.exists():
        pytest.skip("nothing has been measured yet")
    assert (REPOSITORY / "docs/scale.md").read_text() == page(load(found)["data"])
