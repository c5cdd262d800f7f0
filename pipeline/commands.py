"""The scripts of a package, as `python -m stages` and `python -m tools` list them."""

import ast
from collections.abc import Iterator
from pathlib import Path


def commands(package: Path) -> Iterator[str]:
    """A line for each script of a folder: how it is called, and the first sentence of its docstring; none is run."""
    scripts = sorted(package.glob("[!_]*.py"))
    width = max(len(path.stem) for path in scripts)
    for path in scripts:
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        yield f"python -m {package.name}.{path.stem:{width}}  {first}"
