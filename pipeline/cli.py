"""The entry point of every script, which turns what the user can mend into one line."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from fixedpoint.errors import QuantizationError
from storage.errors import InputError

MISTAKES = "STAGE_MISTAKES"  # environment variable of pipeline.launch: the folder in which its processes write mistakes
# What the owner of a file or a disk can mend; other errors of the system (EIO, ESTALE, ...) keep their traceback.
MENDABLE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EEXIST,
    errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM,
}  # fmt: skip


def run(main: Callable[[], None]) -> None:
    """Call `main`; what the user can mend becomes one line on stderr and exit code 1.

    That is an InputError, a QuantizationError, a lack of memory, and an OSError of MENDABLE or with a message of ours
    (without errno). TRACEBACK=1 in the environment shows where it was raised. Other exceptions keep their traceback.
    """
    mistakes = os.environ.get(MISTAKES)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        lost = isinstance(error, (ConnectionError, TimeoutError))  # another process has ended
        if mistakes and any(Path(mistakes).glob("*.txt")):
            sys.exit(1)  # it has written the mistake that ended it
        if not mendable(error) and not (mistakes and lost):
            raise
        if mistakes and not lost:
            Path(mistakes, f"{os.environ['RANK']}.txt").write_text(message(error))
        if os.environ.get("TRACEBACK") == "1":
            raise
        sys.exit(1 if mistakes and not lost else f"error: {message(error)}")


def mendable(error: Exception) -> bool:
    """Whether the user can mend the cause; not so for the end of another process (ConnectionError, TimeoutError)."""
    if isinstance(error, OSError):
        lost = isinstance(error, (ConnectionError, TimeoutError))
        return error.errno in MENDABLE or (error.errno is None and not lost)
    return isinstance(error, (InputError, QuantizationError, MemoryError))


def message(error: Exception) -> str:
    """The line that tells the user what to mend."""
    if isinstance(error, MemoryError):
        return f"out of memory: {str(error) or 'the system gives no more'}"
    return str(error)
