"""Float training in processes of its own: stopped by a signal, and shared by two."""

import errno
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from project import change, environment, make_project, shell

MODEL = "artifacts/float/model.safetensors"
pytestmark = pytest.mark.experiments  # a minute of processes that start and stop
COMMAND = [sys.executable, "-m", "stages.train_float"]
STARTED: list[subprocess.Popen] = []


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
    STARTED.append(subprocess.Popen(command, cwd=folder, env=variables, text=True, **pipes))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def leftovers():
    """Processes that a failed test leaves, perhaps stopped, are killed, and those that they have started with them."""
    yield
    while STARTED:
        STARTED.pop().kill()


def wait_for_checkpoints(process: subprocess.Popen, *runs: Path) -> None:
    """Wait until a few are in one of the folders, or the process has ended."""
    found: list[Path] = []
    while process.poll() is None and not any(int(path.stem[5:]) > 11 for path in found):
        time.sleep(0.02)
        found = [path for folder in runs for path in folder.glob("float-*/step_*.pt")]


def children_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The training processes that it has started."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error):  # it has just ended
            found += [child] * ("stages.train_float" in child.cmdline())
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_training_that_a_signal_has_stopped_goes_on_to_the_same_bytes(project, tmp_path, processes):
    change(project, train__processes=processes)
    printed = train(project, tmp_path / "straight")
    assert printed.count("    17/30 ") == 1, "one process writes"
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


@pytest.mark.parametrize(
    ("number", "everyone"),
    [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGUSR1, False), (signal.SIGUSR1, True)],
)
def test_a_signal_ends_two_processes_and_they_go_on_to_the_same_bytes(project, tmp_path, shared, number, everyone):
    """One of the processes alone, and all of them, as of a scheduler whose time is over."""
    change(project, train__processes=2)
    process = start(project, tmp_path)
    wait_for_checkpoints(process, tmp_path)
    children = children_of(process)
    for each in [*children, psutil.Process(process.pid)] if everyone else children[-1:]:
        each.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == 128 + number
    assert error.startswith("stopped; the checkpoint is in ")
    train(project, tmp_path)
    assert results(project) == shared


def test_no_process_outlives_what_has_started_it_a_moment_ago(project, tmp_path):
    change(project, train__processes=2)
    process = start(project, tmp_path)
    while len(children := children_of(process)) < 2:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_no_process_outlives_what_has_started_it(project, tmp_path, shared):
    change(project, train__processes=2)
    process = start(project, tmp_path)
    wait_for_checkpoints(process, tmp_path)
    children = psutil.Process(process.pid).children()
    process.kill()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    process.communicate()
    assert max(int(path.stem[5:]) for path in tmp_path.glob("float-*/step_*.pt")) < 4 * 30
    train(project, tmp_path)
    assert results(project) == shared


def test_a_run_of_another_process_is_awaited_and_taken_over(project, tmp_path):
    """As two people with one RUNS_DIR, or two jobs of DVC's queue, meet."""
    change(project, train__processes=1)
    train(project, tmp_path / "straight")
    straight = results(project)
    people = [shutil.copytree(project, tmp_path / name, symlinks=True) for name in ("first", "second", "third")]
    for folder in people:
        for path in results(folder):
            (folder / path).unlink()

    first = start(people[0], tmp_path / "runs")
    wait_for_checkpoints(first, tmp_path / "runs")
    (run,) = (tmp_path / "runs").glob("float-*")
    first.send_signal(signal.SIGSTOP)  # it holds its run
    others = [start(folder, tmp_path / "runs") for folder in people[1:]]
    said = f"waiting for process {first.pid} on {socket.gethostname()}, which trains {run}\n"
    assert [other.stderr.readline() for other in others] == [said, said]
    others[1].send_signal(signal.SIGUSR1)
    _, error = others[1].communicate(timeout=30)
    assert (others[1].returncode, error) == (128 + signal.SIGUSR1, "stopped before it trained\n")
    first.send_signal(signal.SIGCONT)
    for process, folder in zip((first, others[0]), people, strict=False):
        _, error = process.communicate()
        assert (process.returncode, error) == (0, "")
        assert results(folder) == straight
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 31)), "one of them has trained"


def test_a_run_whose_process_was_killed_is_taken_over(project, tmp_path, shared):
    """Two processes wait for two, whose launcher is killed."""
    change(project, train__processes=2)
    other = shutil.copytree(project, tmp_path / "other", symlinks=True)
    first = start(project, tmp_path / "runs")
    wait_for_checkpoints(first, tmp_path / "runs")
    first.send_signal(signal.SIGSTOP)
    for child in children_of(first):
        child.suspend()
    second = start(other, tmp_path / "runs")
    assert second.stderr.readline().startswith("waiting for process ")
    first.kill()
    first.communicate()
    _, error = second.communicate()
    assert (second.returncode, error) == (0, "")
    assert results(other) == shared


def test_another_run_for_the_same_outputs_is_refused(project, tmp_path):
    change(project, train__processes=1)
    first = start(project, tmp_path)
    wait_for_checkpoints(first, tmp_path)
    first.send_signal(signal.SIGSTOP)
    change(project, lr=0.05)
    done = subprocess.run(COMMAND, cwd=project, env=environment(project), capture_output=True, text=True)
    change(project, lr=0.1)
    first.kill()
    first.communicate()
    who = f"process {first.pid} on {socket.gethostname()}"
    assert done.returncode == 1
    assert done.stderr == f"error: {who} is writing artifacts/float; wait for its end, or stop it\n"


FAILING = """
import os
from pathlib import Path

fsync, failures = os.fsync, Path(os.environ["FAILURES"])


def fail(descriptor):
    left = failures.read_text().split()
    if os.environ.get("RANK") == "0" and left:
        failures.write_text(" ".join(left[1:]))
        raise MemoryError if left[0] == "memory" else OSError(int(left[0]), os.strerror(int(left[0])))
    fsync(descriptor)


os.fsync = fail
"""


def failing(project: Path, folder: Path, *failures: object) -> subprocess.CompletedProcess:
    """Training by two processes, whose checkpoints fail with these numbers of errors, each once."""
    change(project, train__processes=2)
    (folder / "sitecustomize.py").write_text(FAILING)
    (folder / "failures").write_text(" ".join(map(str, failures)))
    variables = {"RUNS_DIR": str(folder / "runs"), "FAILURES": str(folder / "failures"), "PYTHONPATH": str(folder)}
    return subprocess.run(COMMAND, cwd=project, env=environment(project) | variables, capture_output=True, text=True)


def test_errors_that_pass_are_tried_again(project, tmp_path, shared):
    done = failing(project, tmp_path, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("of 2 has died with exit code 1; start ") == 3
    assert results(project) == shared


@pytest.mark.parametrize(("failure", "said"), [("memory", "out of memory"), (errno.ENOSPC, "No space left on device")])
def test_errors_that_stay_are_said_once(project, tmp_path, failure, said):
    done = failing(project, tmp_path, failure)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line


@pytest.mark.parametrize("variables", [{"RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "zero", "WORLD_SIZE": "1"}])
def test_incomplete_variables_of_torchrun(project, variables):
    change(project, train__processes=1)
    variables = environment(project) | variables
    done = subprocess.run(COMMAND, cwd=project, env=variables, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: "), done.stderr


def test_nohup_goes_on_without_its_terminal(project, tmp_path, shared):
    change(project, train__processes=2)
    process = start(project, tmp_path, ["nohup", *COMMAND])
    wait_for_checkpoints(process, tmp_path)
    for each in [psutil.Process(process.pid), *children_of(process)]:
        each.send_signal(signal.SIGHUP)
    _, error = process.communicate()
    assert process.returncode == 0, error
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
    assert done.stderr.startswith("error: artifacts/db/train.lmdb has 3 classes, but model.num_classes is 4; classes ")
    assert done.stderr.count("\n") == 1
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
    assert done.stderr == f"error: {tmp_path / 'file'} is not a folder\n"


def test_torchrun_by_hand_with_another_number_of_processes(project):
    change(project, train__processes=4)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, *COMMAND[1:]], cwd=project, env=environment(project), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "error: torchrun has started 2 processes, but `processes` is 4\n" in done.stderr
