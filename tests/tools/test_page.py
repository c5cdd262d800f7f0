import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import run
from reports.summary import Headline
from tools import page

SUMMARY = dict.fromkeys(Headline.__annotations__, 90)


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch):
    """A repository with little more than a summary, and the same in its only commit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "experiments", list)
    monkeypatch.setattr(sys, "argv", ["page"])
    shutil.copy(Path(__file__).parents[2] / "params.yaml", "params.yaml")
    Path("metrics").mkdir()
    Path("metrics/summary.json").write_text(json.dumps(SUMMARY))
    Path("artifacts/int").mkdir(parents=True)
    Path("artifacts/int/report.html").write_text("report")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "results"]):
        subprocess.run([*git, *command], check=True)


def test_the_page_links_the_files_that_are_there(capsys):
    run(page.main)
    assert capsys.readouterr().out == "wrote artifacts/index.html\n"
    text = Path("artifacts/index.html").read_text()
    assert '<a href="int/report.html">report.html: what quantization costs in each layer</a>' in text
    assert "float.onnx" not in text and "90.00 %" in text


def test_beside_another_revision(monkeypatch):
    Path("metrics/summary.json").write_text(json.dumps(SUMMARY | {"int_top1": 95}))
    monkeypatch.setattr(sys, "argv", ["page", "--against", "HEAD"])
    run(page.main)
    text = Path("artifacts/index.html").read_text()
    assert "<b>95.00 %</b><small>HEAD: 90.00 %</small>" in text


def test_a_revision_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["page", "--against", "nowhere"])
    with pytest.raises(SystemExit, match=r"^error: there is no revision 'nowhere' in git$"):
        run(page.main)


def test_before_the_pipeline_has_run_it_says_what_makes_results():
    Path("metrics/summary.json").unlink()
    with pytest.raises(SystemExit, match=r"^error: metrics/summary\.json .*make validate"):
        run(page.main)
