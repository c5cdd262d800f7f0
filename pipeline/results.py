"""Scores and the proof of exactness, which count for the files alone that they were made from."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict, cast, get_type_hints

from evaluation.score import Scores
from pipeline.forms import Form
from pipeline.paths import require
from storage.errors import InputError
from storage.files import sha256
from storage.json_file import read_json

PROOF = Path("metrics/exactness.json")


class FileScores(Scores):
    """metrics/<form>.json: the scores, and the SHA-256 of the file that has them."""

    sha256: str


class Proof(TypedDict):
    """What metrics/exactness.json holds beside counts: the SHA-256 of each file, and whether no value differed."""

    proved: bool
    files: dict[str, str]


def read_metrics(name: str, made_by: str, kind: type) -> Any:
    """The contents of metrics/<name>.json.

    Args:
        made_by: The target of make that makes it.
        kind: The typed dict that it holds.

    Raises:
        FileNotFoundError: If it does not exist; names it and the command that makes it.
        InputError: If it does not hold what `kind` says.
    """
    path = require(Path("metrics", f"{name}.json"), f"make {made_by}")
    values = read_json(path)
    for key, expected in get_type_hints(kind).items():
        value = values.get(key) if isinstance(values, dict) else None
        optional = value is None and key in kind.__optional_keys__  # type: ignore[attr-defined]
        if not optional and not _is(value, expected):
            raise InputError(f"{path}: {key} is {value!r:.50}, not what `make {made_by}` writes there")
    return values


def _is(value: object, expected: type) -> bool:
    if isinstance(value, bool) or expected is bool:
        return isinstance(value, bool) and expected is bool
    if expected is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, getattr(expected, "__origin__", expected))


def read_scores(form: Form) -> FileScores:
    """The scores that validate has written of a form's file as it is now; empty if the arithmetic has no such form.

    Raises:
        FileNotFoundError: If there are none.
        InputError: If they are those of another file.
    """
    if form.absence:
        return cast(FileScores, {})
    scores = read_metrics(form.name, "validate", FileScores)
    if scores["sha256"] != sha256(form.require()):
        raise InputError(f"metrics/{form.name}.json has the score of another file than {form.path}: `make validate`")
    return scores


def check_proved(files: Iterable[Path]) -> None:
    """Make sure that compare has found all forms equal to the bit, and that these files are among those it compared.

    Raises:
        FileNotFoundError: If there is no proof, or a file is missing.
        InputError: If compare has failed, or compared another file; names it.
    """
    proof = read_metrics(PROOF.stem, "validate", Proof)
    if not proof["proved"]:
        raise InputError(f"{PROOF}: compare has FAILED, some forms are not equal; nothing can be said of them")
    for file in files:
        if proof["files"].get(str(file)) != sha256(file):
            raise InputError(f"{file} is not the file that compare has proved: `make validate`")
