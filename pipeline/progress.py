"""Shows training: a bar, a line per epoch, curves. Speeds go to the screen and the run's folder only.

The lines are columns under one header, in 79 characters; a star marks each epoch that is the best so far.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from dvclive import Live
from tqdm import tqdm

from pipeline.run_files import LogRow, Speed
from storage.errors import InputError, cannot_write
from storage.files import whole_file, write_json
from storage.json_file import parse_json
from training.engine import EpochSteps, Observer, Request
from training.figures import Figures, Row

EVERY = 2  # seconds from one look at the figures of the current epoch to the next
# The columns of the figures: name in a row, heading, width, and how a value is written.
COLUMNS = (
    ("train_loss", "train loss", 12, "{:.4g}"),
    ("train_top1", "top-1 %", 9, "{:.2f}"),
    ("val_loss", "val loss", 11, "{:.4g}"),
    ("val_top1", "top-1 %", 9, "{:.2f}"),
    ("lr", "lr", 11, "{:.4g}"),
)
PLACE, SPEED, LEFT = 9, 9, 9  # widths of the others
HEADER = (
    f"{'epoch':>{PLACE}}{''.join(f'{heading:>{width - 1}} ' for _, heading, width, _ in COLUMNS)}"
    f"{'images/s':>{SPEED}}{'left':>{LEFT}}"
)
BAR = "{desc} {percentage:3.0f}%|{bar:16}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"


@contextmanager
def curves(stage: str) -> Iterator[Live]:
    """DVCLive's files in plots/<stage>: they hold figures only, nothing about the machine or the time."""
    try:
        live = Live(f"plots/{stage}", dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)
    except sqlite3.Error as error:  # DVCLive opens the repository, and DVC its notes on files
        raise InputError(f"DVC cannot write in its DVC_SITE_CACHE_DIR (/var/tmp/dvc if not set): {error}") from None
    yield live
    with _written(live):
        live.end()


@contextmanager
def _written(live: Live) -> Iterator[None]:
    """A block that writes the files of `live`: an error names their folder, which DVCLive's own does not."""
    try:
        yield
    except OSError as error:
        raise cannot_write(Path(live.dir), error) from None


class CheckpointTimer(Observer):
    """Requests a checkpoint every few minutes, and a stop after a signal.

    Args:
        minutes: Minutes from one checkpoint to the next.
        signals: Numbers of the signals that have arrived.
    """

    def __init__(self, minutes: float, signals: list[int]):
        self.seconds, self.signals = 60 * minutes, signals
        self.saved = time.monotonic()

    def row(self, row: Row) -> None:
        self.saved = time.monotonic()

    def request(self) -> Request:
        if self.signals:
            return Request.STOP
        if time.monotonic() - self.saved < self.seconds:
            return Request.CONTINUE
        self.saved = time.monotonic()
        return Request.SAVE


class Display(CheckpointTimer):
    """Shows training on the screen, in DVCLive's files, and in `folder`.

    In `folder`, log.jsonl gets a line of figures and speeds per epoch, and now.json describes the current epoch.

    Args:
        live: DVCLive's files, which get the figures without times.
        folder: The run's folder.
        epochs: Epochs of the whole run.
        steps: Steps of an epoch.
        batch_size: Images per step, over all processes.
        minutes: Minutes from one checkpoint to the next.
        signals: Numbers of the signals that have arrived.
    """

    def __init__(
        self, live: Live, folder: Path, epochs: int, steps: int, batch_size: int, minutes: float, signals: list[int]
    ):
        super().__init__(minutes, signals)
        self.live, self.folder = live, folder
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.bar: tqdm | None = None
        self.waited, self.looked, self.begun = 0.0, 0.0, 0.0
        self.speed: Speed = {}  # of the last epoch that this process has trained
        self.step_seconds, self.validation_seconds = 0.0, 0.0
        self.log = folder / "log.jsonl"
        self.rows = _read(self.log)
        self.best: Row | None = None

    def epoch(self, steps: EpochSteps, epoch: int, done: int) -> EpochSteps:
        label = f"epoch {epoch}/{self.epochs}"
        self.number, self.done, self.waited = epoch, done, 0.0
        self.first, self.begun = done, time.monotonic()
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
        self.bar = tqdm(
            total=self.steps, initial=done, desc=label, leave=False, disable=None, bar_format=BAR, dynamic_ncols=True
        )
        iterator = iter(steps)
        try:
            while True:
                asked = time.monotonic()
                batch = next(iterator, None)
                self.waited += time.monotonic() - asked
                if batch is None:
                    break
                yield batch
        finally:
            self.bar.close()
        self.speed, self.ended = self._speed(), time.monotonic()

    def step(self, figures: Callable[[], Figures]) -> None:
        self.done += 1
        assert self.bar is not None
        self.bar.update()
        if time.monotonic() - self.looked > EVERY:
            self.looked = time.monotonic()
            now, speed = figures(), self._speed()
            shown = f"loss {now['train_loss']:.4g}, top-1 {now['train_top1']:.2f} %"
            self.bar.set_postfix_str(f"{shown}, {speed['images_per_second']:,.0f} images/s")
            left = self._seconds_left(self.epochs - self.number + 1)
            place = {"epoch": self.number, "epochs": self.epochs, "done": self.done, "steps": self.steps}
            write_json(self.folder / "now.json", place | dict(now) | dict(speed) | {"seconds_left": left})

    def row(self, row: Row) -> None:
        super().row(row)
        self.live.step = row["epoch"]
        figures = {name: cast(float, value) for name, value in row.items() if name != "epoch"}
        with _written(self.live):
            for name, value in figures.items():
                self.live.log_metric(name, value, timestamp=False)
            self.live.make_summary()
        if self.best is None:
            print(HEADER)
        is_best = self.best is None or row["val_top1"] > self.best["val_top1"]
        if is_best:
            self.best = row
        line = f"{row['epoch']}/{self.epochs}".rjust(PLACE)
        for name, _, width, form in COLUMNS:
            text = form.format(figures[name]) if name in figures else ""
            line += f"{text:>{width - 1}}*" if name == "val_top1" and is_best else f"{text:>{width - 1}} "
        if self.speed:
            self.validation_seconds = time.monotonic() - self.ended
            left = _duration(self._seconds_left(self.epochs - self.number))
            line += f"{self.speed['images_per_second']:>{SPEED},.0f}{left:>{LEFT}}"
        if row["epoch"] not in self.rows:  # epochs before an interruption are logged already
            self.rows[row["epoch"]] = cast(LogRow, {**row, **self.speed})
            with whole_file(self.log) as partial:
                partial.write_text("".join(json.dumps(each) + "\n" for each in self.rows.values()))
        print(line.rstrip(), flush=True)

    def made(self, outputs: Path) -> str:
        """What the training has made, and where: its last line."""
        assert self.best is not None
        epoch = f"epoch {self.best['epoch']} of {self.epochs}, top-1 {self.best['val_top1']:.2f} %"
        return f"best: {epoch}, in {outputs}; curves in {self.live.dir}"

    def _speed(self) -> Speed:
        """The speed of the current epoch since it began or resumed; empty before a step."""
        seconds, made = time.monotonic() - self.begun, self.done - self.first
        if not made:
            return {}
        self.step_seconds = seconds / made
        speed: Speed = {
            "images_per_second": round(made * self.batch_size / seconds, 1),
            "waiting_for_data": round(self.waited / seconds, 4),
        }
        if torch.cuda.is_initialized():
            speed["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        return speed

    def _seconds_left(self, validations: int) -> float:
        steps = (self.epochs - self.number + 1) * self.steps - self.done
        return round(steps * self.step_seconds + validations * self.validation_seconds)


def _read(log: Path) -> dict[int, LogRow]:
    """The lines of log.jsonl by epoch; none if it does not exist.

    Raises:
        InputError: If it is damaged.
    """
    lines = log.read_bytes().splitlines() if log.exists() else []
    rows = [parse_json(line, log) for line in lines]
    if not all(isinstance(row, dict) and isinstance(row.get("epoch"), int) for row in rows):
        raise InputError(f"{log} is damaged: remove it")
    return {row["epoch"]: row for row in rows}


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}h {minutes % 60:02}m" if minutes >= 60 else f"{minutes} min"
