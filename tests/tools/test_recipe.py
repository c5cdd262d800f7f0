import math
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from project import environment

from pipeline.params import load_params
from tools import recipe

REPOSITORY = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (REPOSITORY / "recipes").glob("*.yaml"))
PATCHES = [name for name in NAMES if name != "fashion_mnist"]


@pytest.fixture(autouse=True)
def folder(shipped_folder) -> Path:
    return shipped_folder


@pytest.fixture
def apply(caller):
    return caller(recipe)


def shipped(name: str) -> str:
    return (REPOSITORY / "recipes" / f"{name}.yaml").read_text()


def values(block: dict, prefix: str = "") -> dict[str, object]:
    """All values of a parameter file by their full names."""
    found = {}
    for key, value in block.items():
        nested = isinstance(value, dict) and value and all(isinstance(each, str) for each in value)
        found |= values(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def split(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The comment at the top of a file, and for each other line the text before the value and the comment after it."""
    top = re.match(r"(#.*\n)*", text)[0]
    parts = [re.fullmatch(r"( *\w+:|)(?:.*?)(  #.*|^#.*|)", line).groups() for line in text[len(top) :].splitlines()]
    return top.splitlines(), parts


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_gives_its_values_and_leaves_all_others_and_the_comments(apply, name):
    printed, mistake = apply(name)
    text = Path("params.yaml").read_text()
    assert mistake is None and load_params()
    changes = values(yaml.safe_load(shipped(name)))
    expected = values(yaml.safe_load(shipped("fashion_mnist"))) | changes
    filled = {key for key in expected if any(other.startswith(f"{key}.") for other in expected)}  # were empty blocks
    expected = {key: value for key, value in expected.items() if key not in filled}
    assert {key: value for key, value in values(yaml.safe_load(text)).items() if expected[key] != value} == {}
    assert values(yaml.safe_load(text)).keys() == expected.keys()
    assert split(text)[0] == split(shipped(name))[0] != []
    assert split(text)[1] == split(shipped("fashion_mnist"))[1]
    assert len(printed) == (1 if name == "fashion_mnist" else len(changes))


@pytest.mark.parametrize("name", PATCHES)
def test_a_recipe_holds_only_what_differs_from_the_sample(name):
    sample, own = (values(yaml.safe_load(shipped(each))) for each in ("fashion_mnist", name))
    assert [key for key in own if key in sample and sample[key] == own[key]] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_head_of_a_recipe_says_what_it_needs_and_gives(name):
    head, _ = split(shipped(name))
    text = "\n".join(head)
    places = [text.index(f"\n# {subject}") for subject in ("Hardware: ", "Time: ", "Accuracy: ", "Commands")]
    assert places == sorted(places)
    commands = [line.removeprefix("#   ") for line in head if line.startswith("#   ")]
    assert commands[-2:] == ["make repro", "make validate"]
    assert (f"make recipe NAME={name}" in commands) == (name != "fashion_mnist")
    measured = re.search(r"# Accuracy:(.*)", text)[1]
    assert "not measured here" in measured or "metrics/summary.md" in measured
    assert max(map(len, shipped(name).splitlines())) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_pyyaml_and_dvc_read_the_same_numbers_in_what_is_shipped(apply, name):
    apply(name)
    for path in (Path("recipes", f"{name}.yaml"), Path("params.yaml")):
        text = path.read_text()
        one, other = values(yaml.safe_load(text)), values(parse_yaml(text, str(path)))
        assert {key: (type(value), value) for key, value in one.items()} == {
            key: (type(value), value) for key, value in other.items()
        }


def test_one_recipe_after_another_is_the_other_alone(apply):
    alone = {}
    for name in NAMES:
        shutil.copy(REPOSITORY / "recipes" / "fashion_mnist.yaml", "params.yaml")
        apply(name)
        alone[name] = Path("params.yaml").read_bytes()
    assert len(set(alone.values())) == len(NAMES)
    for first, second in product(NAMES, NAMES):
        Path("params.yaml").write_bytes(alone[first])
        apply(second)
        assert Path("params.yaml").read_bytes() == alone[second], (first, second)
    apply("fashion_mnist")
    assert Path("params.yaml").read_bytes() == (REPOSITORY / "recipes" / "fashion_mnist.yaml").read_bytes()


def test_the_second_time_nothing_changes(apply):
    apply("cifar10")
    once = Path("params.yaml").read_bytes()
    assert apply("cifar10") == (["params.yaml has the values of cifar10"], None)
    assert Path("params.yaml").read_bytes() == once


def test_each_change_is_a_line_and_a_dry_run_writes_nothing(apply):
    text = (
        Path("params.yaml").read_text().replace("  momentum: 0.9  ", "  momentum: 0.5  ").replace("seed: 0", "sed: 0")
    )
    Path("params.yaml").write_text(text)
    expected = [
        "lr: 0.1 -> 0.5",
        "weight_decay: 0.00004 -> 0.00002",
        "momentum: 0.5 -> 0.9",
        "ema_decay: null -> 0.999966",
        "sizes: null -> {1: 192}",
        "seed: absent -> 0",
        "sed: 0 -> absent",
        "execution.device: cpu -> cuda",
        "pack.splits.val: test -> val",
    ]
    printed, mistake = apply("imagenet_modern", "--dry-run")
    assert mistake is None
    assert [line for line in expected if not {line, f"train.{line}"} & set(printed)] == []
    assert all(re.fullmatch(r"[\w.]+: .+ -> .+", line) for line in printed)
    assert Path("params.yaml").read_text() == text
    assert apply("imagenet_modern")[0] == printed
    assert load_params().train.momentum == 0.9


@pytest.mark.parametrize("before", [None, "", "# nothing\n", "[1, 2]\n"])
def test_a_file_without_parameters_becomes_a_whole_one(apply, before):
    Path("params.yaml").unlink()
    if before is not None:
        Path("params.yaml").write_text(before)
    printed, mistake = apply("fashion_mnist")
    assert mistake is None and "lr: absent -> 0.1" in printed
    assert Path("params.yaml").read_text() == shipped("fashion_mnist")


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        ("lrr: 1\n", "lrr is not a parameter; did you mean lr?"),
        ("train:\n  ema_decy: 0.5\n", "train.ema_decy is not a parameter; did you mean train.ema_decay?"),
        ("machine:\n  device: cuda\n", "machine.device is not a parameter; allowed: checkpoint_minutes, checkpoints, "),
        ("lr: 0\n", "lr: 0 is not allowed, must be greater than 0"),
        ("train: 5\n", "train: 5 is not allowed, must be a block of parameters"),
        ("execution:\n  decode: cuda\n", "execution: execution.decode is cuda, but execution.device is cpu"),
        ("train:\n  processes: 3\n", "batch_size 64 is not allowed, must be a multiple of 6"),
    ],
)
def test_what_params_refuse_a_recipe_must_not_set(apply, content, mistake):
    Path("recipes/mine.yaml").write_text(content)
    before = Path("params.yaml").read_bytes()
    printed, error = apply("mine")
    assert printed == [] and error.startswith(f"error: recipes/mine.yaml: {mistake}") and "\n" not in error
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        ("lr: [\n", "recipes/mine.yaml is not valid YAML: while parsing"),
        ("lr: 1\nlr: 2\n", "recipes/mine.yaml is not valid YAML: lr occurs twice, again in line 2, column 1"),
        ("# nothing\n", "recipes/mine.yaml holds no parameters"),
        (None, f"no recipes/mine.yaml; there are: {' '.join(NAMES)}"),
    ],
)
def test_a_recipe_that_is_none(apply, content, mistake):
    if content:
        Path("recipes/mine.yaml").write_text(content)
    before = Path("params.yaml").read_bytes()
    printed, error = apply("mine")
    assert printed == [] and error.startswith(f"error: {mistake}") and "\n" not in error
    assert Path("params.yaml").read_bytes() == before


def test_a_name_does_not_lead_out_of_the_folder(apply):
    assert apply("../params")[1].startswith("error: no recipes/../params.yaml; there are: ")


def test_a_full_disk_leaves_the_file_as_it_was(apply, monkeypatch):
    def full(path, text, **options):
        raise OSError("No space left on device")

    before = Path("params.yaml").read_bytes()
    monkeypatch.setattr(Path, "write_text", full)
    assert apply("imagenet")[1] == "error: cannot write params.yaml: No space left on device"
    assert Path("params.yaml").read_bytes() == before
    assert [path.name for path in Path().iterdir() if "partial" in path.name] == []


def test_values_of_every_kind_arrive_on_their_line(apply):
    Path("recipes/mine.yaml").write_text(
        "lr: 1e-5\n"
        "train:\n  weight_decay: 0.0000001\n  freeze: [stem]\n"
        "  init_from:\n    file: 'a: b.pt'\n    sha256: '5e10'\n    new_layers:\n      - fc\n"
        "model:\n  arguments:\n    channels: [8, 8]\n"
        "card:\n  data: >\n    two\n    lines, © 2026\n"
    )
    assert apply("mine")[1] is None
    text = Path("params.yaml").read_text()
    params = load_params()
    assert (params.lr, params.train.weight_decay, params.train.freeze) == (1e-5, 1e-7, ("stem",))
    start = params.train.init_from
    assert (start.file, start.sha256, start.new_layers) == ("a: b.pt", "5e10", ("fc",))
    assert (params.model.arguments, params.card.data) == ({"channels": [8, 8]}, "two lines, © 2026\n")
    assert split(text)[1] == split(shipped("fashion_mnist"))[1]
    assert math.isclose(parse_yaml(text, "params.yaml")["lr"], 1e-5)


TEXTS = [
    "yes",
    "5e10",
    "0o7",
    "1_000",
    "12:30:45",
    "2001-01-01",
    "~",
    ".inf",
    "",
    "=",
    "<<",
    "two\nlines\n",
    "a: b",
    "#c",
]
NESTED = {1: 192, "a": {"b": ["x", 2.5, None]}}


@pytest.mark.parametrize("value", [1e-5, 1e22, 0.1, None, *TEXTS, "#c", " a ", "x y " * 100, "类 é", NESTED, [], {}])
def test_a_written_value_is_one_line_which_dvc_reads_as_that_value(value):
    text = recipe.written(value)
    read = parse_yaml(f"key: {text}", "params.yaml")["key"]
    assert "\n" not in text and (type(read), read) == (type(value), value)


def test_the_target_of_make(folder):
    shutil.copy(REPOSITORY / "Makefile", folder)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/python").write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} "$@"\n')
    (folder / ".venv/bin/python").chmod(0o755)

    def make(*arguments: str) -> subprocess.CompletedProcess:
        command = ["make", "--assume-old=setup", "recipe", *arguments]
        return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True)

    done = make("NAME=cifar10")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == "epochs: 15 -> 30"
    assert load_params().pack.dataset == "CIFAR10"
    done = make("NAME=mnist")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"error: no recipes/mnist.yaml; there are: {' '.join(NAMES)}"
    assert make().returncode == 0
    assert Path("params.yaml").read_text() == shipped("fashion_mnist")


def test_the_modern_recipe_averages_as_torchvision_does_and_trains_at_multiples_of_the_stride(apply):
    apply("imagenet_modern")
    params = load_params()
    once_in_32_steps = 1 - (1 - 0.99998) * 32 * params.batch_size / params.epochs
    assert params.train.ema_decay == pytest.approx(once_in_32_steps ** (1 / 32), abs=5e-7)
    assert [size % 32 for size in params.train.sizes.values()] == [0]
