import json
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
    live = SimpleNamespace(log_metric=lambda name, value, timestamp: None, make_summary=lambda: None)
    return Display(live, folder, epochs, STEPS, BATCH, 10, [])


def train(shown, clock, epoch, done=0, step=2.0, wait=0.5, validation=30.0):
    """Run an epoch after `done` of its steps; each step takes `step` seconds, `wait` of them for its batch."""

    def batches():
        for _ in range(done, STEPS):
            clock.now += wait
            yield ()

    for _ in shown.epoch(batches(), epoch, done):
        clock.now += step - wait
        shown.step(lambda: FIGURES)
    clock.now += validation
    shown.row(row(epoch))


def row(epoch, top1=50.0):
    return {"epoch": epoch, **FIGURES, "val_loss": 1.0, "val_top1": top1}


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_speed_is_that_of_steps_and_time_left_counts_validations(tmp_path, clock, capsys):
    shown = display(tmp_path, epochs=3)
    train(shown, clock, 1)
    assert log(tmp_path) == [row(1) | {"images_per_second": 4.0, "waiting_for_data": 0.25}]
    assert "  4 images/s  2 min left" in capsys.readouterr().out, "2 x (10 x 2 s + 30 s)"
    train(shown, clock, 2, step=3.0)
    now = json.loads((tmp_path / "now.json").read_text())
    assert (now["epoch"], now["done"], now["seconds_left"]) == (2, STEPS, 10 * 3 + 2 * 30)
    assert "1 min left" in capsys.readouterr().out, "10 x 3 s + 30 s"


def test_a_run_that_goes_on_before_a_validation_has_no_speed_to_tell(tmp_path, clock, capsys):
    shown = display(tmp_path)
    train(shown, clock, 1, done=STEPS, validation=3600.0)
    assert log(tmp_path) == [row(1)]
    assert "images/s" not in capsys.readouterr().out
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
