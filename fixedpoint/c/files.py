"""The files of this folder that the C form of a program is made of, under another name than `network`."""

import re
from pathlib import Path

from fixedpoint.errors import QuantizationError

FOLDER = Path(__file__).parent
NAME = "network"
LIBRARY = ("stdint", "stdio", "stdlib", "string")  # whose headers the C form includes


def check_name(name: str) -> None:
    """Refuse a name that cannot begin names of files, functions and macros.

    Raises:
        QuantizationError: If it is so.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or name in LIBRARY:
        raise QuantizationError(
            f"the name of the C form must be up to 40 lower-case letters, digits and _, begin with a letter, and be no "
            f"header of C's library, unlike {name!r:.80}"
        )


def file_name(file: str, name: str) -> str:
    """What a file of the form `name` is called that is `file` by default."""
    stem, suffix = file.split(".")
    return f"{name}.{suffix}" if stem == NAME else file if name == NAME else f"{name}_{file}"


def named(text: str, name: str) -> str:
    """C with the names of the form `name`: its files, functions, arrays and macros."""
    text = re.sub(r"\b(main|selfcheck)\.c\b", lambda file: file_name(file[0], name), text)
    return re.sub(rf"\b{NAME}(?=_|\.[ch]\b)", name, text).replace(f"{NAME.upper()}_", f"{name.upper()}_")


def read(file: str, name: str) -> str:
    """The text of a file of this folder with the names of the form `name`."""
    return named((FOLDER / file).read_text(encoding="utf-8"), name)


def kernels(text: str) -> list[str]:
    """The first block of kernels.c, then the definitions that `text` uses and those that these use."""
    first, *definitions = (FOLDER / "kernels.c").read_text(encoding="utf-8").strip().split("\n\n")
    used: list[str] = []
    for definition in reversed(definitions):
        names = re.findall(r"^(?:static .*?(\w+\()|(struct \w+) {|enum { (\w+))", definition, re.MULTILINE)
        if re.search(rf"\b{re.escape(''.join(names[0]))}", text):
            used.insert(0, definition)
            text += definition
    return [first, *used]
