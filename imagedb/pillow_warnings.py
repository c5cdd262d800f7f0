"""What Pillow warns of while images are packed, as notes instead of two lines on stderr for each image."""

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import PIL
from PIL import Image

FOLDER = str(Path(PIL.__file__).parent)

_own = threading.local()


@contextmanager
def collecting() -> Iterator[None]:
    """A block in which the warnings of Pillow in every thread are kept for `collected`; others are shown as before."""

    def keep(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if filename.startswith(FOLDER):
            words = re.sub(r"\d+", "N", " ".join(str(message).split()))
            vars(_own).setdefault("notes", []).append(f"Pillow: {words[:100]}")
        else:
            show(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        show, warnings.showwarning = warnings.showwarning, keep
        warnings.filterwarnings("always", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # up to limits.MAX_PIXELS is no bomb
        yield


def collected() -> list[str]:
    """What Pillow has warned of in this thread since the last call, with N in place of numbers."""
    return vars(_own).pop("notes", [])
