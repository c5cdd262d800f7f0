"""Reads YAML 1.2 as DVC does, so that params.yaml means the same here, in dvc.lock and in DVC's tables.

In YAML 1.2, 1e-5 is a number, 010 is ten, and yes is a text. https://yaml.org/spec/1.2.2/
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, MappingStartEvent, ScalarEvent

from storage.errors import InputError
from storage.printable import printable

LONGEST = 2**18  # characters of a file
DEEPEST = 50  # blocks within blocks; the parser's own recursion has no limit
MOST = 100_000  # values, each alias counted as what it stands for


def read_yaml(path: str | Path) -> Any:
    """The values of a YAML file: texts, whole and finite numbers, truth values, None, and lists and blocks of them.

    Raises:
        InputError: If it is not valid YAML, holds other values, has a key twice, or is too large or too deep.
        OSError: If it cannot be read.
    """
    if Path(path).exists() and not (Path(path).is_file() or Path(path).is_dir()):
        raise InputError(f"{path} is not a regular file")
    with Path(path).open(encoding="utf-8") as file:
        try:
            text = file.read(LONGEST + 1)
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not valid YAML: {error}") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, path: str | Path) -> Any:
    """The values of a text, as `read_yaml` gives those of a file.

    Raises:
        InputError: As `read_yaml`; the message begins with `path`.
    """
    if len(text) > LONGEST:
        raise InputError(f"{path} is too long for a file of parameters, allowed are {LONGEST:,} characters")
    try:
        _check_structure(text)
        values = YAML(typ="safe").load(text)
    except InputError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    except Exception as error:  # what a wrong value of a tag makes the constructors raise has no common class
        problem = str(error).replace('in "<unicode string>", line', "in line")
        raise InputError(f"{path} is not valid YAML: {one_line(problem)}") from None
    _check_values(values, "", path)
    return values


def one_line(text: str, longest: int = 300) -> str:
    """A text on one line, cut if it is longer than `longest` characters."""
    return printable(" ".join(text.split()), longest)


@dataclass
class _Block:
    """A list or a mapping of which a part has been read; `values` counts all within it, and `keys` are a mapping's."""

    anchor: str | None
    keys: set[str] | None
    values: int = 1
    children: int = 0

    def add(self, event: Any, size: int) -> None:
        """Count a child of `size` values, whose event is the last that has been read."""
        if self.keys is not None and self.children % 2 == 0 and isinstance(event, ScalarEvent):
            if event.value in self.keys:
                raise InputError(f"{one_line(event.value)} occurs twice, again{_place(event)}")
            self.keys.add(event.value)
        self.children += 1
        self.values += size
        if self.values > MOST:
            raise InputError(f"more than {MOST:,} values{_place(event)}")


def _check_structure(text: str) -> None:
    """Bound depth and size before anything is built, since aliases can stand for any number of values.

    Raises:
        InputError: If the text is too deep or too large, contains itself, or has a key twice.
    """
    blocks: list[_Block] = [_Block(None, None)]
    sizes: dict[str, int] = {}
    for event in YAML(typ="safe").parse(text):
        anchor, size = getattr(event, "anchor", None), 1
        if isinstance(event, CollectionStartEvent):
            blocks.append(_Block(anchor, set() if isinstance(event, MappingStartEvent) else None))
            if len(blocks) > DEEPEST:
                raise InputError(f"more than {DEEPEST} blocks within blocks{_place(event)}")
            continue
        if isinstance(event, CollectionEndEvent):
            closed = blocks.pop()
            anchor, size = closed.anchor, closed.values
        elif isinstance(event, AliasEvent):
            if anchor in {each.anchor for each in blocks}:
                raise InputError(f"{anchor} contains itself{_place(event)}")
            size = sizes.get(event.anchor, 1)
        elif not isinstance(event, ScalarEvent):
            continue
        blocks[-1].add(event, size)
        if anchor:
            sizes[anchor] = size


def _place(event: Any) -> str:
    return f" in line {event.start_mark.line + 1}, column {event.start_mark.column + 1}"


def _check_values(value: Any, name: str, path: str | Path) -> None:
    """Check that a value is plain, and all that it contains.

    Raises:
        InputError: If not, naming its key.
    """
    match value:
        case dict():
            for key, inner in value.items():
                if isinstance(key, bool) or not isinstance(key, str | int):
                    raise InputError(
                        f"{path}: the key {key!r} in {name or 'the file'} must be a text or a whole number"
                    )
                _check_values(inner, f"{name}.{key}" if name else str(key), path)
            return
        case list():
            for number, inner in enumerate(value):
                _check_values(inner, f"{name}.{number}", path)
            return
        case int() if abs(value) >= 2**63:
            mistake = f"a number of {value.bit_length()} bits is not allowed, must be below 2^63"
        case float() if not math.isfinite(value):
            mistake = f"{value} is not allowed, must be a finite number"
        case float() if str(value) == "-0.0":
            mistake = "-0.0 is not allowed, must be 0"
        case None | str() | int() | float():
            return
        case _:
            mistake = f"{value} is a {type(value).__name__}; allowed are numbers, lists, blocks, and texts (in quotes)"
    raise InputError(f"{path}: {one_line(name)}: {one_line(mistake)}")
