"""Scores and proofs count for the files that they were made from."""

import hashlib
import json
from pathlib import Path

import pytest

from pipeline.forms import INT, LITERT, NO_LITERT
from pipeline.results import PROOF, FileScores, check_proved, read_metrics, read_scores
from reports.summary import Operations
from storage.errors import InputError

SCORES = {"top1": 91.25, "top5": 100, "loss": 0.25, "images": 24}


def digest(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("metrics").mkdir()
    INT.path.parent.mkdir(parents=True)
    INT.path.write_bytes(b"model")
    write("int", SCORES | {"sha256": digest(b"model")})


def write(name: str, values: object) -> None:
    Path("metrics", f"{name}.json").write_text(json.dumps(values))


def test_scores_of_the_file_as_it_is():
    assert read_scores(INT)["top1"] == 91.25
    INT.path.write_bytes(b"other")
    with pytest.raises(
        InputError, match=r"^metrics/int.json has the score of another file than artifacts/int/model.saf"
    ):
        read_scores(INT)


def test_no_scores_of_a_form_that_the_arithmetic_has_not():
    NO_LITERT.parent.mkdir()
    NO_LITERT.write_text("none")
    assert read_scores(LITERT) == {}


@pytest.mark.parametrize("key", ["top1", "loss", "images", "sha256"])
@pytest.mark.parametrize("value", [None, "91", True, float("nan"), [1], {"a": 1}])
def test_values_of_another_kind_are_named(key, value):
    write("int", SCORES | {"sha256": digest(b"model")} | {key: value})
    if key == "sha256" and value == "91":
        return
    with pytest.raises(InputError, match=rf"^metrics/int.json: {key} is .*, not what `make validate` writes there$"):
        read_metrics("int", "validate", FileScores)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "metrics/ops.json: macs is None"),
        ("{", "metrics/ops.json: Expecting"),
        ("[" * 100_000, "metrics/ops.json: maps and lists are nested too deep"),
        ('{"macs": 1.5, "params": 2}', "metrics/ops.json: macs is 1.5, not"),
        ('{"macs": 1}', "metrics/ops.json: params is None, not"),
    ],
)
def test_damaged_metrics_are_one_line(text, message):
    Path("metrics/ops.json").write_text(text)
    with pytest.raises(InputError, match=f"^{message}") as error:
        read_metrics("ops", "count-ops", Operations)
    assert "\n" not in str(error.value)


def test_only_files_that_were_compared_are_proved():
    other = Path("other")
    other.write_bytes(b"x")
    write(PROOF.stem, {"proved": True, "files": {str(INT.path): digest(b"model")}})
    check_proved([INT.path])
    with pytest.raises(InputError, match=r"^other is not the file that compare has proved: `make validate`"):
        check_proved([INT.path, other])
    INT.path.write_bytes(b"moDel")
    with pytest.raises(InputError, match=f"^{INT.path} is not the file"):
        check_proved([INT.path])


def test_a_failed_proof_proves_nothing():
    write(PROOF.stem, {"proved": False, "files": {str(INT.path): digest(b"model")}})
    with pytest.raises(InputError, match="compare has FAILED"):
        check_proved([INT.path])
    PROOF.unlink()
    with pytest.raises(FileNotFoundError, match=r"metrics/exactness.json does not exist; `make validate` makes it"):
        check_proved([INT.path])
