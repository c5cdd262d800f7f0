"""The entry point of every script, which turns what the user can mend into one line."""

import argparse
import atexit
import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fixedpoint.errors import QuantizationError
from storage.errors import InputError
from storage.printable import printable

MISTAKES = "STAGE_MISTAKES"  # environment variable of pipeline.launch: the folder in which its processes write mistakes
# What the owner of a file or a disk can mend; other errors of the system (EIO, ESTALE, ...) keep their traceback.
MENDABLE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EEXIST,
    errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE,
    errno.ENOMEM,
}  # fmt: skip
# How libraries say that memory or threads are short, where they do not raise a MemoryError.
LACKS_MEMORY = re.compile(
    r"(can't|cannot|failed to) allocate memory|out of memory|bad_?( )?alloc|_ALLOC_FAILED|can't start new thread|"
    "could not (create|execute) a primitive|failed to map segment",  # oneDNN, the loader of libraries
    re.I,
)
LOWER = {  # by the stage that lacks memory
    "pack": "machine.workers",
    "train_float": "machine.workers, batch_size (or raise train.accumulate)",
    "train_qat": "machine.workers, qat.batch_size (or raise qat.accumulate)",
    "calibrate": "calibrate.images, calibrate.refinement, calibrate.bias_correction, calibrate.reconstruction, "
    "validation.batch_size",
    "validate": "validation.batch_size",
    "compare": "compare.images, compare.intermediate_images, validation.batch_size",
    "golden": "golden.images",
    "report": "report.images, validation.batch_size",
    "quantize": "--images, --reconstruction, calibrate.refinement, calibrate.bias_correction, validation.batch_size",
}


def no_arguments(text: str | None) -> None:
    """Refuse the arguments of a script that takes none; --help prints `text`, its docstring."""
    argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def run(main: Callable[[], None]) -> None:
    """Call `main`; what the user can mend becomes one line on stderr and exit code 1.

    That is an InputError, a QuantizationError, a lack of memory or threads, and an OSError of MENDABLE or with a
    message of ours (without errno). TRACEBACK=1 in the environment shows where it was raised. Other exceptions keep
    their traceback. It ends in silence, as by SIGPIPE, when nobody reads its output any more.
    """
    mistakes = os.environ.get(MISTAKES)
    _open_standard_files()
    if not gc.isenabled():  # since the imports began: what they have made stays
        gc.freeze()
        gc.enable()
    try:
        main()
        _flush()
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # after ^C
        sys.exit(130)
    except Exception as error:
        with suppress(OSError):
            _flush()
        if isinstance(error, BrokenPipeError) and "RANK" not in os.environ:
            sys.exit(128 + signal.SIGPIPE)
        lost = isinstance(error, (ConnectionError, TimeoutError))  # another process has ended
        if mistakes and any(Path(mistakes).glob("*.txt")):
            sys.exit(1)  # it has written the mistake that ended it
        if not mendable(error) and not (mistakes and lost):
            raise
        if mistakes and not lost:
            Path(mistakes, f"{os.environ['RANK']}.txt").write_text(message(error), encoding="utf-8")
        if os.environ.get("TRACEBACK") == "1":
            raise
        sys.exit(1 if mistakes and not lost else f"error: {message(error)}")


def _open_standard_files() -> None:
    """Open those that are closed (`>&-`): a database would get their number, and what libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _flush() -> None:
    """Write what was printed; what cannot be written is dropped, so that the end of Python does not try again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        error.filename = "standard output"
        raise


@atexit.register
def _end() -> None:
    """Leave nothing for the end of Python to write, which would say that nobody reads it (`--help | head -1`)."""
    with suppress(OSError, AttributeError, ValueError):  # it may be closed, or no file
        _flush()


def mendable(error: Exception) -> bool:
    """Whether the user can mend the cause; not so for the end of another process (ConnectionError, TimeoutError)."""
    if isinstance(error, OSError):
        lost = isinstance(error, (ConnectionError, TimeoutError))
        return error.errno in MENDABLE or (error.errno is None and not lost)
    return isinstance(error, (InputError, QuantizationError)) or _lacks_memory(error)


def message(error: Exception) -> str:
    """The line that tells the user what to mend; what a name in it holds, such as a line break, is escaped."""
    text = str(error)
    if _lacks_memory(error):
        stage = Path(sys.argv[0]).stem
        text = f"out of memory in {stage}: {text.partition(chr(10))[0] or 'the system gives no more'}"
        text += f"; lower {LOWER[stage]}" if stage in LOWER else ""
    return printable(text.strip(), None)


def _lacks_memory(error: Exception) -> bool:
    if isinstance(error, (InputError, QuantizationError, OSError)):
        return False
    return isinstance(error, MemoryError) or LACKS_MEMORY.search(str(error)) is not None
