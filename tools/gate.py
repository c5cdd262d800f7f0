"""The gate for a change: fails if results are worse than `gate` in params.yaml allows, or if integer forms differ.

python -m tools.gate [--against main]

The results are those in metrics/summary.json. `dvc metrics diff --json` compares them with another revision's, if that
has scored the same images.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from pipeline.cli import run
from pipeline.params import Bounds, Gate, load_params
from pipeline.paths import require
from storage.errors import InputError
from storage.json_file import parse_json, read_json
from storage.printable import printable

METRICS = "metrics/summary.json"
IMAGES = "metrics/pack_val.json"  # whose digest says on which images they are


class Change(TypedDict, total=False):
    """A number in the other revision and here; None or missing where a revision does not have it."""

    old: float | None
    new: float | None


@dataclass(frozen=True)
class Check:
    """One condition: `value` must be at most, or at least, `limit`; None if there was nothing to compare with."""

    name: str
    value: float | None
    limit: float
    at_least: bool = False

    @property
    def crossed(self) -> bool:
        if self.value is None:
            return False
        return not (self.value >= self.limit if self.at_least else self.value <= self.limit)

    def __str__(self) -> str:
        value = "nothing to compare with" if self.value is None else f"{self.value:g}"
        limit = f"at least {self.limit:g}" if self.at_least else f"{self.limit:g}"
        return f"| {self.name} | {value} | {limit} | {'**crossed**' if self.crossed else 'ok'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="HEAD", metavar="REVISION", help="a commit of git (default: HEAD)")
    revision = parser.parse_args().against
    require(METRICS, "make validate")
    limits = load_params().gate
    results = [*checks(metrics_diff(revision), limits, revision), *own_checks(limits.metrics)]
    print("| gate | value | at most | |\n|---|---:|---:|---|", *results, sep="\n")
    if crossed := [check.name for check in results if check.crossed]:
        sys.stdout.flush()
        raise InputError(f"crossed: {'; '.join(crossed)} (limits: `gate` in params.yaml)")


def metrics_diff(revision: str) -> dict[str, Change]:
    """Each number of metrics/summary.json in `revision`, if it is of the same images, and here.

    Raises:
        InputError: With DVC's message, if it cannot compare.
    """
    command = [sys.executable, "-m", "dvc", "metrics", "diff", "--all", "--json", "--targets", METRICS, IMAGES]
    command += ["--", revision]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise InputError(f"dvc metrics diff {revision}: {lines[0].removeprefix('ERROR: ')}")
    found = parse_json(done.stdout, "dvc metrics diff")
    changes, digest = found.get(METRICS, {}), found.get(IMAGES, {}).get("digest", {})
    if digest.get("old") not in (None, digest.get("new")):
        print(f"{revision} has other validation images ({IMAGES}): its results are nothing to compare with")
        return {name: {"new": change.get("new")} for name, change in changes.items()}
    return changes


def checks(changes: dict[str, Change], limits: Gate, revision: str) -> list[Check]:
    """The conditions on the numbers of two revisions.

    Raises:
        InputError: If a number is missing here, or one of either revision is none.
    """

    def number(name: str, state: Literal["old", "new"]) -> float | None:
        value = changes.get(name, {}).get(state)
        where = METRICS + (f" of {revision}" if state == "old" else "")
        return None if value is None else _number(value, f"{name} in {where}")

    def here(name: str) -> float:
        value = number(name, "new")
        if value is None:
            raise InputError(f"{METRICS} has no {name}; `make validate` makes it")
        return value

    top1, macs = here("int_top1"), here("macs")
    old_top1, old_macs = number("int_top1", "old"), number("macs", "old")
    return [
        Check("values that differ between integer forms", here("mismatches"), 0),
        Check("top-1 of float above integer, points", here("int_top1_drop"), limits.quantization_drop),
        Check(
            f"top-1 of integer below {revision}, points",
            None if old_top1 is None else round(old_top1 - top1, 4),
            limits.regression,
        ),
        Check(
            f"multiply-accumulates above {revision}, %",
            None if not old_macs else round(100 * (macs / old_macs - 1), 4),
            limits.macs_growth,
        ),
    ]


def own_checks(metrics: Mapping[str, Bounds]) -> Iterator[Check]:
    """The conditions on numbers of other files.

    Raises:
        InputError: If a file has no such key, or what it has is no number.
        OSError: If a file cannot be read.
    """
    for name, bounds in metrics.items():
        file, key = name.rsplit(":", 1)
        if not Path(file).is_file():
            raise InputError(f"gate.metrics: there is no file {file}; name one that `make repro` makes")
        value, known = read_json(file), ""
        for part in key.split("."):
            known = printable(", ".join(value)) if isinstance(value, dict) else known
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            raise InputError(f"gate.metrics: {file} has no {key}, it has: {known}")
        found = _number(value, f"{key} in {file}")
        if bounds.min is not None:
            yield Check(name, found, bounds.min, at_least=True)
        if bounds.max is not None:
            yield Check(name, found, bounds.max)


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{what} is {printable(repr(value))}, not a number")
    return value


if __name__ == "__main__":
    run(main)
