"""The gate for a change: fails if results are worse than `gate` in params.yaml allows, or if integer forms differ.

python -m tools.gate [--against main]

The results are those in metrics/summary.json. `dvc metrics diff --json` compares them with another revision's, if that
has scored the same images.
"""

import argparse
import math
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal, TypedDict

from pipeline.cli import run
from pipeline.params import Gate, load_params
from pipeline.paths import require
from storage.errors import InputError
from storage.json_file import parse_json
from storage.printable import printable

METRICS = "metrics/summary.json"
IMAGES = "metrics/pack_val.json"  # whose digest says on which images they are


class Change(TypedDict, total=False):
    """A number in the other revision and here; None or missing where a revision does not have it."""

    old: float | None
    new: float | None


@dataclass(frozen=True)
class Check:
    """One condition: `value` must be at most `limit`; None if there was nothing to compare with."""

    name: str
    value: float | None
    limit: float

    @property
    def crossed(self) -> bool:
        return self.value is not None and not self.value <= self.limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="HEAD", metavar="REVISION", help="a commit of git (default: HEAD)")
    revision = parser.parse_args().against
    require(METRICS, "make validate")
    results = checks(metrics_diff(revision), load_params().gate, revision)
    print("| gate | value | at most | |\n|---|---:|---:|---|")
    for check in results:
        value = "nothing to compare with" if check.value is None else f"{check.value:g}"
        print(f"| {check.name} | {value} | {check.limit:g} | {'**crossed**' if check.crossed else 'ok'} |")
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
    if changes and digest.get("old") != digest.get("new"):
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
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            of = f" of {revision}" if state == "old" else ""
            raise InputError(f"{name} in {METRICS}{of} is {printable(repr(value))}, not a number")
        return value

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


if __name__ == "__main__":
    run(main)
