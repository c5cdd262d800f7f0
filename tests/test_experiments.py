"""Experiments, remotes and artifacts with the real commands of DVC, in clones of a small project that has run once."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from project import REPOSITORY, change, clone_of, commit, environment, files, make_project, ran, shell

from storage.files import beside
from storage.lock import Lock
from storage.model_file import load_model

pytestmark = pytest.mark.experiments
SAFETENSORS = "artifacts/float/model.safetensors"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project whose pipeline has run and is committed."""
    folder = make_project(tmp_path_factory.mktemp("experiments") / "project", epochs=20)
    shell(folder, "dvc repro")
    commit(folder)
    return folder


@pytest.fixture
def clone(project, tmp_path) -> Path:
    """A fresh clone, with the project's cache of DVC."""
    return clone_of(project, tmp_path / "clone")


def experiments(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of `dvc exp show` by name."""
    rows = csv.DictReader(io.StringIO(shell(folder, "dvc exp show --csv --all-branches")))
    return {row["Experiment"]: row for row in rows if row["Experiment"]}


def weights(folder: Path, experiment: str) -> bytes:
    """The float model of an experiment."""
    shell(folder, f"dvc exp apply {experiment}")
    return (folder / SAFETENSORS).read_bytes()


def wait_for(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.05)


def is_written(folder: Path) -> bool:
    """Whether a stage is at work in it."""
    with Lock(beside(folder, "lock")) as lock:
        return lock.take() is not None


def succeeds(folder: Path, command: str) -> bool:
    """Whether it ends well; what it starts in the background holds no pipe that would have to end."""
    nowhere = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    return not subprocess.run(command.split(), cwd=folder, env=environment(folder), **nowhere).returncode


def interrupt_in_training(folder: Path, command: str, number: signal.Signals) -> None:
    """Run a command in a terminal of its own, and send a signal to all of it after the first epoch."""
    process = subprocess.Popen(
        command.split(), cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert any(line.startswith("     1/20 ") for line in process.stdout)
        os.killpg(process.pid, number)
        process.stdout.read()
    assert process.returncode != 0


def test_one_experiment_interrupted_and_gone_on_with(clone, project, tmp_path):
    command = "dvc exp run -S lr=0.02 -n hot"
    interrupt_in_training(clone, command, signal.SIGINT)
    assert shell(clone, "git branch --show-current") == "main\n"
    assert "hot" not in experiments(clone)

    # kill -9 leaves git with a detached HEAD, which docs/troubleshooting.md mends
    interrupt_in_training(clone, command, signal.SIGKILL)
    shell(clone, "git switch --quiet main")
    shell(clone, command)
    assert shell(clone, "git branch --show-current") == "main\n"

    other = clone_of(project, tmp_path / "other")
    shell(other, "dvc exp run -S lr=0.02 -n hot train_float")
    assert (clone / SAFETENSORS).read_bytes() == (other / SAFETENSORS).read_bytes()
    assert (clone / SAFETENSORS).read_bytes() != (project / SAFETENSORS).read_bytes()

    row = experiments(clone)["hot"]
    assert row["lr"] == "0.02"
    summary = json.loads((clone / "metrics/summary.json").read_text())
    assert float(row["int_top1"]) == summary["int_top1"]
    assert {row[name] for name in ("mismatches", "macs")} == {"0", str(summary["macs"])}
    assert "lr" in shell(clone, "dvc exp diff main hot")
    assert "metrics/summary.json" in shell(clone, "dvc metrics diff main --all")

    shell(clone, "git checkout --quiet --force main")
    shell(clone, "git clean --quiet --force -d metrics plots")
    shell(clone, "dvc exp branch hot warmer")
    shell(clone, "git switch --quiet warmer")
    shell(clone, "dvc checkout --quiet")
    assert ran(shell(clone, "dvc repro")) == []
    assert json.loads((clone / "metrics/summary.json").read_text()) == summary


def test_a_sweep_in_temporary_workspaces_and_one_killed_in_the_queue(clone):
    before = files(clone / "artifacts")
    shell(clone, "dvc exp run --queue -S lr=0.02 -n victim")
    assert succeeds(clone, "dvc queue start")
    checkpoints = clone / "runs"  # of the repository, not of the temporary workspace
    wait_for(lambda: list(checkpoints.glob("float-*/step_*.pt")))
    shell(clone, "dvc queue kill --force victim")
    wait_for(lambda: "Failed" in shell(clone, "dvc queue status"))  # the worker has yet to notice
    (kept,) = checkpoints.glob("float-*")
    wait_for(lambda: not is_written(kept))  # what DVC leaves of the stage ends with its folder

    table = shell(clone, "make sweep LR=0.02,0.05 JOBS=2")
    assert "0.05" in table
    assert kept in checkpoints.glob("float-*")
    assert len(list(checkpoints.glob("float-*"))) == 2, "lr=0.02 has gone on from the checkpoint of the killed one"
    rows = {row["lr"]: name for name, row in experiments(clone).items() if name not in ("workspace", "main", "victim")}
    assert rows.keys() == {"0.02", "0.05"}
    assert shell(clone, "git status --short --untracked-files=no") == ""
    assert files(clone / "artifacts") == before

    swept = weights(clone, rows["0.02"])
    shutil.rmtree(checkpoints)
    shell(clone, "git checkout --quiet --force main")
    shell(clone, "dvc exp run -S lr=0.02 --force train_float")
    assert (clone / SAFETENSORS).read_bytes() == swept, "the same bytes as without interruption"


def test_a_sweep_whose_experiments_share_a_run(clone):
    """The two with one `lr` want one float training: one of them trains, and the other one awaits and takes it over."""
    shell(clone, "dvc exp run --queue -S lr=0.02,0.05 -S qat.lr=0.001,0.002 train_qat")
    assert succeeds(clone, "dvc queue start -j 2")
    wait_for(lambda: not {"Queued", "Running"} & {*shell(clone, "dvc queue status").split()}, seconds=600)
    assert shell(clone, "dvc queue status").count("Success") == 4
    swept = {(row["lr"], row["qat.lr"]) for row in experiments(clone).values()}
    assert swept >= {(lr, qat_lr) for lr in ("0.02", "0.05") for qat_lr in ("0.001", "0.002")}
    assert [len(list((clone / "runs").glob(f"{stage}-*"))) for stage in ("float", "qat")] == [2, 4]


def test_a_remote_in_a_folder_gives_everything_back(project, tmp_path):
    folder = clone_of(project, tmp_path / "folder")
    shell(folder, f"dvc remote add --default store {tmp_path / 'store'}")
    shell(folder, "dvc push")
    revision = commit(folder) and shell(folder, "git rev-parse HEAD").strip()

    fresh = tmp_path / "fresh"
    shell(folder, f"git clone --quiet {folder} {fresh}")
    shell(fresh, "dvc pull")
    assert files(fresh / "artifacts") == files(project / "artifacts")
    assert ran(shell(fresh, "dvc repro")) == []
    assert not (fresh / "runs").exists(), "no stage has run"
    assert shell(fresh, "git status --short") == ""

    onnx = (project / "artifacts/onnx/int8_qoperator.onnx").read_bytes()
    shell(tmp_path, f"dvc get {folder} artifacts/onnx/int8_qoperator.onnx --rev {revision} -o by_path.onnx")
    shell(folder, "gto register int8-onnx --version v1.0.0")
    shell(tmp_path, f"dvc artifacts get {folder} int8-onnx --rev v1.0.0 -o by_name.onnx")
    assert {(tmp_path / name).read_bytes() for name in ("by_path.onnx", "by_name.onnx")} == {onnx}


def test_every_declared_artifact_is_an_output(project):
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
    for name, artifact in pipeline["artifacts"].items():
        assert (project / artifact["path"]).is_file(), name
        assert artifact.keys() == {"path", "type", "desc", "labels"}


def test_the_gate_of_an_experiment(clone):
    assert "crossed" not in shell(clone, "make gate AGAINST=main")
    path = clone / "metrics/summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mismatches": 1}))
    assert not succeeds(clone, "make gate AGAINST=main")


def test_the_plots_hold_what_they_name(clone):
    shell(clone, "dvc plots show")
    page = (clone / "dvc_plots/index.html").read_text()
    titles = [
        f"{what} in {stage}" for what in ("top-1", "learning rate", "loss") for stage in ("float training", "QAT")
    ]
    titles += ["top-1 by form", "confusion of the integer model", "reliability"]
    assert [title for title in titles if page.count(f'"text": "{title}"') != 1] == []
    assert page.count('"low": ') == 7
    pictures = re.findall(r'<img src="static/workspace_plots_(\w+)\.jpg"', page)
    assert {"disagreement", "worst_float", "worst_int"} <= {*pictures}
    assert "<DVC_" not in page


def test_the_plots_need_no_network_and_differ_by_revision(clone):
    done = subprocess.run(
        ["dvc", "plots", "diff", "HEAD"], cwd=clone, env=environment(clone), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), "each output that is declared as a plot can be read as one"
    page = (clone / "dvc_plots/index.html").read_text()
    assert "window.vegaEmbed=" in page
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page) == []
    assert page.count('"color": {"field": "rev"') >= 9


def test_what_was_computed_is_not_computed_again_without_artifacts(clone):
    shutil.rmtree(clone / "artifacts")
    again = ran(shell(clone, "dvc repro"))
    assert {stage.split("@")[0] for stage in again} <= {"code", "pack", "overlap", "compare"}
    assert not (clone / "runs").exists(), "nothing was trained"
    assert shell(clone, "git status --short") == ""


def test_who_has_the_databases_needs_no_images(clone):
    shutil.rmtree(clone / "pictures")
    shell(clone, "make repro")
    assert not (clone / "runs").exists()
    shell(clone, "dvc exp run --allow-missing -S qat.lr=0.02 -n warm train_qat")
    assert [path.name.split("-")[0] for path in (clone / "runs").iterdir()] == ["qat"]
    table = shell(clone, "make experiments")
    assert max(map(len, table.splitlines())) <= 110
    assert {"int_top1", "lr", "qat.lr"} <= {*re.split(r"  +", table.splitlines()[1].strip())}


def test_the_workflow_of_a_pull_request_reports_and_stops(clone, tmp_path):
    """The steps of the job after installing, as GitHub's runner executes them."""
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/results.yml").read_text())
    assert workflow["defaults"]["run"]["shell"] == "bash"
    steps = {step["name"]: step["run"] for step in workflow["jobs"]["pipeline"]["steps"] if "run" in step}
    judged = ["gate", "the results in git are those of this code"]
    names = ["what was computed before", "pipeline", "results", *judged]
    assert list(steps)[2:] == [*names, "comment on the pull request"]
    page = tmp_path / "summary.md"
    own = {"GITHUB_STEP_SUMMARY": str(page), "AGAINST": "main", "PAGE": "runs/results.md"}

    def step(name: str) -> int:
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps[name]]
        return subprocess.run(command, cwd=clone, env=environment(clone) | own).returncode

    assert [name for name in names if step(name)] == []
    assert "| ONNX int8 (QOperator) |" in page.read_text()
    assert page.read_text().count("| ok |") == 4
    assert (clone / own["PAGE"]).read_text() == page.read_text(), "what a comment says"
    assert (clone / "artifacts/index.html").is_file()

    results = clone / "metrics/summary.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"int_top1": 0.0}))
    page.unlink()
    assert [name for name in ("results", *judged) if step(name)] == judged
    assert "| metrics/summary.json | int_top1 |" in " ".join(page.read_text().split())
    assert "**crossed**" in page.read_text()
    change(clone, execution__device="cuda")
    assert step(judged[1]) == 0, "a GPU's results are not compared by their bytes"


def test_the_other_arithmetic_is_one_parameter(clone):
    shell(clone, "dvc exp run --name exact -S calibrate.arithmetic=exact8")
    assert (clone / "artifacts/litert/none.txt").is_file() and not (clone / "artifacts/litert/int8.tflite").exists()
    assert json.loads((clone / "metrics/litert.json").read_text()) == {}
    summary, card = (clone / "metrics/summary.md").read_text(), (clone / "artifacts/MODEL_CARD.md").read_text()
    assert "LiteRT int8" not in summary and "exact8 arithmetic" in card and "tflite" not in card
    program = load_model(clone / "artifacts/int/model.safetensors", ("int",)).program
    assert (program["arithmetic"], program["weight_limit"]) == ("exact8", 127)
    assert {op["kind"] for op in program["ops"]} >= {"avg_pool"}
    shell(clone, "python -m tools.gate --against HEAD")
