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
    rows = ({"epoch": n, "val_top1": value, "val_loss": 1 / n} for n, value in enumerate(top1, 1))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_as_text(runs, capsys):
    write_run(runs / "float-a", 50, 85, 85, 67.5)
    (runs / "view_train.png").touch()
    run(watch.main)
    shown = capsys.readouterr().out
    assert f"{runs}/float-a\nepoch 3 of 15, step 40 of 156, loss 0.6123, top-1 81.50 %, lr 0.09\n" in shown
    assert "1,234 images/s, waiting for data 1.2 %\n5 min left; " in shown
    assert "best top-1 85.00 % in epoch 2\n" in shown
    assert "done" not in shown
    assert max(map(len, shown.splitlines())) <= 80 + len(str(runs))
    *_, top, under, c, d, e, f, g, foot = shown.splitlines()
    between = 28 - 4 + 2  # of a curve of four epochs, and between two curves
    assert top == "     85  ██ " + between * " " + "      1 █"
    assert foot == "     50 ▁███" + between * " " + "   0.25 ███▁"
    assert [line[8:12] for line in (under, c, d, e, f, g)] == [" ██ ", " ██ ", " ██▁", *[" ███"] * 3]


def test_a_run_whose_last_epoch_is_logged_is_done(runs, capsys):
    write_run(runs / "float-a", *range(50, 65))
    run(watch.main)
    shown = capsys.readouterr().out
    assert shown.startswith(f"{runs}/float-a\ndone, 15 epochs\nbest top-1 64.00 % in epoch 15\n")


def test_a_terminal_waits_for_the_first_step_and_ctrl_c_leaves_a_clean_line(runs, capsys, monkeypatch):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt
        write_run(runs / "float-a", 50)

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(watch.time, "sleep", sleep)
    run(watch.main)
    first, second = capsys.readouterr().out.split(watch.CLEAR)[1:]
    assert first.startswith(f"no run in {runs} has made a step yet")
    assert "epoch 3 of 15" in second and second.endswith("not the training\n\n")


def test_the_newest_run_of_each_stage(runs, capsys):
    for number, name in enumerate(("float-b", "float-a", "qat-c")):
        write_run(runs / name)
        os.utime(runs / name / "now.json", (number, number))
    run(watch.main)
    shown = capsys.readouterr().out
    assert "float-a" in shown and "qat-c" in shown and "float-b" not in shown


def test_a_long_curve_keeps_its_end():
    title, *rows = watch.curve("t", [0.0] * 599 + [1.0])
    assert title.strip() == "t" and len(rows) == 8 and {len(row) for row in rows} == {8 + 28}
    assert rows[-1].endswith("▁█ ") or rows[-1].rstrip().endswith("▁█")
    assert rows[0].split() == ["1", "█"]


def test_figures_that_are_not_finite_are_drawn_as_such():
    assert [row[8:12] for row in watch.curve("", [0.0, math.inf, 1.0, math.nan])[1:]] == [" ?█?"] * 7 + ["▁?█?"]
    assert [row[8:].strip() for row in watch.curve("", [math.nan])[1:]] == ["?"] * 8
    assert watch.curve("", []) == []


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
