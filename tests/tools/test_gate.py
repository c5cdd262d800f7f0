import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.cli import run
from pipeline.params import Gate, check_params
from storage.errors import InputError
from tools import gate

REPOSITORY = Path(__file__).parents[2]
LIMITS = Gate(quantization_drop=0.5, regression=0.25, macs_growth=10, metrics={})
GOOD = {"int_top1": 90.0, "int_top1_drop": 0.5, "mismatches": 0, "macs": 1000}


def changes(old: dict, **new: float) -> dict[str, dict]:
    here = GOOD | new
    return {name: {"old": old.get(name), "new": here.get(name)} for name in old | here}


def crossed(changes: dict, limits: Gate = LIMITS) -> list[str]:
    return [check.name for check in gate.checks(changes, limits, "main") if check.crossed]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({}, None),
        ({"int_top1_drop": 0.501}, "top-1 of float above integer, points"),
        ({"int_top1_drop": -3}, None),
        ({"int_top1": 89.75}, None),
        ({"int_top1": 89.7499}, "top-1 of integer below main, points"),
        ({"int_top1": 99}, None),
        ({"macs": 1100}, None),
        ({"macs": 1101}, "multiply-accumulates above main, %"),
        ({"macs": 1}, None),
        ({"mismatches": 1}, "values that differ between integer forms"),
    ],
)
def test_each_limit_is_the_last_value_that_passes(new, expected):
    assert crossed(changes(GOOD, **new)) == ([expected] if expected else [])


def test_several_at_once():
    assert len(crossed(changes(GOOD, int_top1=80, macs=2000, mismatches=7, int_top1_drop=9))) == 4


def test_a_revision_without_results_leaves_the_conditions_on_these_results():
    results = gate.checks(changes({}), LIMITS, "main")
    assert [check.value for check in results] == [0, 0.5, None, None]
    assert crossed(changes({}, mismatches=3)) == ["values that differ between integer forms"]


def test_a_number_that_is_missing_here_stops():
    with pytest.raises(ValueError, match="has no int_top1; `make validate` makes it"):
        gate.checks(changes(GOOD, int_top1=None), LIMITS, "main")


@pytest.mark.parametrize("value", [math.nan, -math.inf, "90", True, [], "x" * 1000])
def test_what_is_no_number_never_passes(value):
    for name in GOOD:
        with pytest.raises(InputError, match=rf"^{name} in metrics/summary.json is .*, not a number$") as raised:
            gate.checks(changes(GOOD, **{name: value}), LIMITS, "main")
        assert len(str(raised.value)) < 160
    with pytest.raises(InputError, match=r"^macs in metrics/summary.json of main is .*, not a number$"):
        gate.checks(changes(GOOD | {"macs": value}), LIMITS, "main")


def test_a_revision_that_multiplied_nothing_is_nothing_to_compare_with():
    assert gate.checks(changes(GOOD | {"macs": 0}), LIMITS, "main")[3].value is None


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The current folder: a repository of git and DVC with these results committed, and `dvc` on the path."""
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "DVC_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(values | {"gate": LIMITS.model_dump()}))
    Path("dvc.yaml").write_text("metrics:\n  - metrics/summary.json\n")
    write()
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message", "state"]):
        subprocess.run(["git", *command], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)


def write(**new: float) -> None:
    Path("metrics").mkdir(exist_ok=True)
    Path("metrics/summary.json").write_text(json.dumps(GOOD | new))


def stop(monkeypatch, *arguments: str) -> str | None:
    monkeypatch.setattr(sys, "argv", ["gate", *arguments])
    try:
        run(gate.main)
    except SystemExit as stopped:
        return stopped.code
    return None


def test_the_command_passes_and_stops(repository, monkeypatch, capsys):
    assert stop(monkeypatch) is None
    assert "| multiply-accumulates above HEAD, % | 0 | 10 | ok |" in capsys.readouterr().out
    write(int_top1=89.5, macs=1200)
    assert stop(monkeypatch, "--against", "HEAD") == (
        "error: crossed: top-1 of integer below HEAD, points; multiply-accumulates above HEAD, % "
        "(limits: `gate` in params.yaml)"
    )
    assert "| multiply-accumulates above HEAD, % | 20 | 10 | **crossed** |" in capsys.readouterr().out


def test_results_on_other_images_are_nothing_to_compare_with(repository, monkeypatch, capsys):
    images = Path("metrics/pack_val.json")
    images.write_text('{"digest": "aa", "images": 5}')
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["add", "metrics"], [*author, "commit", "--quiet", "--message", "images"]):
        subprocess.run(["git", *command], check=True)
    write(int_top1=50, macs=5000)
    assert stop(monkeypatch).startswith("error: crossed: top-1 of integer below HEAD, points; multiply-accumulates")
    images.write_text('{"digest": "bb", "images": 5}')
    capsys.readouterr()
    assert stop(monkeypatch) is None
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("HEAD has other validation images (metrics/pack_val.json): ")
    assert [row for row in rows if "nothing to compare with" in row] == [
        "| top-1 of integer below HEAD, points | nothing to compare with | 0.25 | ok |",
        "| multiply-accumulates above HEAD, % | nothing to compare with | 10 | ok |",
    ]
    write(mismatches=1)  # what needs no other revision still counts
    assert stop(monkeypatch).startswith("error: crossed: values that differ between integer forms (")


def test_mistakes_are_one_line(repository, monkeypatch):
    assert (
        stop(monkeypatch, "--against", "nowhere") == "error: dvc metrics diff nowhere: unknown Git revision 'nowhere'"
    )
    assert stop(monkeypatch, "--against=--help").startswith("error: dvc metrics diff --help: unknown Git revision")
    Path("metrics/summary.json").write_text('{"macs": ' + "[" * 100_000)
    assert stop(monkeypatch) == "error: metrics/summary.json has no int_top1; `make validate` makes it"
    Path("metrics/summary.json").unlink()
    assert stop(monkeypatch) == "error: metrics/summary.json does not exist; `make validate` makes it"


@pytest.mark.parametrize(
    ("key", "bounds", "expected"),
    [
        ("top5", {"min": 99}, []),
        ("top5", {"min": 99.25}, ["at least 99.25"]),
        ("top5", {"max": 99}, []),
        ("top5", {"max": 98}, ["98"]),
        ("top5", {"min": 99.5, "max": 98}, ["at least 99.5", "98"]),
        ("classes.cat.top1", {"min": 71}, ["at least 71"]),
    ],
)
def test_numbers_of_other_files_have_bounds(tmp_path, monkeypatch, key, bounds, expected):
    monkeypatch.chdir(tmp_path)
    Path("own.json").write_text('{"top5": 99, "classes": {"cat": {"top1": 70.5}}}')
    limits = Gate(**LIMITS.model_dump() | {"metrics": {f"own.json:{key}": bounds}})
    found = [*gate.own_checks(limits.metrics)]
    assert len(found) == len(bounds) and all(check.name == f"own.json:{key}" for check in found)
    assert [str(check).split(" | ")[2] for check in found if check.crossed] == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own.json:top1", r"^gate\.metrics: own\.json has no top1, it has: .*top5"),
        ("own.json:top5.x", r"^gate\.metrics: own\.json has no top5\.x, it has: .*top5"),
        ("own.json:name", r"^name in own\.json is 'me', not a number$"),
        ("none.json:top1", r"^gate\.metrics: there is no file none\.json; name one that `make repro` makes$"),
    ],
)
def test_a_number_that_is_not_there_stops(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    Path("own.json").write_text('{"top5": 99, "name": "me"}')
    limits = Gate(**LIMITS.model_dump() | {"metrics": {name: {"min": 1}}})
    with pytest.raises((InputError, FileNotFoundError), match=message):
        [*gate.own_checks(limits.metrics)]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"top5": {"min": 1}}, r"top5 is not allowed, must be FILE\.json:KEY, such as metrics/int\.json:top5"),
        ({"a.json:b": {}}, r"gate\.metrics\.a\.json:b: min, max or both are needed"),
        ({"a.json:b": {"least": 1}}, r"gate\.metrics\.a\.json:b\.least is not a parameter; allowed: max, min"),
        ({"a.json:b": {"min": "x"}}, r"gate\.metrics\.a\.json:b\.min: 'x' is not allowed, must be a valid number"),
    ],
)
def test_bounds_that_are_none_are_named(metrics, message):
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    values["gate"]["metrics"] = metrics
    with pytest.raises(InputError, match=message):
        check_params(values, "params.yaml")
