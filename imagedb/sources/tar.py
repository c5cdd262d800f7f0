"""Walking through a tar archive, which may be damaged or lie, without extracting it."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from storage.errors import InputError, shown

PADDING = 2**20  # bytes; most zeros at the end of an archive, more than any tar program writes
MAX_HEADER = 2**20  # bytes of a PAX header
KINDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.GNUTYPE_LONGNAME: "a long name",
    tarfile.GNUTYPE_LONGLINK: "a long name",
}
CHANGING = (b" path=", b" size=", b" GNU.sparse.")  # records of a PAX header that change the file that follows


def members(file: BinaryIO, start: int, end: int, where: str | Path) -> Iterator[tuple[str, int, int]]:
    """The name (without folders), offset and size in bytes of each file in the tar archive file[start:end].

    Unlike tarfile, which treats a damaged header as the end of the archive and follows links, this gives all members or
    raises. Nothing is extracted, so that a name never becomes a path.

    Raises:
        InputError: if the archive is damaged, or holds anything but files and folders.
    """
    offset = start
    while True:
        file.seek(offset)
        try:
            block = file.read(min(tarfile.BLOCKSIZE, end - offset))
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            if end - offset > PADDING or file.read(end - offset - tarfile.BLOCKSIZE).strip(b"\0"):
                raise InputError(f"{where} is damaged: data follow its end at byte {offset - start}") from None
            return
        except tarfile.HeaderError:
            state = "truncated" if end - offset < tarfile.BLOCKSIZE else "damaged"
            raise InputError(f"{where} is {state}: no tar header at byte {offset - start} of {end - start}") from None
        offset += tarfile.BLOCKSIZE
        if header.size < 0:
            raise InputError(f"{where} is damaged: {shown(header.name)} has {header.size} bytes")
        if offset + header.size > end:
            raise InputError(f"{where} is truncated: {header.name} extends beyond its {end - start} bytes")
        if header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
            _check_pax(file.read(min(header.size, MAX_HEADER)), header.size, where)
        elif header.isreg() and header.type != tarfile.GNUTYPE_SPARSE:
            yield header.name.rpartition("/")[2], offset, header.size
        elif not header.isdir():
            kind = KINDS.get(header.type, f"of type {header.type!r}")
            raise InputError(f"{where} holds {shown(header.name)}, {kind}; expected files and folders")
        offset += -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _check_pax(records: bytes, size: int, where: str | Path) -> None:
    """Raise InputError for a PAX header with another name or size of the next file; times and owners do not matter."""
    if size > MAX_HEADER or any(record in records for record in CHANGING):
        raise InputError(f"{where} has a PAX header with a name, a size or sparse data; expected a plain tar file")
