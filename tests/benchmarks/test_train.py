import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import profiles, train_data, train_steps
from benchmarks import train as bench_train
from benchmarks.data import QUICK, make_images
from benchmarks.results import cases
from benchmarks.train_steps import Work, our_step, plain_recipe, timm_step
from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from pipeline.params import load_params
from training.execution import Execution


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """A function that runs the script on few images, without the compiler, and returns its results by case."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["batch_size"] = 8
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    folder = make_images(tmp_path / "images", QUICK)
    (tmp_path / "artifacts" / "db").mkdir(parents=True)
    write_database(FolderSource(folder.parent, folder.name), tmp_path / "artifacts/db/train.lmdb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr(train_steps, "TRAINING_EXECUTIONS", {"cpu": [Execution(), Execution("bf16")]})
    monkeypatch.setattr(train_steps, "EVALUATION_EXECUTIONS", {"cpu": [Execution(), Execution("tf32")]})
    monkeypatch.setattr(train_steps, "DETAILED", ("cpu",))
    monkeypatch.setattr(bench_train, "GROUPED", [(4, 8, 3, 1, 2, 6)])
    monkeypatch.setattr(train_steps, "STEPS", 1)
    monkeypatch.setattr(profiles, "CALLS", 1)
    monkeypatch.setattr(train_data, "STEPS", 2)
    monkeypatch.setattr(train_data, "ProcessPoolExecutor", lambda *arguments: ThreadPoolExecutor(1))
    monkeypatch.setattr(train_data.os, "sched_getaffinity", lambda process: {0})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bench_train", "--rounds", "1", *arguments])
        return cases(bench_train.main())

    yield run
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_tables(measure):
    results = measure("--data")
    rows = {case: [each.contestant for each in found] for case, found in results.items()}
    steps, evaluation, shape, images, splits = rows.values()
    kinds = ["ours, {}", "timm's loop, {}", "QAT, {}", "timm's loop, {}, contiguous"]
    dense = ["ours, bf16, dense groups", "QAT, bf16, dense groups"]
    assert steps == [kind.format(precision) for precision in ("float32", "bf16") for kind in kinds] + dense
    assert evaluation == ["float, float32", "integers, float32", "float, tf32", "integers, tf32"]
    assert shape == ["grouped", "dense"]
    assert images == ["memory", "ours", "timm's create_loader", "ours, augmented"]
    assert splits == ["2/1", "1/0", "1/1"], "params.yaml's first"
    assert all(len(each.values) == 1 and each.median > 0 for found in results.values() for each in found)
    assert all(each.note.endswith(" % of the time") for each in results["training with images from"])
    assert len(list(Path("runs/bench_train/images").glob("*/*.jpg"))) == 16


def test_another_work(measure):
    work, *_ = measure("--model", "test_efficientnet", "--size", "40", "--batch", "4")
    assert work == "training step, test_efficientnet, 40 px, batch 4, cpu"


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_timms_loop_does_the_same_work(layout):
    recipe = plain_recipe(load_params()).model_copy(update={"lr": 0.02})
    work = Work("vargconvnet_32", {}, 10, 32, 8, recipe, torch.device("cpu"))
    one, other = our_step(work, work.model(), Execution()), timm_step(work, Execution(), layout)
    losses = [(float(one(number)), float(other(number))) for number in range(4)]
    assert len({loss for loss, _ in losses}) == 4
    assert [first for first, _ in losses] == pytest.approx([second for _, second in losses], rel=1e-4)
