"""Reading the files of sources, which may be anything and of any size."""

import gzip
import stat
import zlib
from pathlib import Path, PurePosixPath

from imagedb.limits import MAX_BYTES
from storage.errors import InputError, shown

CHUNK = 2**20
KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_file(path: Path, longest: int = MAX_BYTES) -> int:
    """Make sure that `path` is a file, which ends, before it is opened.

    Returns:
        Its size in bytes.

    Raises:
        OSError: if it does not exist.
        InputError: if it is something else, or has more than `longest` bytes.
    """
    status = path.stat()
    kind = KINDS.get(stat.S_IFMT(status.st_mode))
    if kind:
        raise InputError(f"{path} is {kind}, a file is expected there")
    if status.st_size > longest:
        raise InputError(f"{path} has {status.st_size} bytes, allowed: {longest}")
    return status.st_size


def read_file(path: Path, longest: int = MAX_BYTES) -> bytes:
    """The contents of a file; raises as `check_file`."""
    size = check_file(path, longest)
    with path.open("rb") as file:
        return file.read(size)


def inflate(path: Path, longest: int = MAX_BYTES) -> bytes:
    """The contents of a gzip file, whose checksum is compared.

    Raises:
        OSError: if it cannot be read.
        InputError: if it is damaged, or has more than `longest` bytes when it is unpacked.
    """
    check_file(path)
    data = bytearray()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK):
                data += chunk
                if len(data) > longest:
                    raise InputError(f"{path} unpacks to more than {longest} bytes, which are allowed")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    return bytes(data)


def check_inside(name: str) -> None:
    """Make sure that a name that a file gives is that of a file below the folder it belongs to.

    Raises:
        InputError: if it is absolute, leads upwards, or cannot be the name of a file.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or not is_file_name(name):
        raise InputError(f"the file name {shown(name)} is not allowed, must be a path below the folder")


def is_file_name(name: str) -> bool:
    """Whether `name` can be a path, and be stored as UTF-8: it has no NUL and no half of a Unicode character."""
    return "\0" not in name and not any("\ud800" <= each <= "\udfff" for each in name)
