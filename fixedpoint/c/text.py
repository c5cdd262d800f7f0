"""Pieces of C: the block of activations, lists, arrays and comments."""

import re
from collections.abc import Iterable

import numpy as np

WIDTH = 116  # columns of a line of numbers or of a comment

MEMORY = """\
/* All tensors between input and logits, each at its offset. */
static int8_t arena[NETWORK_ACTIVATION_BYTES];

#ifdef NETWORK_TRACE
#define TRACE(index, name, channels, height, width, bytes, values) \\
    network_trace(index, name, (const int32_t[]){channels, height, width}, bytes, values)
#else
#define TRACE(index, name, channels, height, width, bytes, values) ((void)0)
#endif"""


def braces(values: Iterable[object]) -> str:
    """A list of initial values."""
    return f"{{{', '.join(map(str, values))}}}"


def c_array(declaration: str, value: np.ndarray) -> str:
    """The definition of an array, many numbers per line."""
    numbers = ",".join(map(str, value.ravel().tolist()))
    lines = re.findall(rf".{{1,{WIDTH}}}(?:,|$)", numbers)
    return "\n".join([f"{declaration} = {{", *lines, "};"])


def comment(text: str) -> str:
    """`text` without what would begin or end a comment, or continue it on another line."""
    plain = re.sub(r"[^\x20-\x7e]", "?", text)
    return plain.replace("*/", "* /").replace("/*", "/ *")
