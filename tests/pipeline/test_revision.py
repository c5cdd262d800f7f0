import json
import subprocess
from pathlib import Path

import pytest

from pipeline.revision import commit, results, workspace
from storage.errors import InputError

FILES = {
    "metrics/summary.json": json.dumps({"int_top1": 90.0}),
    "metrics/int.json": json.dumps({"top1": 90.0, "loss": 0.5, "images": 20, "sha256": "abc"}),
    "metrics/litert.json": "{}",
    "plots/top1.csv": "form,top1,low,high\nfloat,90.0,88.0,92.0\n",
    "plots/qat/plots/metrics/val_loss.tsv": "step\tval_loss\n0\t0.25\n1\tnan\n",
    "plots/worst/int.jpg": "jpeg",
    "dvc.lock": "stages:\n  a:\n    cmd: b\n    outs:\n    - {path: artifacts/x, size: 7}\n  c: {cmd: d}\n",
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with results in a commit, whose workspace holds others."""
    folder = tmp_path / "a repository" / "below"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git = ["git", "-C", folder.parent, "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "results"],
        ["tag", "one"],
    ):
        subprocess.run([*git, *command], check=True)
    (folder / "metrics/summary.json").write_text(json.dumps({"int_top1": 91.0}))
    monkeypatch.chdir(folder)


def test_the_results_of_a_commit_and_of_the_workspace(repository):
    there, here = results("one", commit("one")), results("workspace", workspace)
    assert (there.headline, here.headline) == ({"int_top1": 90.0}, {"int_top1": 91.0})
    for found in (there, here):
        assert found.scores == {"integer": {"top1": 90.0, "loss": 0.5, "images": 20}}
        assert found.top1 == [{"form": "float", "top1": 90.0, "low": 88.0, "high": 92.0}]
        assert found.curves["qat"]["val_loss"][0] == (0.0, 0.25) and len(found.curves["qat"]["val_loss"]) == 2
        assert found.curves["float"]["val_loss"] == found.reliability == found.confusion == []
        assert found.pictures == {"disagreement": None, "worst": b"jpeg"}
        assert found.sizes == {"artifacts/x": 7}


@pytest.mark.parametrize("name", ["two", "", "--all", "HEAD~5"])
def test_a_revision_that_is_not_there(repository, name):
    with pytest.raises(InputError, match=r"^there is no revision "):
        commit(name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics/summary.json", "{"),
        ("metrics/summary.json", "[1]"),
        ("metrics/int.json", "["),
        ("metrics/int.json", '{"top1": "high"}'),
        ("metrics/int.json", '{"top1": [], "loss": 1, "images": 1}'),
        ("plots/top1.csv", "form,top1\nfloat\n"),
        ("plots/top1.csv", "top1\n9\n"),
        ("plots/top1.csv", "form,top1\nfloat,nan\n"),
        ("plots/confusion/int.csv", "class,taken_for,images\na,a,-1\n"),
        ("dvc.lock", "stages: ["),
        ("dvc.lock", "[1]"),
        ("dvc.lock", "stages: {a: {outs: [{path: x}]}}"),
        ("plots/qat/plots/metrics/val_loss.tsv", "step\tval_loss\n0\tx\n"),
        ("plots/qat/plots/metrics/val_loss.tsv", "a\tb\n0\t1\n"),
    ],
)
def test_a_damaged_file_is_named(repository, name, content):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(content)
    with pytest.raises(InputError, match=rf"^{name}"):
        results("workspace", workspace)
