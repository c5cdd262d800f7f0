"""The code that a stage depends on: modules, files that they read and packages, but no comments."""

import importlib.metadata
import shutil
import subprocess
import sys

import pytest

from pipeline import code

SCRIPTS = sorted(path.stem for path in (code.ROOT / "stages").glob("[!_]*.py"))
NETWORK = "vargconvnet_32"
TRAINING = {"train_float", "train_qat"}
FLOAT_NETWORK = {"calibrate", "count_ops", "export_onnx", "report", "validate"} | TRAINING
PIXELS = {"calibrate", "compare", "golden", "pack", "report", "validate"} | TRAINING
INTEGERS = {"compare", "export_c", "export_litert", "golden", "report", "train_qat", "validate"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of all code that tests may edit and restore, and what each script depends on."""
    folder = tmp_path_factory.mktemp("repository")
    for package in code.ROOT.iterdir():
        if (package / "__init__.py").is_file():
            shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "COMPILED", {folder / path.relative_to(code.ROOT) for path in code.COMPILED})
        patch.setattr(code, "ROOT", folder)
        patch.setattr(code, "OWN", folder / "models/own.py")
        yield folder, all_dependencies()


def all_dependencies() -> dict[str, str]:
    return {script: code.dependencies(script, NETWORK) for script in SCRIPTS}


def concerned(copy, *edits: tuple[str, str, str]) -> set[str]:
    """The scripts that are affected by edits: a file, a text in it, and the text that replaces it."""
    folder, before = copy
    texts = {path: (folder / path).read_text() for path, _, _ in edits}
    for path, old, new in edits:
        text = (folder / path).read_text()
        assert old in text, path
        (folder / path).write_text(text.replace(old, new, 1))
    after = all_dependencies()
    for path, text in texts.items():
        (folder / path).write_text(text)
    return {script for script in SCRIPTS if before[script] != after[script]}


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("training/optimization.py", "def make_optimizer", "SPEED = 1\n\n\ndef make_optimizer", TRAINING),
        ("imagedb/writer.py", "import", "import io\nimport", {"pack"}),
        ("fixedpoint/program/integer.py", "import", "import io\nimport", INTEGERS),
        ("fixedpoint/litert/tflm/main.cc", "main", "main ", {"export_litert"}),
        ("fixedpoint/c/kernels.c", "/*", "/* more: ", {"compare", "export_c", "export_litert", "model_card", "report"}),
        ("models/vargconvnet.py", "import", "import io\nimport", FLOAT_NETWORK),
        ("fixedpoint/capture/fold.py", "import", "import io\nimport", FLOAT_NETWORK - {"count_ops", "train_float"}),
        ("pipeline/quantizable.py", "import", "import io\nimport", set()),  # nothing of what training gives
        ("pixels/native.c", "#include <stdlib.h>", "#include <stdlib.h>\n#include <math.h>", PIXELS),
        ("pipeline/cli.py", "import", "import io\nimport", {*SCRIPTS}),
    ],
)
def test_code_concerns_the_stages_that_use_it(copy, path, old, new, expected):
    assert concerned(copy, (path, old, new)) == expected


def test_what_computes_nothing_concerns_no_stage(copy):
    comments = [
        ("pipeline/cli.py", '"""', '"""Another docstring. '),
        ("training/step.py", "\nclass TrainingStep", "\n# a comment\n\n\nclass TrainingStep"),
        ("storage/files.py", "    path = Path(path)", "    path = Path(\n        path\n    )  # on three lines"),
        ("pixels/native.c", "#include", '/* a comment in which a " stands */\n\n#include'),
        ("pixels/native.c", "\n#include", "\n// another one\n#include"),
    ]
    by_hand = [(path, "import", "import io\nimport") for path in ("benchmarks/train.py", "tools/view.py")]
    assert concerned(copy, *comments, *by_hand) == set()


def test_a_string_in_c_is_no_comment(copy):
    first, second = ('#include "a//b"\n#include', '#include "a//c"\n#include')
    folder, _ = copy
    path = folder / "pixels/native.c"
    text, digests = path.read_text(), set()
    for line in (first, second):
        path.write_text(text.replace("#include", line, 1))
        digests.add(code.dependencies("train_float", NETWORK))
    path.write_text(text)
    assert len(digests) == 2


def test_a_new_version_of_a_package_concerns_the_stages_that_import_it(copy, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(code, "version", lambda name: "9.9" if name == "timm" else real(name))
    assert concerned(copy) == FLOAT_NETWORK
    assert "9.9  timm\n" in code.dependencies("train_float", NETWORK)


def test_every_module_that_python_loads_counts(copy):
    folder, dependencies = copy
    script = "import sys, stages.compare; print(*(getattr(m, '__file__', '') or '' for m in [*sys.modules.values()]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    loaded = {path.removeprefix(f"{folder}/") for path in done.stdout.split() if path.startswith(f"{folder}/")}
    listed = {line.split("  ")[1] for line in dependencies["compare"].splitlines()}
    assert len(loaded) > 30 and loaded <= listed


def test_a_relative_import_is_refused(copy):
    folder, _ = copy
    text = (folder / "stages/pack.py").read_text()
    (folder / "stages/pack.py").write_text("from . import cli\n")
    with pytest.raises(ValueError, match=r"pack\.py has a relative import, which is not followed"):
        code.dependencies("pack", NETWORK)
    (folder / "stages/pack.py").write_text(text)


def test_the_digest_of_a_module_is_that_of_every_version_of_python():
    """As Python 3.11.7, 3.12.1 and 3.13.0 have printed it, whose trees differ in empty fields and empty strings."""
    text = 'class A:\n    """Doc."""\n\n    def f(self, *, a: int = 0, b=None) -> str:\n'
    text += '        return f"{a:{b}} {a!r:>8}"\n'
    assert code.facts(text).digest == "471d5c5fc8a6577dc639ad10ed77ec700f8a014052147f57c2891dfa2b85c1e0"
