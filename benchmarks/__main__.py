"""Measure speed on this machine, compared with other projects that do the same work.

    make bench [ONLY=SUBJECT] [QUICK=1] [AGAINST=FILE]     all subjects, or one, with their peers
    python -m benchmarks [--into FOLDER] [--against FILE] SUBJECT [--help]

Subjects: data (packing and loading, against torchvision, timm, webdataset and FFCV), train (training steps, against
timm), quantize (quantization-aware training, against torchao and Brevitas), deploy (each file in its runtime, and those
of other quantizers), scale (growth with size), methods (what each method of calibration is worth), finetune (top-1 of
photographs, against timm), gpu (what docs/training.md claims of a GPU) and plan (what limits training on many GPUs);
the last four are no part of the page.
A subject replaces its part of benchmarks.json in FOLDER (runs/bench), and benchmarks.md and scale.md beside it are
written anew; --against says what moved since the results of another such file.
"""

import argparse
import importlib
import shlex
import sys
import time
from pathlib import Path

from benchmarks.options import options
from benchmarks.page import table, where_time_goes, write_page
from benchmarks.plan import write_plan
from benchmarks.record import Part, load, moved, origin, save
from benchmarks.results import cases
from pipeline.cli import run
from pipeline.paths import runs_folder

SUBJECTS = ("data", "train", "quantize", "deploy", "scale", "methods", "finetune", "gpu", "plan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=runs_folder() / "bench", metavar="FOLDER")
    parser.add_argument("--against", type=Path, metavar="FILE")
    parser.add_argument("subject", choices=SUBJECTS, metavar="SUBJECT")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of the subject")
    arguments = parser.parse_args()
    before = load(arguments.against) if arguments.against else {}
    subject = arguments.subject
    sys.argv = [f"python -m benchmarks {subject}", *arguments.options]
    start = time.perf_counter()
    options(subject)  # --help and mistakes, before imports that take seconds
    results = importlib.import_module(f"benchmarks.{subject}").main()
    if results is None:  # nothing that is compared with others
        return
    command = shlex.join(["python", "-m", "benchmarks", subject, *arguments.options])
    part = Part(origin(command, time.perf_counter() - start), results)
    parts = save(arguments.into, subject, part)
    write_page(arguments.into, parts)
    write_plan(arguments.into, parts)
    for title, each in cases(results).items():
        print(f"\n{title}\n", *table(each), "", *where_time_goes(each), sep="\n")
    if arguments.against:
        lines = list(moved(before, {subject: part}))
        print("\n".join(lines) or f"{subject}: nothing moved beyond its spread")


if __name__ == "__main__":
    run(main)
