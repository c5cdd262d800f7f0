"""The scripts of docs/cluster.md, by bash, with stand-ins for the commands of SLURM; one computer is all machines."""

import csv
import hashlib
import io
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from project import REPOSITORY, change, commit, environment, make_project, shell

pytestmark = pytest.mark.experiments
MODEL = "artifacts/float/model.safetensors"
STAND_INS = {
    "srun": """
while [[ $1 == --* ]]; do shift; done
for machine in $(seq "$SLURM_NNODES"); do "$@" & echo $! >> "$JOB/tasks"; done
for task in $(jobs -p); do wait "$task" || code=$?; done
exit "${code:-0}"
""",
    "scancel": '[[ "$*" == "--signal=TERM $SLURM_JOB_ID" ]] && kill -TERM $(cat "$JOB/tasks")',
    "scontrol": """
[[ "$*" == "show hostnames $SLURM_JOB_NODELIST" ]] && echo localhost
[[ "$*" == "requeue $SLURM_JOB_ID" ]] && touch "$JOB/queued_again"
""",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Packed images of three classes, a run of 30 epochs, and the stand-ins."""
    folder = make_project(tmp_path_factory.mktemp("cluster") / "project", epochs=30)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").touch()
    (folder.parent / "bin").mkdir()
    for name, text in STAND_INS.items():
        (folder.parent / "bin" / name).write_text(f"#!/bin/bash\n{text}")
        (folder.parent / "bin" / name).chmod(0o755)
    shell(folder, "dvc repro pack overlap")
    commit(folder)
    return folder


def script(number: int, *changes: tuple[str, str]) -> str:
    """One of the page's, with as little changed as one small computer needs."""
    page = (REPOSITORY / "docs/cluster.md").read_text()
    text = re.findall(r"^```text\n(#!/bin/bash\n.*?)^```$", page, re.MULTILINE | re.DOTALL)[number]
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


class Job:
    """A script in the queue, with a folder of its own."""

    def __init__(self, project: Path, folder: Path, text: str, **variables: str):
        folder.mkdir()
        self.project, self.folder, self.text = project, folder, text
        own = {"JOB": str(folder), "PATH": f"{project.parent / 'bin'}{os.pathsep}{environment(project)['PATH']}"}
        self.variables = environment(project) | own | {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1"} | variables

    def start(self) -> subprocess.Popen:
        for path in self.folder.iterdir():
            path.unlink()
        with (self.folder / "output").open("w") as output:
            pipes = {"stdout": output, "stderr": subprocess.STDOUT}
            return subprocess.Popen(
                ["bash", "-c", self.text], cwd=self.project, env=self.variables, start_new_session=True, **pipes
            )

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def is_stopped_and_queued_again(self) -> None:
        process = self.start()
        while "     3/30 " not in self.output():
            assert process.poll() is None, self.output()
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR1)  # to the shell alone, as --signal=B: has it
        assert process.wait(timeout=120) == 0, self.output()
        assert "stopped; the checkpoint is in " in self.output()
        assert "    30/30 " not in self.output()
        assert (self.folder / "queued_again").exists()

    def ends(self) -> None:
        assert self.start().wait(timeout=300) == 0, self.output()
        assert "    30/30 " in self.output()
        first = re.search(r"^ +1/30( .*)$", self.output(), re.MULTILINE)
        assert first and len(first[1].split()) == 5, "what is not trained again has no speed"
        assert not (self.folder / "queued_again").exists()


def straight(project: Path, runs: Path) -> bytes:
    """The float model of a run without interruption."""
    shell(project, "python -m stages.train_float", RUNS_DIR=str(runs))
    return (project / MODEL).read_bytes()


def test_one_machine(project, tmp_path):
    expected = straight(project, tmp_path / "runs")
    job = Job(project, tmp_path / "job", script(0, ("dvc repro &", "dvc repro train_float &")))
    job.is_stopped_and_queued_again()
    job.ends()
    assert (project / MODEL).read_bytes() == expected
    change(project, lr=1e9)
    assert job.start().wait(timeout=120) != 0
    assert "lower the lr" in job.output()
    assert not (job.folder / "queued_again").exists(), "it would fail again"
    shell(project, "git checkout --quiet .")


def test_two_machines(project, tmp_path):
    change(project, train__processes=2)
    expected = straight(project, tmp_path / "runs")
    with socket.socket() as free:
        for port in range(20000, 30000):
            if free.connect_ex(("localhost", port)):
                break
    variables = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": str(port), "OMP_NUM_THREADS": "1"}
    job = Job(project, tmp_path / "job", script(1, ("--nproc-per-node=8", "--nproc-per-node=1")), **variables)
    job.is_stopped_and_queued_again()
    job.ends()
    assert (project / MODEL).read_bytes() == expected
    assert "train_float" not in shell(project, "dvc status train_float --json"), "it is committed"
    shell(project, "git checkout --quiet .")


def test_a_sweep(project, tmp_path):
    target = ('TASK_ID]}" &', 'TASK_ID]}" train_float &')
    jobs = [Job(project, tmp_path / f"{task}", script(2, target), SLURM_ARRAY_TASK_ID=f"{task}") for task in (0, 1)]
    beside = jobs[1].start()
    jobs[0].is_stopped_and_queued_again()
    jobs[0].ends()
    assert beside.wait(timeout=300) == 0, jobs[1].output()
    assert "    30/30 " in jobs[1].output()

    table = csv.DictReader(io.StringIO(shell(project, "dvc exp show --csv --hide-workspace")))
    revisions = {row["lr"]: row["rev"] for row in table if row["Experiment"]}
    assert revisions.keys() == {"0.02", "0.05"}
    lock = yaml.safe_load(shell(project, f"git show {revisions['0.02']}:dvc.lock"))
    swept = {out["path"]: out["md5"] for out in lock["stages"]["train_float"]["outs"]}
    change(project, lr=0.02)
    assert swept[MODEL] == hashlib.md5(straight(project, tmp_path / "runs")).hexdigest()
