"""Float training in processes of its own: stopped by a signal, and shared by two."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import change, environment, make_project, shell

MODEL = "artifacts/float/model.safetensors"
pytestmark = pytest.mark.experiments  # a minute of processes that start and stop
COMMAND = [sys.executable, "-m", "stages.train_float"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Packed pictures of three classes, a run of 30 epochs of four steps."""
    folder = make_project(tmp_path_factory.mktemp("fitting") / "project", epochs=30)
    shell(folder, "dvc repro pack")
    return folder


def results(folder: Path) -> dict[str, bytes]:
    files = [folder / MODEL, folder / MODEL.replace("model", "last"), *(folder / "plots").rglob("*.tsv")]
    return {str(path): path.read_bytes() for path in files}


def train(folder: Path, runs: Path) -> str:
    done = subprocess.run(
        COMMAND, cwd=folder, env=environment(folder) | {"RUNS_DIR": str(runs)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def train_and_stop(folder: Path, runs: Path) -> tuple[int, str]:
    """Exit status and standard error of a run that gets a SIGTERM after a few checkpoints."""
    process = subprocess.Popen(
        COMMAND,
        cwd=folder,
        env=environment(folder) | {"RUNS_DIR": str(runs)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not any(int(path.stem[5:]) > 11 for path in runs.glob("float-*/step_*.pt")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    return process.returncode, error


@pytest.mark.parametrize("processes", [1, 2])
def test_training_that_a_signal_has_stopped_goes_on_to_the_same_bytes(project, tmp_path, processes):
    change(project, train__processes=processes)
    printed = train(project, tmp_path / "straight")
    assert printed.count("epoch 17/30") == 1, "one process writes"
    straight = results(project)

    status, error = train_and_stop(project, tmp_path / "stopped")
    assert status == (128 + signal.SIGTERM if processes == 1 else 1)
    assert "stopped; the state is in" in error
    (run,) = (tmp_path / "stopped").iterdir()
    stopped_at = max(int(path.stem[5:]) for path in run.glob("step_*.pt"))
    assert 11 < stopped_at < 4 * 30
    train(project, tmp_path / "stopped")
    assert results(project) == straight

    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 31)), "each epoch is ended once"
    assert all(row["images_per_second"] > 0 and 0 <= row["waiting_for_data"] <= 1 for row in rows)
    now = json.loads((run / "now.json").read_text())
    assert (now["epochs"], now["steps"]) == (30, 4)


def test_a_mistake_before_processes_are_started_is_said_once(project):
    change(project, train__processes=2, model__num_classes=4)
    done = subprocess.run(COMMAND, cwd=project, env=environment(project), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: artifacts/db/train.lmdb has 3 classes, but model.num_classes is 4\n"
    change(project, model__num_classes=3)


def test_a_mistake_that_shows_later_is_not_tried_again(project, tmp_path):
    change(project, train__processes=2, lr=1e9)
    variables = environment(project) | {"RUNS_DIR": str(tmp_path)}
    done = subprocess.run(COMMAND, cwd=project, env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines[0].startswith("error: the loss is ")
    assert lines[0].endswith("lower the lr, which is 1e+09")
    assert len(lines) <= 2, "one of each process"
    assert "the loss is" in done.stderr.splitlines()[-2], "torchrun's last words"
    change(project, lr=0.1)


def test_torchrun_by_hand_with_another_number_of_processes(project):
    change(project, train__processes=4)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, *COMMAND[1:]], cwd=project, env=environment(project), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "error: torchrun has started 2 processes, but `processes` is 4\n" in done.stderr
