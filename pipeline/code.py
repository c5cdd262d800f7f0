"""The code that a result depends on: what a stage imports, the files that this reads, and the versions of packages.

`dependencies` of a stage is the one definition. The stage `code` writes it to artifacts/code, where DVC compares it,
and it is part of the key of a training run's checkpoints.

A module counts by its syntax tree without docstrings, so that comments, docstrings and layout rerun nothing. Imports
count wherever they stand, in functions, too. A module reads a file if it names it, in a string of its own, and the file
lies in the module's folder or below.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import NamedTuple

from storage.errors import InputError

ROOT = Path(__file__).parents[1]
COMPILED = {ROOT / "pixels/native.c"}  # every other C file is copied into results, with its comments
C_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|/\*.*?\*/|//[^\n]*', re.DOTALL)


def dependencies(stage: str) -> str:
    """The code that a stage depends on, one line each, sorted by name: digest and file, then version and package.

    Args:
        stage: The name of a module of `stages`, such as "train_float".

    Raises:
        InputError: If a module has a relative import, naming it.
    """
    modules = _closure(f"stages.{stage}")
    files = {path for module in modules for path in (module, *_read_files(module))}
    lines = [f"{_digest(path)}  {path.relative_to(ROOT).as_posix()}" for path in sorted(files)]
    packages = {name.partition(".")[0] for module in modules for name in _facts(_text(module)).imports}
    distributions = {distribution for package in packages for distribution in _distributions().get(package, ())}
    lines += [f"{version(distribution)}  {distribution}" for distribution in sorted(distributions)]
    return "".join(f"{line}\n" for line in lines)


class _Facts(NamedTuple):
    """The digest of a module's syntax tree, the full names that it imports, and its strings."""

    digest: str
    imports: frozenset[str]
    strings: frozenset[str]


@cache
def _facts(text: str) -> _Facts:
    tree, imports, strings = ast.parse(text), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
        elif isinstance(node, ast.JoinedStr):
            node.values = [part for part in node.values if getattr(part, "value", None) != ""]  # of Python 3.12
        elif isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
    return _Facts(hashlib.sha256(_dump(tree).encode()).hexdigest(), frozenset(imports), frozenset(strings))


def _dump(part: object) -> str:
    """A syntax tree as text, without the empty fields, in which versions of Python differ."""
    if isinstance(part, ast.AST):
        fields = ", ".join(f"{name}={_dump(value)}" for name, value in ast.iter_fields(part) if value not in (None, []))
        return f"{type(part).__name__}({fields})"
    return f"[{', '.join(map(_dump, part))}]" if isinstance(part, list) else repr(part)


def _text(module: Path) -> str:
    return module.read_text(encoding="utf-8")


def _closure(name: str) -> set[Path]:
    """A module of the repository and those that it imports, directly or not."""
    found, waiting = set(), [*_files_of(name)]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            for imported in _facts(_text(module)).imports:
                if imported.startswith("."):
                    raise InputError(f"{module} has a relative import, which is not followed: write the full name")
                waiting += _files_of(imported)
    return found


def _files_of(name: str) -> Iterator[Path]:
    """The files that Python runs on the import of a dotted name, whose last part may be a module's or a value's."""
    parts = name.split(".")
    if (ROOT / parts[0] / "__init__.py").is_file():
        for count in range(1, len(parts) + 1):
            stem = ROOT.joinpath(*parts[:count])
            yield from (file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file())


def _read_files(module: Path) -> Iterator[Path]:
    """The files that a module names, in its folder or below."""
    names = {name for name in _facts(_text(module)).strings if re.fullmatch(r"[\w-]+(\.[\w-]+)*", name)}
    for path in _files_in(module.parent):
        if path.name in names:
            yield path


def _files_in(folder: Path) -> list[Path]:
    """All files in a folder and below, except modules."""
    return [path for path in folder.rglob("*") if path.suffix not in (".py", ".pyc") and path.is_file()]


def _digest(path: Path) -> str:
    if path.suffix == ".py":
        return _facts(_text(path)).digest
    content = path.read_bytes()
    if path in COMPILED:
        code = C_COMMENT.sub(lambda match: match[0] if match[0].startswith('"') else " ", content.decode())
        content = " ".join(code.split()).encode()
    return hashlib.sha256(content).hexdigest()


_distributions = cache(packages_distributions)  # by the names of their packages
