"""The code of a function of the user's own: its file, what this imports from beside it, and the files that these name.

What lies in site-packages counts by its version alone, as the packages that this repository imports.
"""

import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from models.own_source import is_own, locate
from pipeline.syntax import Facts, facts
from storage.errors import InputError

INSTALLED = {"site-packages", "dist-packages"}
FILE_NAME = re.compile(r"[\w. /-]{1,200}")


class OwnCode(NamedTuple):
    """Files by their paths below the folder that they are imported from, and the names that they import."""

    files: dict[Path, Path]
    imports: set[str]


def own_code(name: str, parameter: str = "model.name") -> OwnCode:
    """The code of the function of that name; nothing if it is none of the user's own. None of it is run.

    Args:
        parameter: The parameter that has the name, for messages.

    Raises:
        InputError: If the function's file is not there, or a file of its code is no Python.
    """
    code = OwnCode({}, set())
    if not is_own(name):
        return code
    source = locate(name, parameter)
    code.imports.add(source.module or "")
    roots = _roots(source.root)
    waiting = [source.file, *files_below(source.root, source.module or "")] if source.root in roots else []
    while waiting:
        file = waiting.pop().resolve()
        above = [root for root in roots if file.is_relative_to(root)]
        short = file.relative_to(max(above, key=lambda root: len(root.parts))) if above else Path(file.name)
        if code.files.setdefault(short, file) is file and file.suffix == ".py":
            found = _facts(file, f"{parameter} {name}")
            code.imports.update(each for each in found.imports if not each.startswith("."))
            waiting += [path for each in found.imports for path in _imported(each, file, roots)]
            waiting += _named(found.strings, file.parent)
    return code


def files_below(folder: Path, name: str) -> Iterator[Path]:
    """The files in a folder that the import of a dotted name runs; its last part may be a module's or a value's."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        stem = "/".join(parts[:count])
        yield from (file for file in (folder / f"{stem}.py", folder / stem / "__init__.py") if file.is_file())


def _roots(own: Path) -> list[Path]:
    """The folders that modules are imported from, those of Python and of installed packages left out."""
    python = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    roots = [own, *(Path(path).resolve() for path in sys.path)]
    return [root for root in roots if not INSTALLED & {*root.parts} and not any(map(root.is_relative_to, python))]


def _facts(file: Path, what: str) -> Facts:
    try:
        return facts(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError) as error:  # a ValueError is of text that is not UTF-8
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(f"{what}: {file}{where} is no Python in UTF-8: {error}") from None


def _imported(name: str, module: Path, roots: list[Path]) -> list[Path]:
    """The files that the import of a name in a module runs."""
    full = name.lstrip(".")
    if level := len(name) - len(full):
        return [*files_below(module.parents[level - 1], full)]
    return next((files for root in roots if (files := [*files_below(root, full)])), [])


def _named(strings: frozenset[str], folder: Path) -> Iterator[Path]:
    """The files that strings name, from a module's folder or from the current one."""
    for string in filter(FILE_NAME.fullmatch, strings):
        yield from (path for base in (folder, Path()) if (path := base / string).is_file())
