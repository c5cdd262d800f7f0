"""What a stage depends on of code: a change of it, of a file that it reads or of a package counts; a comment does not."""

import shutil
from pathlib import Path

import pytest

from pipeline import code

SCRIPTS = sorted(path.stem for path in (code.ROOT / "stages").glob("[!_]*.py"))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A copy of all code, to be changed."""
    for folder in code.ROOT.iterdir():
        if (folder / "__init__.py").is_file():
            shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.setattr(code, "COMPILED", {tmp_path / path.relative_to(Path(code.__file__).parents[1]) for path in code.COMPILED})
    return tmp_path


def all_dependencies() -> dict[str, str]:
    for cached in (code._tree, code._imports, code._read_files, code._digest, code._distributions):
        cached.cache_clear()
    return {script: code.dependencies(script) for script in SCRIPTS}


def changed(repository, path, old, new) -> set[str]:
    """The scripts that a change in a file concerns."""
    before = all_dependencies()
    text = (repository / path).read_text()
    assert old in text
    (repository / path).write_text(text.replace(old, new, 1))
    after = all_dependencies()
    return {script for script in SCRIPTS if before[script] != after[script]}


TRAINING = {"train_float", "train_qat"}


@pytest.mark.parametrize(
    ("path", "old", "new", "concerned"),
    [
        ("training/optimization.py", "def make_optimizer", "SPEED = 1\n\n\ndef make_optimizer", TRAINING),
        ("training/step.py", "PROJECT_EVERY = 64", "PROJECT_EVERY = 65", TRAINING),
        ("imagedb/sources/coco.py", "import", "import os\nimport", {"pack"}),
        ("imagedb/writer.py", "import", "import os\nimport", {"pack"}),
        ("fixedpoint/c/kernels.c", "*/", " */", {"export_c", "export_litert", "compare", "validate", "report", "model_card"}),
        ("fixedpoint/litert/tflm/main.cc", "main", "main ", {"export_litert"}),
        ("stages/gate_.py", "", "", set()),
    ],
)
def test_code_concerns_the_stages_that_import_it(repository, path, old, new, concerned):
    (repository / "stages/gate_.py").write_text("")
    found = changed(repository, path, old, new)
    assert found == concerned, sorted(found)
