"""Measure speed on this machine, compared with other projects that do the same work.

    make bench ONLY=SUBJECT     installs the peers of the subject next to the project's packages, and runs it
    python -m benchmarks SUBJECT [--help]

Subjects: deploy (each file in its runtime), quantize (quantization-aware training, against torchao and Brevitas),
methods (what each method of calibration is worth; no peers, so no target of make), data (packing and loading, against
torchvision, timm, webdataset and FFCV), train (training steps, against timm).
"""

import importlib
import sys

from pipeline.cli import run
from storage.errors import InputError

SUBJECTS = ("deploy", "quantize", "methods", "data", "train")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in SUBJECTS:
        given = f"{sys.argv[1]!r} is not allowed" if len(sys.argv) > 1 else "the subject is missing"
        raise InputError(f"{given}, must be one of {', '.join(SUBJECTS)}: python -m benchmarks SUBJECT [--help]")
    subject = sys.argv.pop(1)
    sys.argv[0] = f"python -m benchmarks {subject}"
    importlib.import_module(f"benchmarks.{subject}").main()


if __name__ == "__main__":
    run(main)
