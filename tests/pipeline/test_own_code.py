"""The code of a network of the user's own, on which the stages depend that make it."""

import json
import sys
from pathlib import Path

import pytest

from pipeline.code import dependencies
from pipeline.own_code import own_code
from storage.errors import InputError

NAME = "theirs/mine.py:build"
TEXTS = {
    "theirs/mine.py": "import json, torch\nimport blocks\nfrom models.vargconvnet import ConvBN\nread('mine.json')\n",
    "theirs/blocks.py": "from pack.parts import part\nfrom pack import *\n",
    "theirs/pack/__init__.py": "from .other import x\nfrom . import third\n",
    "theirs/pack/parts.py": "from ..unrelated import y\n",
    "theirs/pack/other.py": "x = 1\n",
    "theirs/pack/third.py": "z = 1\n",
    "theirs/unrelated.py": "y = 1\n",
    "theirs/mine.json": "{}",
    "theirs/left_out.py": "x = 1\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in TEXTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_and_what_it_imports_and_names(folder):
    code = own_code(NAME)
    ours = {name for name in code.files if name.parts[0] in ("models", "storage", "fixedpoint")}
    assert Path("models/vargconvnet.py") in ours and Path("storage/errors.py") in ours
    expected = {Path(name).relative_to("theirs") for name in TEXTS if "left_out" not in name}
    assert code.files.keys() - ours == expected  # no path of this machine
    assert {"torch", "json"} <= code.imports
    assert "left_out.py" not in dependencies("train_float", NAME)


@pytest.mark.parametrize("name", [name for name in TEXTS if "left_out" not in name])
def test_an_edit_concerns_the_stages_that_make_the_network(folder, name):
    before = {stage: dependencies(stage, NAME) for stage in ("train_float", "train_qat", "count_ops", "compare")}
    (folder / name).write_text(TEXTS[name] + "\n\n")
    changed = {stage for stage, text in before.items() if dependencies(stage, NAME) != text}
    assert changed == ({"train_float", "train_qat", "count_ops"} if name.endswith("json") else set())  # blank lines
    (folder / name).write_text("w = 2\n" + TEXTS[name])
    changed = {stage for stage, text in before.items() if dependencies(stage, NAME) != text}
    assert changed == {"train_float", "train_qat", "count_ops"}


def test_a_module_on_the_path_counts_and_an_installed_one_by_its_version(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder / "theirs")
    found = {name.as_posix() for name in own_code("pack.parts:build").files}
    assert found == {"pack/__init__.py", "pack/parts.py", "pack/other.py", "pack/third.py", "unrelated.py"}
    installed = own_code("fvcore.nn:build")
    assert installed.files == {} and installed.imports == {"fvcore.nn"}
    assert "  fvcore\n" in dependencies("train_qat", "fvcore.nn:build")
    assert "  fvcore\n" not in dependencies("train_qat", "resnet18")


def test_other_networks_add_nothing(folder):
    assert own_code("resnet18") == ({}, set())
    assert dependencies("train_float", "resnet18") == dependencies("train_float", "vargconvnet_32")


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"def f(:\n", r"mine\.py, line 1 is no Python in UTF-8"), (b"# \xe9\n", r"mine\.py is no Python in UTF-8")],
)
def test_what_is_no_python_is_one_line(folder, text, message):
    (folder / "theirs/mine.py").write_bytes(text)
    with pytest.raises(InputError, match=f"^model.name {NAME}: .*{message}") as raised:
        own_code(NAME)
    assert "\n" not in str(raised.value)


def test_no_code_is_run(folder):
    (folder / "theirs/mine.py").write_text("import blocks\nraise SystemExit\n")
    before = {*sys.modules}
    own_code(NAME)
    assert "blocks" not in {*sys.modules} - before
    assert json.loads((folder / "theirs/mine.json").read_text()) == {}
