import json
import math
import os
import sys

import pytest

from pipeline.cli import run
from tools import watch

NOW = {"epoch": 3, "epochs": 15, "done": 40, "steps": 156, "train_loss": 0.61234, "train_top1": 81.5, "lr": 0.09}
NOW |= {"images_per_second": 1234.5, "waiting_for_data": 0.012, "seconds_left": 300}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["watch"])
    return tmp_path


def write_run(folder, *top1):
    folder.mkdir()
    (folder / "now.json").write_text(json.dumps(NOW))
    rows = ({"epoch": n, "val_top1": value, "lr": 0.1} for n, value in enumerate(top1, 1))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_as_text(runs, capsys):
    write_run(runs / "float-a", 50, 85, 85, 67.5)
    (runs / "view_train.png").touch()
    run(watch.main)
    shown = capsys.readouterr().out
    assert f"{runs}/float-a\nepoch 3 of 15, step 40 of 156, loss 0.6123, top-1 81.50 %, lr 0.09\n" in shown
    assert "1,234 images/s, waiting for data 1.2 %, 5 min left" in shown
    assert "best top-1 85.00 % in epoch 2\n" in shown
    assert "  val_top1   ▁██▄  67.5\n" in shown or "  val_top1   ▁██▅  67.5\n" in shown
    assert "  lr         ▁▁▁▁  0.1" in shown


def test_the_newest_run_of_each_stage(runs, capsys):
    for number, name in enumerate(("float-b", "float-a", "qat-c")):
        write_run(runs / name)
        os.utime(runs / name / "now.json", (number, number))
    run(watch.main)
    shown = capsys.readouterr().out
    assert "float-a" in shown and "qat-c" in shown and "float-b" not in shown


def test_a_long_curve_keeps_its_end():
    curve = watch.sparkline([0.0] * 599 + [1.0])
    assert len(curve) == 60 and curve.endswith("▁█")


def test_figures_that_are_not_finite_are_drawn_as_such():
    assert watch.sparkline([0.0, math.inf, 1.0, math.nan]) == "▁?█?"
    assert watch.sparkline([math.nan]) == "?"


@pytest.mark.parametrize("content", ["", "[]", "5", "{", '{"epoch": []}', "[" * 100_000, json.dumps(NOW | {"lr": "x"})])
@pytest.mark.parametrize("name", ["now.json", "log.jsonl"])
def test_damaged_figures_are_one_line(runs, name, content):
    write_run(runs / "float-a", 50)
    (runs / "float-a" / name).write_text(content + "\n")
    if name == "log.jsonl" and not content.strip("{}"):
        content += "\x00"  # an empty log is whole
        (runs / "float-a" / name).write_text(content)
    with pytest.raises(SystemExit, match=f"^error: {runs}/float-a[^\n]*$"):
        run(watch.main)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9"])
def test_seconds_that_are_none(runs, seconds, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["watch", f"--every={seconds}"])
    with pytest.raises(SystemExit, match=r"^error: --every .* is not allowed, must be above 0 and at most 3600$"):
        run(watch.main)


def test_no_run(runs):
    with pytest.raises(SystemExit, match=r"^error: no run in .* has made a step yet; `make train-float` starts one$"):
        run(watch.main)
