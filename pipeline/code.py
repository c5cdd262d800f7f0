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
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPILED = {ROOT / "pixels/native.c"}  # every other C file is copied into results, with its comments
C_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|/\*.*?\*/|//[^\n]*', re.DOTALL)


def dependencies(stage: str) -> str:
    """What a stage computes with, a line each, in the order of the names: digest and file, version and package.

    Args:
        stage: The name of a module of `stages`, such as "train_float".
    """
    modules = _closure(f"stages.{stage}")
    files = {path for module in modules for path in (module, *_read_files(module))}
    lines = [f"{_digest(path)}  {path.relative_to(ROOT).as_posix()}" for path in sorted(files)]
    packages = {name for module in modules for name in _imports(module)[1]}
    distributions = {distribution for package in packages for distribution in _distributions().get(package, ())}
    lines += [f"{version(distribution)}  {distribution}" for distribution in sorted(distributions)]
    lines.append(f"{sys.version_info.major}.{sys.version_info.minor}  Python")
    return "".join(f"{line}\n" for line in lines)


def _closure(module: str) -> set[Path]:
    found, waiting = set(), [*_files_of(module)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imports(path)[0]
    return found


@cache
def _tree(path: Path) -> ast.Module:
    """Of a module, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            del node.body[0]
    return tree


@cache
def _imports(path: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """The modules of the repository that a module imports, and the names of other packages."""
    names = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path} has a relative import, which is not followed: write the module's full name")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    own = {name for name in names if (ROOT / name.partition(".")[0] / "__init__.py").is_file()}
    others = {name.partition(".")[0] for name in names - own} - sys.stdlib_module_names
    return frozenset(file for name in own for file in _files_of(name)), frozenset(others)


def _files_of(name: str) -> Iterator[Path]:
    """The files that Python runs on the import of a dotted name, whose last part may be a module's or a value's."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        stem = ROOT.joinpath(*parts[:count])
        yield from (file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file())


@cache
def _read_files(module: Path) -> frozenset[Path]:
    strings = {node.value for node in ast.walk(_tree(module)) if isinstance(node, ast.Constant)}
    beside = (path for path in module.parent.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    return frozenset(path for path in beside if path.name in strings)


@cache
def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".py":
        content = ast.dump(_tree(path)).encode()
    elif path in COMPILED:
        kept = C_COMMENT.sub(lambda match: match[0] if match[0].startswith('"') else " ", content.decode())
        content = " ".join(kept.split()).encode()
    return hashlib.sha256(content).hexdigest()


_distributions = cache(packages_distributions)  # by the name of a package that they hold
