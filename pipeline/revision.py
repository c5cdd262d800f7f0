"""The results of a revision, as they stand in git or in the workspace."""

import csv
import io
import math
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline.forms import FORMS
from reports.results_page import Results, Rows
from storage.errors import InputError
from storage.json_file import parse_json

Read = Callable[[str], bytes | None]  # the contents of a file of a revision; None if it has no such file
WORKSPACE = "workspace"
NEW = ("low", "high")  # columns that older revisions do not have
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
        InputError: If a file is damaged; names it.
    """
    headline, images = _json(read, "metrics/summary.json"), {"images": _count}
    return Results(
        name=name,
        headline={key: value for key, value in headline.items() if isinstance(value, (int, float))},
        scores={
            form.label: scores for form in FORMS.values() if (scores := _scores(read, f"metrics/{form.name}.json"))
        },
        top1=_rows(read, "plots/top1.csv", {"form": str, "top1": _finite, "low": _finite, "high": _finite}),
        curves={stage: {figure: _curve(read, stage, figure) for figure in CURVES} for stage in ("float", "qat")},
        confusion=_rows(read, "plots/confusion/int.csv", {"class": str, "taken_for": str, **images}),
        reliability=_rows(
            read, "plots/reliability.csv", {"form": str, "confidence": _finite, "top1": _finite, **images}
        ),
        disagreement=_rows(
            read,
            "plots/disagreement.csv",
            {"float": str, "integer": str, "float_right": _count, "integer_right": _count, **images},
        ),
        pictures={name: read(f"plots/{file}.jpg") for name, file in (("disagreement",) * 2, ("worst", "worst/int"))},
        sizes=_sizes(read),
    )


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError
    return value


def _count(text: str) -> int:
    if (value := int(text)) < 0:
        raise ValueError
    return value


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """A block that reads a file; what it finds there and does not expect becomes one line."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error, yaml.YAMLError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged; the stage that writes it, or `git restore`, brings it back") from None


def _json(read: Read, path: str) -> dict[str, Any]:
    value = parse_json(read(path) or b"{}", path)
    if not isinstance(value, dict):
        raise InputError(f"{path} is {value!r:.50}, not a map")
    return value


def _scores(read: Read, path: str) -> dict[str, float]:
    scores = _json(read, path)
    with _reading(path):
        return {name: float(scores[name]) for name in ("top1", "loss", "images")} if scores else {}


def _rows(read: Read, path: str, columns: Mapping[str, Callable[[str], Any]], delimiter: str = ",") -> Rows:
    """The rows of a table with the columns that it has of these; none may be missing but those of older ones."""
    with _reading(path):
        found = csv.DictReader(io.StringIO((read(path) or b"").decode(errors="replace")), delimiter=delimiter)
        kept = {name: of for name, of in columns.items() if name not in NEW or name in (found.fieldnames or ())}
        return [{name: of(row[name]) for name, of in kept.items()} for row in found]


def _curve(read: Read, stage: str, figure: str) -> list[tuple[float, float]]:
    rows = _rows(read, f"plots/{stage}/plots/metrics/{figure}.tsv", {"step": float, figure: float}, "\t")
    return [(row["step"], row[figure]) for row in rows]


def _sizes(read: Read) -> dict[str, int]:
    """Bytes of each output by its path, as dvc.lock has them."""
    with _reading("dvc.lock"):
        stages: dict[str, Any] = (yaml.safe_load(read("dvc.lock") or b"") or {}).get("stages", {})
        return {out["path"]: int(out["size"]) for stage in stages.values() for out in stage.get("outs", ())}
