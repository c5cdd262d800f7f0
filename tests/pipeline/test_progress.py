import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import progress
from pipeline.progress import Display
from storage.errors import InputError

STEPS, BATCH = 10, 8
FIGURES = {"train_loss": 0.5, "train_top1": 80.0, "lr": 0.1}


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when its `now` is increased."""
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def display(folder, epochs=600):
    live = SimpleNamespace(log_metric=lambda name, value, timestamp: None, make_summary=lambda: None, dir="plots/float")
    return Display(live, folder, epochs, STEPS, BATCH, 10, [])


def train(shown, clock, epoch, done=0, step=2.0, wait=0.5, validation=30.0, top1=50.0):
    """Run an epoch after `done` of its steps; each step takes `step` seconds, `wait` of them for its batch."""

    def batches():
        for _ in range(done, STEPS):
            clock.now += wait
            yield ()

    for _ in shown.epoch(batches(), epoch, done):
        clock.now += step - wait
        shown.step(lambda: FIGURES)
    clock.now += validation
    shown.row(row(epoch, top1))


def row(epoch, top1=50.0):
    return {"epoch": epoch, **FIGURES, "val_loss": 1.0, "val_top1": top1}


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_speed_is_that_of_steps_and_time_left_counts_validations(tmp_path, clock, capsys):
    shown = display(tmp_path, epochs=3)
    train(shown, clock, 1)
    assert log(tmp_path) == [row(1) | {"images_per_second": 4.0, "waiting_for_data": 0.25}]
    assert capsys.readouterr().out.endswith("        4    2 min\n"), "2 x (10 x 2 s + 30 s)"
    train(shown, clock, 2, step=3.0)
    now = json.loads((tmp_path / "now.json").read_text())
    assert (now["epoch"], now["done"], now["seconds_left"]) == (2, STEPS, 10 * 3 + 2 * 30)
    assert capsys.readouterr().out.endswith("    1 min\n"), "10 x 3 s + 30 s"


def test_a_run_that_goes_on_before_a_validation_has_no_speed_to_tell(tmp_path, clock, capsys):
    shown = display(tmp_path)
    train(shown, clock, 1, done=STEPS, validation=3600.0)
    assert log(tmp_path) == [row(1)]
    header, line = capsys.readouterr().out.splitlines()
    assert header.split()[-2:] == ["images/s", "left"] and line.split()[-1] == "0.1"
    train(shown, clock, 2, done=STEPS - 1)
    assert log(tmp_path)[1]["images_per_second"] == 4.0


def test_the_log_has_each_epoch_once_whatever_interrupts_it(tmp_path, clock):
    first = display(tmp_path)
    first.row(row(0))
    train(first, clock, 1)
    going_on = display(tmp_path)  # epoch 2 had been saved, and its line not been written
    for epoch in range(3):
        going_on.row(row(epoch))
    train(going_on, clock, 3)
    assert [line["epoch"] for line in log(tmp_path)] == [0, 1, 2, 3]
    assert ["images_per_second" in line for line in log(tmp_path)] == [False, True, False, True]


@pytest.mark.parametrize("text", [b"{", b"[]", b"{}", b'{"epoch": "1"}', b"\xff", b"[" * 100_000])
def test_a_damaged_log_is_named(tmp_path, text):
    (tmp_path / "log.jsonl").write_bytes(b'{"epoch": 0}\n' + text)
    with pytest.raises(InputError, match=rf"^{tmp_path}/log.jsonl"):
        display(tmp_path)


def test_lines_are_columns_of_80_characters_with_a_star_at_each_best(tmp_path, clock, capsys):
    shown = display(tmp_path, epochs=1000)
    shown.row({"epoch": 0, "val_loss": 2.25, "val_top1": 10.0})
    for epoch, top1 in enumerate((50.0, 50.0, 49.5, 100.0), 1):
        train(shown, clock, epoch, step=0.001, wait=0, validation=3600.0, top1=top1)
    assert capsys.readouterr().out.splitlines() == [
        "    epoch train loss  top-1 %   val loss  top-1 %         lr  images/s     left",
        "   0/1000                           2.25    10.00*",
        "   1/1000        0.5    80.00          1    50.00*       0.1     8,000 999h 00m",
        "   2/1000        0.5    80.00          1    50.00        0.1     8,000 998h 00m",
        "   3/1000        0.5    80.00          1    49.50        0.1     8,000 997h 00m",
        "   4/1000        0.5    80.00          1   100.00*       0.1     8,000 996h 00m",
    ]
    made = shown.made(Path("artifacts/float"))
    assert made == "best: epoch 4 of 1000, top-1 100.00 %, in artifacts/float; curves in plots/float"
    assert len(made) <= 80
