"""Where the code of a function of the user's own is, by its name: nets/mine.py:build or my_package.nets:build."""

import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from storage.errors import InputError

WORD = r"[^\W\d]\w*"
OWN = re.compile(rf"(?P<place>.+\.py|{WORD}(\.{WORD})*):(?P<function>{WORD}(\.{WORD})*)")


@dataclass(frozen=True)
class Source:
    """Where the code of a function is.

    Attributes:
        file: The module's file.
        root: The folder from which the module, and what lies beside it, is imported.
        module: The module's name from there; None if the file is no part of a package and is run by its path.
    """

    file: Path
    root: Path
    module: str | None


def is_own(name: str) -> bool:
    """Whether a name is that of a function of the user's own; such a name alone can make code run."""
    return OWN.fullmatch(name) is not None


def locate(name: str, parameter: str = "model.name") -> Source:
    """Where the code of the function `name` is; runs none of it.

    Args:
        name: A name for which `is_own` is true.
        parameter: The parameter that has it, for messages.

    Raises:
        InputError: If there is no such file or module.
    """
    place = split_name(name)[0]
    if place.endswith(".py"):
        file = Path(place).resolve()
        if not file.is_file():
            raise InputError(f"{parameter} {name}: there is no file {place} in {Path.cwd()}")
        root = file.parent
        while (root / "__init__.py").is_file():
            root = root.parent
        module = ".".join(file.relative_to(root).with_suffix("").parts)
        return Source(file, root, None if root == file.parent else module)
    root = _root(f"{parameter} {name}", place.partition(".")[0])
    stem = root.joinpath(*place.split("."))
    for file in (stem / "__init__.py", stem.with_suffix(".py")):
        if file.is_file():
            return Source(file, root, place)
    raise InputError(f"{parameter} {name}: there is no module {place} in {root}")


def split_name(name: str) -> tuple[str, str]:
    """The place and the function in the name of a function of the user's own."""
    found = OWN.fullmatch(name)
    assert found is not None, name
    return found["place"], found["function"]


def _root(what: str, package: str) -> Path:
    """The folder in which Python finds a package or a module."""
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # of __main__
        spec = None
    place = next(iter(spec.submodule_search_locations or [spec.origin or ""])) if spec else ""
    if not place or not Path(place).exists():  # built-in modules have no file
        raise InputError(
            f"{what}: Python finds no {package}: it must be in {Path.cwd()}, installed, or on PYTHONPATH, "
            "which `make` does not pass on; or name its file, as in nets/mine.py:build"
        )
    return Path(place).resolve().parent
