"""Compiles pixels/native.c for the environment of this Python, as `make setup` does.

python -m pixels.build_native

The result is an extension module in site-packages, shared by all checkouts that use the environment. Its name holds a
digest of everything that it is made from, so no checkout loads a module that was made from other source. Its last 32
bytes are the SHA-256 of those before: a module that is cut short would end the process without a word.
"""

import hashlib
import importlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

from cffi import FFI

from storage.files import sync

SOURCE = Path(__file__).with_name("native.c")
FOLDER = Path(sysconfig.get_path("platlib"))
PREFIX = "_pixels_native_"  # start of the module's name
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
SEAL = 32  # bytes at the end of the file
COMPILER = "cc"
# Without contraction of floating-point operations, every compiler gives the same results.
OPTIONS = ("-std=gnu11", "-O3", "-mavx2", "-ffp-contract=off", "-shared", "-fPIC")
LIBRARIES = ("-ljpeg", "-lm")
INSTALL = (
    "install a C compiler and the headers of Python and libjpeg-turbo, such as by "
    "apt install gcc python3.11-dev libjpeg-dev"
)
INTERFACE = """
typedef struct { double left, top, right, bottom; } Box;
typedef struct { int32_t left, top, width, height; } Rectangle;
typedef struct {
    const uint8_t *data; size_t bytes; int32_t width, height; Box box; Rectangle target;
    int32_t clipped, reduce, flip, cubic;
} Picture;
typedef struct { int32_t mapped; int32_t matrix[9]; double offset[3], of_mean[9]; } Colors;
void jpeg_sizes(const uint8_t *const *data, const size_t *bytes, int32_t count, int32_t max_scans, int32_t *sizes);
int render_pictures(const Picture *pictures, const Colors *colors, int32_t count, int32_t size, uint8_t *out,
                    int32_t *done);
int resize_rgb(const uint8_t *picture, int32_t width, int32_t height, int32_t new_width, int32_t new_height,
               uint8_t *out);
void map_colors(uint8_t *pixels, int32_t count, const int32_t matrix[9], const int32_t offset[3]);
typedef struct { uint32_t state[624]; int32_t next; } Random;
void seed_random(Random *random, uint32_t seed);
float draw_uniform(Random *random, float low, float high);
int64_t draw_integer(Random *random, int64_t count);
int draw_chance(Random *random, float probability);
"""


def main() -> None:
    try:
        build()
    except OSError as error:
        sys.exit(f"error: {error}")


def load() -> ModuleType:
    """The compiled module, with cffi's `ffi` and `lib`.

    Raises:
        OSError: If it has not been built, was built from other source, or cannot be loaded.
    """
    name = _module_name()
    file = FOLDER / (name + SUFFIX)
    if not file.exists():
        state = "has changed since it was built" if any(FOLDER.glob(f"{PREFIX}*")) else "has not been built"
        raise OSError(f"pixels/native.c {state}: run make setup")
    content = file.read_bytes()
    try:
        if _seal(content[:-SEAL]) != content[-SEAL:]:
            raise ImportError(f"{file} is damaged")
        return importlib.import_module(name)
    except ImportError as error:
        rebuild = "touch pixels/native.c and run make setup"
        raise OSError(f"the module built from pixels/native.c cannot be loaded: {error}; {rebuild}") from None


def build() -> None:
    """Compile the module unless it can already be loaded; it appears whole or not at all.

    Raises:
        OSError: If the compiler or something that it needs is missing, or the module cannot be written.
    """
    try:
        load()
        return
    except OSError:
        FOLDER.mkdir(parents=True, exist_ok=True)
    name = _module_name()
    ffi = FFI()
    ffi.cdef(INTERFACE)
    ffi.set_source(name, SOURCE.read_text(encoding="utf-8"), compiler_verbose=False)
    with TemporaryDirectory(dir=FOLDER, prefix=".") as temporary:
        made = Path(temporary, "made.so")
        generated = made.with_suffix(".c")
        ffi.emit_c_code(str(generated))
        _compile(generated, made)
        content = made.read_bytes()
        made.write_bytes(content + _seal(content))
        sync(made)
        made.replace(FOLDER / (name + SUFFIX))  # in one step, because other processes may do the same
        sync(FOLDER)
    importlib.invalidate_caches()
    load()


def _compile(source: Path, product: Path) -> None:
    include = f"-I{sysconfig.get_path('include')}"
    command = [COMPILER, *OPTIONS, include, str(source), "-o", str(product), *LIBRARIES]
    try:
        compiled = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError:
        raise OSError(f"there is no C compiler {COMPILER!r}; {INSTALL}") from None
    if compiled.returncode:
        lines = compiled.stderr.splitlines()
        reason = next((line for line in lines if "error" in line or "cannot find" in line), "").strip()
        raise OSError(f"pixels/native.c cannot be compiled: {reason}; {INSTALL}")


def _seal(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _module_name() -> str:
    parts = SOURCE.read_bytes(), INTERFACE, COMPILER, OPTIONS, LIBRARIES
    return PREFIX + hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
