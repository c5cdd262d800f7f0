"""Errors that tell the user what to change."""

from pathlib import Path


class InputError(ValueError):
    """An input, a parameter, a file or the machine does not allow what was asked for.

    The message is one line: what, where, and what is allowed. Scripts print it without a traceback. Any other exception
    is a fault of the program.
    """


def cannot_write(path: Path, error: BaseException) -> OSError:
    """An error that names the file; it keeps `errno`, by which a full disk differs from one that fails for a moment."""
    named = OSError(f"cannot write {path}: {error}")
    named.errno = getattr(error, "errno", None)
    return named


def shown(value: object, longest: int = 80) -> str:
    """`value` as Python writes it, in one line and cut if it is long, for a message."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."
