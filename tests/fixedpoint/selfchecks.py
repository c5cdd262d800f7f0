"""What the tests of both self-checks share: golden data, and programs that are written, compiled and run."""

import re
import subprocess
from pathlib import Path

import numpy as np
import torch
from programs import hard_inputs

from fixedpoint.program.integer import IntegerEvaluator

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


def golden(program, count=1) -> tuple[np.ndarray, np.ndarray]:
    """Images and their accumulators, int32 [n, classes]."""
    images = hard_inputs(program, count)
    return images, IntegerEvaluator(program)(torch.from_numpy(images)).flatten(1).numpy()


def write(folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


def call(folder: Path, *command: str) -> tuple[int, str]:
    """The exit code and all that was printed."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout.replace("\r", "")


def array(text: str, declaration: str) -> list[int]:
    """The numbers of an array in a source."""
    listed = re.search(rf"^{re.escape(declaration)}\[\] = {{\n([-\d,\n]+)\n}};$", text, re.MULTILINE)
    return [int(number) for number in listed[1].split(",")]
