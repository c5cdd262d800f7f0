import json
import math
import sys
import time
import warnings

import pytest
import torch

from benchmarks import data, gpu, gpu_checks
from benchmarks.gpu_checks import CHECKS, SMALL
from benchmarks.gpu_rows import Row
from pipeline.paths import runs_folder

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(gpu_checks, "CLASSES", 10)
    monkeypatch.setattr(data, "DISTINCT", 4)


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "speeds"])
def test_checks_hold_on_the_cpu(name):
    rows = list(CHECKS[name](CPU, SMALL))
    assert rows and {row.verdict for row in rows} <= {"holds", "no goal", "not measured: a CPU has none"}
    assert all(math.isfinite(row.value) for row in rows if not row.error)


def test_a_wrong_integer_refutes(monkeypatch):
    class Wrong(gpu_checks.IntegerEvaluator):
        def to(self, device):
            self.run = lambda x: ((name, value + 1) for name, value in gpu_checks.IntegerEvaluator.run(self, x))
            return self

    monkeypatch.setattr(gpu_checks, "IntegerEvaluator", Wrong)
    row = next(CHECKS["integers"](CPU, SMALL))
    assert row.value > 1000 and row.verdict == "refuted"


def test_waits_are_counted_by_the_warnings_of_pytorch(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def work():
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    assert gpu_checks._waits(work) == 3
    assert modes == ["warn", "default"]


def test_an_origin_that_is_not_told_refutes(monkeypatch):
    monkeypatch.setattr(gpu_checks.TrainingStep, "check", lambda step, but=0: None)
    monkeypatch.setattr(gpu_checks.TrainingStep, "_require_finite", lambda *arguments: None)
    *_, row = CHECKS["waiting"](CPU, SMALL)
    assert row.verdict == "refuted"


@pytest.mark.parametrize(
    ("row", "measured", "goal", "verdict"),
    [
        (Row("a", 7000, "images/s", ">=", 6500), "7,000 images/s", ">= 6,500 images/s", "holds"),
        (Row("a", 6499, "images/s", ">=", 6500), "6,499 images/s", ">= 6,500 images/s", "refuted"),
        (Row("a", 0.851, limit=0.85), "0.851", "<= 0.85", "refuted"),
        (Row("a", math.nan, limit=1), "nan", "<= 1", "refuted"),
        (Row("a", 3), "3", "", "no goal"),
        (Row("a", error="no time was left"), "", "", "not measured: no time was left"),
    ],
)
def test_rows(row, measured, goal, verdict):
    assert (row.measured, row.goal, row.verdict) == (measured, goal, verdict)


def test_the_table_goes_on_after_an_error_and_ends_in_time(monkeypatch, tmp_path, capsys):
    def fails(device, extent):
        yield Row("first", 1, limit=2)
        raise RuntimeError("CUDA error: out of luck\nand more")

    def slow(device, extent):
        time.sleep(0.3)
        yield Row("slow", 1, limit=2)

    monkeypatch.setattr(gpu, "CHECKS", {"one": fails, "two": slow, "three": slow})
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--minutes", "0.004"])
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    threads = torch.get_num_threads()
    gpu.main()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    rows = json.loads((runs_folder() / "bench_gpu.json").read_text())["rows"]
    assert [row["claim"] for row in rows] == ["first", "one", "slow", "three"]
    assert [row["verdict"] for row in rows] == [
        "holds",
        "not measured: RuntimeError: CUDA error: out of luck",
        "holds",
        "not measured: no time was left",
    ]
    assert "not measured: no time was left" in capsys.readouterr().out
