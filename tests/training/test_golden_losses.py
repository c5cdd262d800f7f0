"""The losses of the sample run's first steps, to the bit: a change that moves them must also change the file."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from pipeline import fitting
from stages import pack, train_float
from training.optimization import Schedule

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_losses.json")


class Done(Exception):
    pass


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """The current folder, with the sample's parameters and databases; the process is left as it was."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    for split in ("train", "val"):
        monkeypatch.setattr(sys, "argv", ["pack", "--split-name", split])
        pack.main()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def test_the_first_losses_of_the_sample_run(workspace, monkeypatch):
    golden = json.loads(GOLDEN.read_text())
    losses = []

    def fit(step, batches, *others):
        schedule = Schedule(step.optimizer, step.recipe, batches[1].steps)
        step.train()
        for done, parts in zip(range(len(golden)), batches[1].epoch(0), strict=False):
            schedule.before_step(done)
            losses.append(step(parts, [0], (batches[1].seed, 0, done), done + 1)[0].item())
        raise Done

    monkeypatch.setattr(fitting, "fit", fit)
    monkeypatch.setattr(train_float, "refuse_unquantizable", lambda *given: None)  # it takes seconds
    monkeypatch.setattr(sys, "argv", ["train_float"])
    with pytest.raises(Done):
        train_float.main()
    assert len(losses) == 20
    assert losses == golden, f"if they are meant to move, {GOLDEN.name} must hold {losses}"
