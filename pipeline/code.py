"""The code that a result depends on: what a stage imports, the files that this reads, and the versions of packages.

`dependencies` of a stage is the one definition. The stage `code` writes it to artifacts/code, where DVC compares it,
and it is part of the key of a training run's checkpoints.

A module counts by its syntax tree without docstrings, so that comments, docstrings and layout rerun nothing. Imports
count wherever they stand, in functions, too. A module reads a file if it names it, in a string of its own, and the file
lies in the module's folder or below. Stages that make the network of model.name, or train on what `augment.extra`
changes, depend on the user's own code, too.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from pipeline.own_code import files_below, own_code
from pipeline.syntax import facts
from storage.errors import InputError

ROOT = Path(__file__).parents[1]
OWN = ROOT / "models/own.py"  # which runs the user's code
EXTRA = {"train_float": "augment.extra", "train_qat": "qat.augment.extra"}  # by the stage that runs its code
COMPILED = {ROOT / "pixels/native.c"}  # every other C file is copied into results, with its comments
# They say whether training starts, or warn, and change nothing of what comes of it.
UNCOUNTED = {"imagedb/sizes.py", "pipeline/counts.py", "pipeline/framing.py", "pipeline/quantizable.py"}
C_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|/\*.*?\*/|//[^\n]*', re.DOTALL)


def dependencies(stage: str, network: str, extra: str | None = None) -> str:
    """The code that a stage depends on, one line each, sorted by name: digest and file, then version and package.

    Args:
        stage: The name of a module of `stages`, such as "train_float".
        network: The name of the network, model.name.
        extra: Of a stage that trains, the name in its `augment.extra`.

    Raises:
        InputError: If a module has a relative import, naming it; or if code of the user's own is not there or is
            no Python.
    """
    modules = _closure(f"stages.{stage}")
    files = {path.relative_to(ROOT): path for module in modules for path in (module, *_read_files(module))}
    imports = {name for module in modules for name in facts(_text(module)).imports}
    named = {"model.name": network if OWN in modules else "", EXTRA.get(stage, ""): extra or ""}
    for own in (own_code(name, parameter) for parameter, name in named.items()):
        files, imports = own.files | files, own.imports | imports
    lines = [f"{_digest(path)}  {name.as_posix()}" for name, path in sorted(files.items())]
    packages = {name.partition(".")[0] for name in imports}
    distributions = {distribution for package in packages for distribution in _distributions().get(package, ())}
    lines += [f"{version(distribution)}  {distribution}" for distribution in sorted(distributions)]
    return "".join(f"{line}\n" for line in lines)


def _text(module: Path) -> str:
    return module.read_text(encoding="utf-8")


def _closure(name: str) -> set[Path]:
    """A module of the repository and those that it imports, directly or not."""
    found, waiting = set(), [*_files_of(name)]
    while waiting:
        module = waiting.pop()
        if module not in found and module.relative_to(ROOT).as_posix() not in UNCOUNTED:
            found.add(module)
            for imported in facts(_text(module)).imports:
                if imported.startswith("."):
                    raise InputError(f"{module} has a relative import, which is not followed: write the full name")
                waiting += _files_of(imported)
    return found


def _files_of(name: str) -> list[Path]:
    """The files of the repository that Python runs on the import of a dotted name."""
    return [*_files_below(ROOT, name)] if name.partition(".")[0] in _packages(ROOT) else []


@cache
def _packages(root: Path) -> set[str]:
    return {file.parent.name for file in root.glob("*/__init__.py")}


def _read_files(module: Path) -> Iterator[Path]:
    """The files that a module names, in its folder or below."""
    names = {name for name in facts(_text(module)).strings if re.fullmatch(r"[\w-]+(\.[\w-]+)*", name)}
    for path in _files_in(module.parent) if names else ():
        if path.name in names:
            yield path


@cache
def _files_in(folder: Path) -> list[Path]:
    """All files in a folder and below, except modules."""
    return [path for path in folder.rglob("*") if path.suffix not in (".py", ".pyc") and path.is_file()]


def _digest(path: Path) -> str:
    if path.suffix == ".py":
        return facts(_text(path)).digest
    content = path.read_bytes()
    if path in COMPILED:
        code = C_COMMENT.sub(lambda match: match[0] if match[0].startswith('"') else " ", content.decode())
        content = " ".join(code.split()).encode()
    return hashlib.sha256(content).hexdigest()


_files_below = cache(lambda folder, name: [*files_below(folder, name)])
_distributions = cache(packages_distributions)  # by the names of their packages
