"""What counts of a module: its syntax tree without docstrings, what it imports, and the strings in it."""

import ast
import hashlib
from functools import cache
from typing import NamedTuple


class Facts(NamedTuple):
    """The digest of a module's syntax tree, the names that it imports (dots before relative ones), and its strings."""

    digest: str
    imports: frozenset[str]
    strings: frozenset[str]


@cache
def facts(text: str) -> Facts:
    """What counts of a module.

    Raises:
        SyntaxError: If the text is no Python.
    """
    tree, imports, strings = ast.parse(text), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
        elif isinstance(node, ast.JoinedStr):
            node.values = [part for part in node.values if getattr(part, "value", None) != ""]  # of Python 3.12
        elif isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = f"{'.' * node.level}{node.module + '.' if node.module else ''}"
            imports |= {f"{module}{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
    return Facts(hashlib.sha256(_dump(tree).encode()).hexdigest(), frozenset(imports), frozenset(strings))


def _dump(part: object) -> str:
    """A syntax tree as text, without the empty fields, in which versions of Python differ."""
    if isinstance(part, ast.AST):
        fields = ", ".join(f"{name}={_dump(value)}" for name, value in ast.iter_fields(part) if value not in (None, []))
        return f"{type(part).__name__}({fields})"
    return f"[{', '.join(map(_dump, part))}]" if isinstance(part, list) else repr(part)
