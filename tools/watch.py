"""Show the newest run of float training and of QAT in the terminal: its progress, its speed, its curves.

python -m tools.watch            again every few seconds, until Ctrl-C
python -m tools.watch | cat      once

It reads log.jsonl and now.json in the folders of runs/, so it also shows an experiment in DVC's queue.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Literal, get_args

from pipeline.cli import run
from pipeline.paths import runs_folder
from pipeline.progress import LogRow, Now
from storage.errors import InputError

STAGES = ("float", "qat")
BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 60  # most columns of a curve; a longer one shows every n-th epoch
Curve = Literal["val_top1", "train_top1", "val_loss", "train_loss", "lr"]
CURVES: tuple[Curve, ...] = get_args(Curve)
CLEAR = "\033[H\033[J"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=float, default=3, metavar="SECONDS", help="default: %(default)s")
    seconds = parser.parse_args().every
    while True:
        runs = newest_runs(runs_folder())
        if not runs:
            raise InputError(f"no run in {runs_folder()} has made a step yet; `make train-float` starts one")
        text = "\n\n".join(map(describe, runs))
        if not sys.stdout.isatty():
            print(text)
            return
        print(f"{CLEAR}{text}\n\nCtrl-C ends this, not the training", flush=True)
        time.sleep(seconds)


def newest_runs(folder: Path) -> list[Path]:
    """The folder of the newest run of each stage that has one."""
    runs = [sorted(folder.glob(f"{stage}-*/now.json"), key=lambda path: path.stat().st_mtime) for stage in STAGES]
    return [found[-1].parent for found in runs if found]


def describe(folder: Path) -> str:
    """The progress and the curves of a run, as text."""
    now: Now = json.loads((folder / "now.json").read_text())
    log = folder / "log.jsonl"
    rows: list[LogRow] = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    age = time.time() - (folder / "now.json").stat().st_mtime
    memory = f", {now['gpu_memory_gib']} GiB of GPU memory" if "gpu_memory_gib" in now else ""
    lines = [
        str(folder),
        f"epoch {now['epoch']} of {now['epochs']}, step {now['done']} of {now['steps']}, loss {now['train_loss']:.4g}, "
        f"top-1 {now['train_top1']:.2f} %, lr {now['lr']:.4g}",
        f"{now['images_per_second']:,.0f} images/s, waiting for data {100 * now['waiting_for_data']:.1f} %{memory}, "
        f"{now['seconds_left'] / 60:.0f} min left; {age:.0f} s ago",
    ]
    if rows:
        best = max(rows, key=lambda row: row["val_top1"])
        lines.append(f"best top-1 {best['val_top1']:.2f} % in epoch {best['epoch']}")
    for name in CURVES:
        if values := [row[name] for row in rows if name in row]:
            lines.append(f"  {name:10} {sparkline(values)}  {values[-1]:.4g}")
    return "\n".join(lines)


def sparkline(values: list[float]) -> str:
    """A curve as blocks, from the least value to the greatest."""
    step = -(-len(values) // WIDTH)
    shown = values[::-1][::step][::-1]  # the last one always
    low, high = min(shown), max(shown)
    return "".join(BLOCKS[round((value - low) / (high - low or 1) * (len(BLOCKS) - 1))] for value in shown)


if __name__ == "__main__":
    run(main)
