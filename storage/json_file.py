"""Reading JSON that may be damaged or hostile: what is wrong with it is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.errors import InputError

MAX_DEPTH = 100  # maps and lists in each other; the readers' own recursion and msgpack bear more


def parse_json(text: str | bytes, where: str | Path, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """The value of a JSON text (bytes: UTF-8, UTF-16 or UTF-32, also with a byte order mark).

    Args:
        text: the text.
        where: its file, and perhaps its line, for the message.
        object_hook: as in `json.loads`.

    Raises:
        InputError: if it is not JSON, or nested deeper than MAX_DEPTH.
    """
    try:
        value = json.loads(text, object_hook=object_hook)
    except RecursionError:
        raise _too_deep(where) from None
    except ValueError as error:  # also wrong UTF-8, and an integer of thousands of digits
        raise InputError(f"{where}: {error}") from None
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        containers = [each for each in level if isinstance(each, (dict, list))]
        level = [child for each in containers for child in (each.values() if isinstance(each, dict) else each)]
        if not level:
            return value
    raise _too_deep(where)


def read_json(path: str | Path, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """The value of a JSON file; see `parse_json`.

    Raises:
        OSError: if the file cannot be read.
        InputError: if it is not a file, not JSON, or nested deeper than MAX_DEPTH; names the file.
    """
    if not Path(path).is_file() and Path(path).exists():  # a FIFO would never end
        raise InputError(f"{path} is not a file, JSON is expected there")
    return parse_json(Path(path).read_bytes(), path, object_hook)


def _too_deep(where: str | Path) -> InputError:
    return InputError(f"{where}: maps and lists are nested too deep, allowed: {MAX_DEPTH}")
