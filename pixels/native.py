"""pixels/native.c as functions: compiled once by the machine's C compiler, kept in the user's cache folder."""

import ctypes
import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from imagedb.images import MAX_PIXELS
from pixels.views import View

SOURCE = Path(__file__).with_name("native.c")
COMPILER = "cc"
# Exact integers and no contraction of floating-point operations: every compiler makes the same results.
OPTIONS = ("-std=gnu11", "-O3", "-mavx2", "-ffp-contract=off", "-shared", "-fPIC")
LIBRARIES = ("-ljpeg",)


class _Box(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("left", "top", "right", "bottom")]


class _Rectangle(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("left", "top", "width", "height")]


def jpeg_size(image: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG file that `jpeg_pixels` can decode: 8 bits, grey or YCbCr; None for anything else.

    One that claims more than MAX_PIXELS is something else, so that `decode_image` refuses it.
    """
    size = (ctypes.c_int32 * 2)()
    failed = _library().jpeg_size(image, ctypes.c_size_t(len(image)), size)
    return None if failed or not 0 < size[0] * size[1] <= MAX_PIXELS else (size[0], size[1])


def jpeg_pixels(image: bytes, view: View, size: int) -> np.ndarray:
    """A view of a JPEG file, uint8 [3, size, size], as full-range YCbCr; what a truncated file lacks is grey.

    Raises:
        ValueError: if the file cannot be decoded.
    """
    out = _canvas(view, size, (0, 128, 128))
    call = _library().jpeg_pixels
    _check(call(image, ctypes.c_size_t(len(image)), view.reduce, *_arguments(view), size, _pointer(out)))
    return out


def rgb_pixels(picture: np.ndarray, view: View, size: int) -> np.ndarray:
    """A view of a decoded picture, uint8 [height, width, 3], as uint8 [3, size, size]; colours stay what they are."""
    out = _canvas(view, size, (0, 0, 0))
    picture = np.ascontiguousarray(picture)
    height, width, _ = picture.shape
    _check(_library().rgb_pixels(_pointer(picture), width, height, *_arguments(view), size, _pointer(out)))
    return out


def mean_color(pixels: np.ndarray) -> np.ndarray:
    """The mean of each channel of uint8 [3, H, W], float64 [3]."""
    sums = np.empty(3, np.uint64)
    _library().sum_colors(_pointer(pixels), pixels[0].size, _pointer(sums))
    return sums / pixels[0].size


def map_colors(pixels: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> None:
    """Replace each colour x of uint8 [3, H, W] by (matrix x + offset) >> 16, clipped; int32 [3, 3] and [3]."""
    matrix, offset = np.ascontiguousarray(matrix, np.int32), np.ascontiguousarray(offset, np.int32)
    _library().map_colors(_pointer(pixels), pixels[0].size, _pointer(matrix), _pointer(offset))


def _canvas(view: View, size: int, black: tuple[int, int, int]) -> np.ndarray:
    out = np.empty((3, size, size), np.uint8)
    if view.target != (0, 0, size, size):
        out[:] = np.array(black, np.uint8)[:, None, None]
    return out


def _arguments(view: View) -> tuple:
    return ctypes.byref(_Box(*view.box)), int(view.clipped), ctypes.byref(_Rectangle(*view.target)), int(view.flip)


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _check(result: int) -> None:
    if result == -2:
        raise MemoryError
    if result:
        raise ValueError("the image cannot be decoded: damaged JPEG data")


@cache
def _library() -> ctypes.CDLL:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vargconvnet-int8"
    key = hashlib.sha256(repr((SOURCE.read_bytes(), COMPILER, OPTIONS, LIBRARIES)).encode()).hexdigest()[:16]
    path = folder / f"pixels-{key}.so"
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # not there, or of another system
        folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as temporary:
        made = Path(temporary, path.name)
        command = [COMPILER, *OPTIONS, str(SOURCE), "-o", str(made), *LIBRARIES]
        install = "install a C compiler and libjpeg-turbo's header, such as by apt install gcc libjpeg-dev"
        try:
            compiled = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        except FileNotFoundError:
            raise OSError(f"there is no C compiler {COMPILER!r}; {install}") from None
        if compiled.returncode:
            lines = compiled.stderr.splitlines()
            reason = next((line for line in lines if "error" in line or "cannot find" in line), "").strip()
            raise OSError(f"{SOURCE.name} cannot be compiled: {reason}; {install}")
        made.replace(path)  # others may do the same at the same time
    return ctypes.CDLL(str(path))
