"""The results of a revision, as they stand in git or in the workspace."""

import csv
import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipeline.forms import FORMS
from reports.results_page import Results
from storage.errors import InputError
from storage.json_file import parse_json

Read = Callable[[str], bytes | None]  # the contents of a file of a revision; None if it has no such file
WORKSPACE = "workspace"
CURVES = ("train_top1", "val_top1", "train_loss", "val_loss", "lr")


def workspace(path: str) -> bytes | None:
    """The contents of a file here."""
    return Path(path).read_bytes() if Path(path).is_file() else None


def commit(revision: str) -> Read:
    """What reads the files of a commit, branch or tag of git.

    Raises:
        InputError: If there is no such revision.
    """
    found = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"], capture_output=True
    )
    if found.returncode:
        raise InputError(f"there is no revision {revision!r} in git")
    name = found.stdout.decode().strip()

    def read(path: str) -> bytes | None:
        done = subprocess.run(["git", "show", f"{name}:./{path}"], capture_output=True)
        return done.stdout if done.returncode == 0 else None

    return read


def results(name: str, read: Read) -> Results:
    """The results of a revision; what it does not have is empty.

    Raises:
        InputError: If a file is damaged.
    """
    summary, lock = read("metrics/summary.json"), read("dvc.lock")
    return Results(
        name=name,
        headline=parse_json(summary, "metrics/summary.json") if summary else {},
        scores=_scores(read),
        top1=_rows(read, "plots/top1.csv"),
        curves={stage: {figure: _curve(read, stage, figure) for figure in CURVES} for stage in ("float", "qat")},
        confusion=_rows(read, "plots/confusion/int.csv"),
        reliability=_rows(read, "plots/reliability.csv"),
        disagreement=_rows(read, "plots/disagreement.csv"),
        pictures={name: read(f"plots/{file}.jpg") for name, file in (("disagreement",) * 2, ("worst", "worst/int"))},
        sizes=_sizes(lock),
    )


def _scores(read: Read) -> dict[str, dict]:
    found = {}
    for name, form in FORMS.items():
        text = read(f"metrics/{name}.json")
        if text and (scores := parse_json(text, f"metrics/{name}.json")):
            found[form.label] = scores
    return found


def _rows(read: Read, path: str, delimiter: str = ",") -> list[dict[str, str]]:
    text = (read(path) or b"").decode(errors="replace")
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def _curve(read: Read, stage: str, figure: str) -> list[tuple[float, float]]:
    rows = _rows(read, f"plots/{stage}/plots/metrics/{figure}.tsv", "\t")
    return [(float(row["step"]), float(row[figure])) for row in rows]


def _sizes(lock: bytes | None) -> dict[str, int]:
    """Bytes of each output by its path, as dvc.lock has them."""
    stages: dict[str, Any] = (yaml.safe_load(lock) or {}).get("stages", {}) if lock else {}
    return {out["path"]: out["size"] for stage in stages.values() for out in stage.get("outs", ())}
