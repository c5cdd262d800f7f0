"""Float training in processes of its own: stopped by a signal, and shared by two."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from project import change, environment, make_project, shell

MODEL = "artifacts/float/model.safetensors"
pytestmark = pytest.mark.experiments  # a minute of processes that start and stop
COMMAND = [sys.executable, "-m", "stages.train_float"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Packed images of three classes, a run of 30 epochs of four steps."""
    folder = make_project(tmp_path_factory.mktemp("fitting") / "project", epochs=30)
    shell(folder, "dvc repro pack")
    return folder


def results(folder: Path) -> dict[str, bytes]:
    files = [folder / MODEL, folder / MODEL.replace("model", "last"), *(folder / "plots").rglob("*.tsv")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def train(folder: Path, runs: Path) -> str:
    done = subprocess.run(
        COMMAND, cwd=folder, env=environment(folder) | {"RUNS_DIR": str(runs)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def start(folder: Path, runs: Path, command=COMMAND, **variables: str) -> subprocess.Popen:
    variables = environment(folder) | {"RUNS_DIR": str(runs)} | variables
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=variables, text=True, **pipes)


def wait_for_checkpoints(process: subprocess.Popen, *runs: Path) -> None:
    """Wait until a few are in one of the folders, or the process has ended."""
    found: list[Path] = []
    while process.poll() is None and not any(int(path.stem[5:]) > 11 for path in found):
        time.sleep(0.02)
        found = [path for folder in runs for path in folder.glob("float-*/step_*.pt")]


def children_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The training processes that it has started."""
    return [child for child in psutil.Process(process.pid).children() if "stages.train_float" in child.cmdline()]


@pytest.mark.parametrize("processes", [1, 2])
def test_training_that_a_signal_has_stopped_goes_on_to_the_same_bytes(project, tmp_path, processes):
    change(project, train__processes=processes)
    printed = train(project, tmp_path / "straight")
    assert printed.count("epoch 17/30") == 1, "one process writes"
    straight = results(project)

    stopped = start(project, tmp_path / "stopped")
    wait_for_checkpoints(stopped, tmp_path / "stopped")
    stopped.send_signal(signal.SIGTERM)
    _, error = stopped.communicate()
    assert stopped.returncode == 128 + signal.SIGTERM
    (run,) = (tmp_path / "stopped").iterdir()
    assert error == f"stopped; the checkpoint is in {run}, the same command resumes from it\n"
    stopped_at = max(int(path.stem[5:]) for path in run.glob("step_*.pt"))
    assert 11 < stopped_at < 4 * 30
    train(project, tmp_path / "stopped")
    assert results(project) == straight

    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 31)), "each epoch is ended once"
    assert all(row["images_per_second"] > 0 and 0 <= row["waiting_for_data"] <= 1 for row in rows)
    now = json.loads((run / "now.json").read_text())
    assert (now["epochs"], now["steps"]) == (30, 4)


@pytest.fixture(scope="module")
def shared(project, tmp_path_factory) -> dict[str, bytes]:
    """The results of two processes without interruption."""
    change(project, train__processes=2)
    train(project, tmp_path_factory.mktemp("shared"))
    return results(project)


def test_a_killed_process_is_replaced_and_the_bytes_are_the_same(project, tmp_path, shared):
    change(project, train__processes=2)
    process = start(project, tmp_path)
    wait_for_checkpoints(process, tmp_path)
    children_of(process)[-1].kill()
    _, error = process.communicate()
    assert process.returncode == 0, error
    died = "of 2 has died with exit code -9 (killed, as the system does where memory is short)"
    assert f"{died}; start 1 of 3 from the last checkpoint\n" in error
    assert results(project) == shared


@pytest.mark.parametrize("everyone", [False, True], ids=["one", "all, as of a scheduler whose time is over"])
def test_a_signal_ends_two_processes_and_they_go_on_to_the_same_bytes(project, tmp_path, shared, everyone):
    """Processes that get no signal get one from the agent, which also signals those that have got one."""
    change(project, train__processes=2)
    process = start(project, tmp_path)
    wait_for_checkpoints(process, tmp_path)
    children = children_of(process)
    for each in [*children, psutil.Process(process.pid)] if everyone else children[-1:]:
        each.terminate()
    _, error = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert error.startswith("stopped; the checkpoint is in ")
    train(project, tmp_path)
    assert results(project) == shared


def test_no_process_outlives_what_has_started_it(project, tmp_path, shared):
    change(project, train__processes=2)
    process = start(project, tmp_path)
    wait_for_checkpoints(process, tmp_path)
    children = psutil.Process(process.pid).children()
    process.kill()
    psutil.wait_procs(children, timeout=60)
    process.communicate()
    assert max(int(path.stem[5:]) for path in tmp_path.glob("float-*/step_*.pt")) < 4 * 30
    train(project, tmp_path)
    assert results(project) == shared


def test_two_machines_give_the_bytes_of_two_processes_on_one(project, tmp_path, shared):
    """torchrun in two copies of the project, each with a runs folder of its own; a process of the second is killed."""
    change(project, train__processes=2)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meet = ["--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=1", "--max-restarts=1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *meet, *COMMAND[1:]]
    folders = [tmp_path / name / "project" for name in ("first", "second")]
    machines = []
    for folder in folders:
        shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns("float", "runs"))
        share = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
        machines.append(start(folder, folder / "runs", command, **share))
    wait_for_checkpoints(machines[1], *(folder / "runs" for folder in folders))
    children_of(machines[1])[-1].kill()
    for machine in machines:
        _, error = machine.communicate()
        assert machine.returncode == 0, error[-3000:]
    wrote = [folder for folder in folders if (folder / MODEL).exists()]
    assert [results(folder) for folder in wrote] == [shared]


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
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: the loss is ")
    assert lines[0].endswith("lower the lr, which is 1e+09")
    change(project, lr=0.1)


def test_a_mistake_that_one_process_meets_ends_both(project, tmp_path):
    change(project, train__processes=2)
    (tmp_path / "file").touch()
    variables = environment(project) | {"RUNS_DIR": str(tmp_path / "file")}
    done = subprocess.run(COMMAND, cwd=project, env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "Not a directory" in done.stderr


def test_torchrun_by_hand_with_another_number_of_processes(project):
    change(project, train__processes=4)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, *COMMAND[1:]], cwd=project, env=environment(project), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "error: torchrun has started 2 processes, but `processes` is 4\n" in done.stderr
