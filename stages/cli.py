"""What every stage script does at its edge: one clear line for a mistake, and files that are whole or absent."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path


def run(main: Callable[[], None]) -> None:
    """Call `main`; a mistake in the input (ValueError, OSError) becomes one line on stderr and exit code 1.

    TRACEBACK=1 in the environment shows where it was raised.
    """
    try:
        main()
    except (ValueError, OSError) as error:
        if os.environ.get("TRACEBACK") == "1":
            raise
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def whole_file(path: str | Path):
    """A temporary path beside `path` that replaces it if the block ends well, and is removed if it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, value: dict) -> None:
    """Write `value` as indented JSON with a final newline, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def runs_folder() -> Path:
    """Where things go that are kept in neither git nor DVC: checkpoints for going on, speeds; RUNS_DIR moves it."""
    return Path(os.environ.get("RUNS_DIR", "runs"))


def require(path: str | Path, made_by: str) -> Path:
    """`path` if it exists.

    Raises:
        FileNotFoundError: naming the file and the command that makes it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; `{made_by}` makes it")
    return path
