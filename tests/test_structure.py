"""The structure of the repository: which package may import which, one script per stage, no long modules."""

import ast
import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
# Each package imports those on its own line and above; none imports one below.
LAYERS = [
    ("storage",),
    ("imagedb", "fixedpoint"),
    ("pixels", "models"),
    ("evaluation",),
    ("training",),
    ("reports",),
    ("pipeline",),
    ("stages", "tools", "benchmarks"),
]
PACKAGES = [package for layer in LAYERS for package in layer]
SUBPACKAGES = ["program", "capture", "quantize", "onnx", "c", "litert", "analysis"]  # of fixedpoint
MODULES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))


def name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Modules of the repository that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = {each for each in found if each.partition(".")[0] in PACKAGES}
    return {each if each in KNOWN else each.rpartition(".")[0] for each in own}


KNOWN = {name(path) for path in MODULES}
GRAPH = {name(path): imports(path) for path in MODULES}


def layer(module: str) -> int:
    return next(number for number, packages in enumerate(LAYERS) if module.partition(".")[0] in packages)


def test_every_folder_of_code_has_its_place():
    folders = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert folders == set(PACKAGES)
    assert {path.name for path in (REPOSITORY / "fixedpoint").iterdir() if path.is_dir()} - {"__pycache__"} == set(
        SUBPACKAGES
    )


def test_no_import_leads_up():
    upward = {
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if layer(other) > layer(module) or (layer(other) == layer(module) and not same_package(module, other))
    }
    assert upward == set()


def same_package(module: str, other: str) -> bool:
    return module.partition(".")[0] == other.partition(".")[0]


def test_within_fixedpoint_all_arrows_lead_to_the_program():
    """The self-check for microcontrollers is a program in C, and takes the arrays of the C form."""
    strange = set()
    for module, others in GRAPH.items():
        if module.count(".") < 2 or not module.startswith("fixedpoint."):
            continue
        own = module.split(".")[1]
        for other in others:
            room = [*other.split("."), ""][1]
            if other.startswith("fixedpoint.") and room not in (own, "program", "errors"):
                strange.add((own, room))
    assert strange <= {("litert", "c")}


def test_there_is_no_circle():
    left = {module: set(others) - {module} for module, others in GRAPH.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert sorted(left) == []


def test_every_script_of_stages_is_a_stage():
    text = (REPOSITORY / "dvc.yaml").read_text()
    called = set(re.findall(r"cmd: python -m stages\.(\w+)", text))
    assert called == {path.stem for path in (REPOSITORY / "stages").glob("[!_]*.py")}
    assert set(yaml.safe_load(text)["stages"]) == called


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_is_long(path):
    lines = len(path.read_text().splitlines())
    assert lines <= (100 if path.parent.name == "stages" else 300)
