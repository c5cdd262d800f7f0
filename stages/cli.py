"""What every stage script does at its edge: one clear line for a mistake, and files that are whole or absent."""

import csv
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MISTAKES = "STAGE_MISTAKES"  # in the environment of processes that stages.launch has started: a folder to say them in


def run(main: Callable[[], None]) -> None:
    """Call `main`; a mistake in the input (ValueError, OSError) becomes one line on stderr and exit code 1.

    TRACEBACK=1 in the environment shows where it was raised.
    """
    mistakes = os.environ.get(MISTAKES)
    try:
        main()
    except (ValueError, OSError) as error:
        shared = None if isinstance(error, (ConnectionError, TimeoutError)) else mistakes  # another process is gone
        if shared:
            Path(shared, f"{os.environ['RANK']}.txt").write_text(str(error))
        if os.environ.get("TRACEBACK") == "1":
            raise
        sys.exit(1 if shared else f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        if mistakes and any(Path(mistakes).glob("*.txt")):
            sys.exit(1)  # a process is gone because of its mistake
        raise


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Keep other processes from doing the same: what is in the block writes to `folder`.

    Raises:
        ValueError: if another process is in such a block.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is writing {folder}; wait for its end, or stop it") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it if the block ends well, and is removed if it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, value: dict) -> None:
    """Write `value` as indented JSON with a final newline, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def write_csv(path: str | Path, rows: Iterable[Sequence]) -> None:
    """Write `rows`, the first of them the header, whole or not at all."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def runs_folder() -> Path:
    """Where things go that are kept in neither git nor DVC: checkpoints for going on, speeds; RUNS_DIR moves it.

    DVC_ROOT is the repository, where DVC runs an experiment of the queue in a temporary copy of it.
    """
    return Path(os.environ.get("RUNS_DIR") or Path(os.environ.get("DVC_ROOT", ""), "runs"))


def require(path: str | Path, made_by: str) -> Path:
    """`path` if it exists.

    Raises:
        FileNotFoundError: naming the file and the command that makes it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; `{made_by}` makes it")
    return path
