"""Names of operations: which are allowed, and what they become in names of files.

A name comes from a network or a model file, and goes into C, ONNX and .tflite files and into names of files.
"""

import re
from collections.abc import Container
from itertools import count
from urllib.parse import quote

from fixedpoint.errors import QuantizationError

INPUT = "input"
OUTPUT = "logits"  # as writers call the last tensor, beside that of the operation that computes it
ALLOWED = "[A-Za-z0-9._/:-]"
# A file system allows 255 bytes; the rest is for suffixes, such as those of sums that become several operations.
LONGEST, LONGEST_STEM = 200, 150


def check_name(name: object, taken: Container[str]) -> None:
    """Refuse the name of an operation that is not allowed, or that another tensor has.

    Raises:
        QuantizationError: If it is so; names it.
    """
    if not isinstance(name, str) or not re.fullmatch(f"{ALLOWED}+", name) or len(file_stem(name)) > LONGEST:
        shown = ascii(name)[:80] if isinstance(name, str) else type(name).__name__
        raise QuantizationError(
            f"the name of an operation must be at most {LONGEST} letters, digits and . _ - / : (the latter two count "
            f"threefold), not {shown}"
        )
    if name == INPUT or name in taken:
        raise QuantizationError(f"two tensors have the name {name}")


def allowed_name(path: str, taken: Container[str]) -> str:
    """An allowed name that is not taken, for a module: its path, if that is one.

    Other characters become `_`, a slash among them, since parts of a tensor in files are `<name>/<part>`; a long path
    is cut.
    """
    stem = re.sub(r"[^A-Za-z0-9._:-]", "_", path)[:LONGEST_STEM]
    numbered = (f"{stem}_{i}" if i else stem for i in count())
    return next(name for name in numbered if name not in (INPUT, OUTPUT) and name not in taken)


def file_stem(name: str) -> str:
    """The name of the file that holds the tensor `name`, without its suffix: `name` if that is plain.

    No two names have the same, and it has no part of a path; `urllib.parse.unquote` gives the name back.
    """
    return quote(name, safe="")
