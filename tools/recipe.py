"""Put a recipe in place: params.yaml becomes recipes/fashion_mnist.yaml with the values of recipes/<name>.yaml.

python -m tools.recipe imagenet [--dry-run]

A recipe holds the keys that differ from the sample's, in the same blocks, under a comment on what it needs and
gives. Nothing of the old params.yaml stays: the same recipe gives the same file. Each value that changes is printed.
"""

import argparse
import sys
from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from itertools import takewhile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from pipeline.cli import run
from pipeline.params import check_params
from pipeline.paths import require
from pipeline.yaml_file import parse_yaml, read_yaml
from storage.errors import InputError
from storage.files import whole_file

PARAMS = Path("params.yaml")
RECIPES = Path("recipes")
BASE = RECIPES / "fashion_mnist.yaml"  # complete: the sample, as params.yaml is shipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of a file in recipes/, without .yaml")
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    arguments = parser.parse_args()
    text = recipe(arguments.name)
    before = read_yaml(PARAMS) if PARAMS.exists() else {}
    changes = difference(before if isinstance(before, dict) else {}, parse_yaml(text, PARAMS))
    print("\n".join(changes) or f"{PARAMS} has the values of {arguments.name}")
    if not arguments.dry_run:
        with whole_file(PARAMS) as partial:
            partial.write_text(text, encoding="utf-8")


def recipe(name: str) -> str:
    """The text of params.yaml with a recipe: the comment on its top, then the base's lines with its values.

    Raises:
        InputError: If there is no such recipe, or it has keys or values that params.yaml must not have.
    """
    path = RECIPES / f"{name}.yaml"
    if path not in (known := sorted(RECIPES.glob("*.yaml"))):
        raise InputError(f"no {path}; there are: {' '.join(each.stem for each in known)}")
    base, changes = read_yaml(require(BASE, "git restore recipes")), read_yaml(path)
    if not isinstance(changes, dict):
        raise InputError(f"{path} holds no parameters")
    check_params(values := merged(base, changes), path)
    text = BASE.read_text(encoding="utf-8")
    return head(path.read_text(encoding="utf-8")) + with_values(text, values).removeprefix(head(text))


def head(text: str) -> str:
    """The lines of comment that a YAML text begins with."""
    return "".join(takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes`; blocks in both are merged in turn."""
    both = {key: merged(base[key], new) for key, new in changes.items() if _are_blocks(base.get(key), new)}
    return base | changes | both


def with_values(text: str, values: dict[str, Any]) -> str:
    """A YAML text with other values for its keys; what does not change stays, to the byte."""
    pieces, end = [], 0
    for node, value in _changed(YAML(typ="safe", pure=True).compose(text), parse_yaml(text, BASE), values):
        pieces += [text[end : node.start_mark.index], written(value)]
        end = node.end_mark.index
    return "".join([*pieces, text[end:]])


def _changed(block: Node, old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[Node, Any]]:
    """Each node of a block whose value changes, in order, and the new value."""
    assert isinstance(block, MappingNode)
    for key, node in block.value:
        before, after = old[key.value], new[key.value]
        if _are_blocks(before, after) and not node.flow_style:
            yield from _changed(node, before, after)
        elif before != after:
            yield node, after


def difference(old: dict[str, Any], new: dict[str, Any], block: str = "") -> Iterator[str]:
    """`key: old -> new` of each value that differs."""
    for key in dict.fromkeys([*new, *old]):
        before, after = (written(values[key]) if key in values else "absent" for values in (old, new))
        if _are_blocks(old.get(key), new.get(key)):
            yield from difference(old[key], new[key], f"{block}{key}.")
        elif before != after:
            yield f"{block}{key}: {before} -> {after}"


def _are_blocks(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


class _OnOneLine(SafeRepresenter):
    """Writes floats without an exponent, which people and YAML 1.1 read alike, and texts on one line."""

    def float(self, value: float) -> ScalarNode:
        digits = f"{Decimal(repr(value)):f}"
        return self.represent_scalar("tag:yaml.org,2002:float", digits if "." in digits else f"{digits}.0")

    def text(self, value: str) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", value, '"' if "\n" in value else None)


_OnOneLine.add_representer(float, _OnOneLine.float)
_OnOneLine.add_representer(str, _OnOneLine.text)


def written(value: Any) -> str:
    """A value in YAML, on one line."""
    yaml, stream = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style, yaml.width, yaml.Representer = True, sys.maxsize, _OnOneLine
    yaml.dump(value, stream)
    return stream.getvalue().removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    run(main)
