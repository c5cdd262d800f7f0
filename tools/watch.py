"""Show the newest run of float training and of QAT in the terminal: its progress, its speed, its curves.

python -m tools.watch            waits for the first step, and shows it again every few seconds, until Ctrl-C
python -m tools.watch | cat      once

It reads log.jsonl and now.json in the folders of runs/, so it also shows an experiment in DVC's queue.
"""

import argparse
import math
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pipeline.cli import run
from pipeline.paths import runs_folder
from pipeline.run_files import LogRow, Now
from storage.errors import InputError
from storage.json_file import parse_json, read_json

STAGES = ("float", "qat")
BLOCKS = " ▁▂▃▄▅▆▇█"
LONGEST = 3600  # seconds between two looks
HEIGHT, WIDTH, SCALE = 8, 28, 7  # rows of a curve, its most columns (a longer one shows every n-th epoch), its numbers
Curve = Literal["val_top1", "val_loss"]
CURVES: dict[Curve, str] = {"val_top1": "top-1 %, validation", "val_loss": "loss, validation"}
CLEAR = "\033[H\033[J"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=float, default=3, metavar="SECONDS", help="default: %(default)s")
    seconds = parser.parse_args().every
    if not 0 < seconds <= LONGEST:
        raise InputError(f"--every {seconds:g} is not allowed, must be above 0 and at most {LONGEST}")
    nothing = f"no run in {runs_folder()} has made a step yet; `make train-float` starts one"
    with suppress(KeyboardInterrupt):
        while True:
            text = "\n\n".join(map(describe, newest_runs(runs_folder())))
            if not sys.stdout.isatty():
                if not text:
                    raise InputError(nothing)
                print(text)
                return
            print(f"{CLEAR}{text or nothing}\n\nCtrl-C ends this, not the training", flush=True)
            time.sleep(seconds)
    print()  # after ^C


def newest_runs(folder: Path) -> list[Path]:
    """The folder of the newest run of each stage that has one."""
    runs = [sorted(folder.glob(f"{stage}-*/now.json"), key=lambda path: path.stat().st_mtime) for stage in STAGES]
    return [found[-1].parent for found in runs if found]


def describe(folder: Path) -> str:
    """The progress and the curves of a run, as text.

    Raises:
        InputError: If now.json or log.jsonl in its folder is damaged.
    """
    log = folder / "log.jsonl"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    now, rows = read_json(folder / "now.json"), [parse_json(line, log) for line in lines]
    try:
        return _description(folder, now, rows)
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{folder}: now.json or log.jsonl is damaged; the next epoch of that run writes both"
        ) from None


def _description(folder: Path, now: Now, rows: list[LogRow]) -> str:
    if rows and rows[-1]["epoch"] >= now["epochs"]:
        lines = [str(folder), f"done, {now['epochs']} epochs"]
    else:
        age = time.time() - (folder / "now.json").stat().st_mtime
        memory = f", {now['gpu_memory_gib']} GiB of GPU memory" if "gpu_memory_gib" in now else ""
        lines = [
            str(folder),
            f"epoch {now['epoch']} of {now['epochs']}, step {now['done']} of {now['steps']}, "
            f"loss {now['train_loss']:.4g}, top-1 {now['train_top1']:.2f} %, lr {now['lr']:.4g}",
            f"{now['images_per_second']:,.0f} images/s, waiting for data {100 * now['waiting_for_data']:.1f} %{memory}",
            f"{now['seconds_left'] / 60:.0f} min left; {age:.0f} s ago",
        ]
    if rows:
        best = max(rows, key=lambda row: row["val_top1"])
        lines.append(f"best top-1 {best['val_top1']:.2f} % in epoch {best['epoch']}")
    curves = [curve(title, [row[name] for row in rows if name in row]) for name, title in CURVES.items()]
    return "\n".join([*lines, *("  ".join(pair).rstrip() for pair in zip(*curves, strict=True))])


def curve(title: str, values: list[float]) -> list[str]:
    """A curve as HEIGHT rows of blocks below its title, with the greatest value at its top and the least at its foot.

    A value that is infinite, or none, is a column of ?; where there are no values, there are no lines.
    """
    if not values:
        return []
    step = -(-len(values) // WIDTH)
    shown = values[::-1][::step][::-1]  # the last one always
    finite = [value for value in shown if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    eighths = [
        1 + round((value - low) / (high - low or 1) * (8 * HEIGHT - 1)) if math.isfinite(value) else None
        for value in shown
    ]
    lines = []
    for row in reversed(range(HEIGHT)):
        label = {HEIGHT - 1: f"{high:.4g}", 0: f"{low:.4g}"}.get(row, "")
        blocks = "".join("?" if each is None else BLOCKS[min(max(each - 8 * row, 0), 8)] for each in eighths)
        lines.append(f"{label:>{SCALE}} {blocks:{WIDTH}}")
    return [f"{'':{SCALE}} {title:{WIDTH}}", *lines]


if __name__ == "__main__":
    run(main)
