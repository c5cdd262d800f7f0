"""The structure of PNG files (PNG specification, third edition, sections 5 and 11)."""

import struct
import zlib
from collections.abc import Sequence

from imagedb.exif import orientation_note
from imagedb.limits import check_size
from storage.errors import InputError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the type of colour
GREY = (0, 4)
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
PART = 2**16  # bytes that are decompressed at once


def read_png(data: bytes) -> tuple[bytes, list[str]]:
    """Check the chunks of a PNG file and their checksums.

    Returns:
        The file without all that its pixels do not depend on, such as text, profiles and transparency; and any of the
        notes "grey", "16-bit", "animated" and "EXIF orientation".

    Raises:
        InputError: if the file is truncated or damaged, or has more than MAX_PIXELS.
    """
    notes, parts, at, kind = [], [SIGNATURE], len(SIGNATURE), b""
    seen: set[bytes] = set()
    while kind != b"IEND":
        if len(data) < at + 12:
            raise InputError("a truncated PNG file: it has no end chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if len(data) < end + 4:
            raise InputError(f"a truncated PNG file: chunk {_name(kind)} is not whole")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise InputError(f"a damaged PNG file: the checksum of chunk {_name(kind)} is wrong")
        if (kind == b"IHDR") == bool(seen) or (kind == b"IHDR" and length != 13):
            raise InputError("a damaged PNG file: it does not begin with one header of 13 bytes")
        seen.add(kind)
        if kind == b"IHDR":
            width, height, bits, color = struct.unpack_from(">IIBB", data, at + 8)
            check_size(width, height)
            notes += ["16-bit"] * (bits == 16) + ["grey"] * (color in GREY)
        elif kind == b"acTL":
            notes.append("animated")
        elif kind == b"eXIf":
            notes += orientation_note(b"Exif\0\0" + data[at + 8 : end])
        if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            parts.append(data[at : end + 4])
        at = end + 4
    if b"IDAT" not in seen:
        raise InputError("a damaged PNG file: it has no pixels")
    return b"".join(parts), notes


def _name(kind: bytes) -> str:
    """A chunk's kind, four letters or nonsense, for a message."""
    return repr(kind)[2:-1]


def check_pixels(data: bytes) -> None:
    """Make sure that the compressed pixels of a file that `read_png` has returned are whole.

    A decoder gives black where compressed pixels end too early, if their checksum is right.

    Raises:
        InputError: if they are damaged or too few.
    """
    width, height, bits, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if color not in CHANNELS:
        raise InputError(
            f"a damaged PNG file: it has colours of type {color}, allowed: {', '.join(map(str, CHANNELS))}"
        )
    missing = _filtered_size(width, height, bits * CHANNELS[color], ADAM7 if interlaced else [(0, 0, 1, 1)])
    stream, at = zlib.decompressobj(), len(SIGNATURE)
    try:
        while missing >= 0 and not stream.eof and at < len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            for start in range(at + 8, at + 8 + length, PART) if kind == b"IDAT" else ():
                rest = data[start : min(start + PART, at + 8 + length)]
                while rest and missing >= 0:
                    missing -= len(stream.decompress(rest, PART))
                    rest = stream.unconsumed_tail
            at += 12 + length
    except zlib.error as error:
        raise InputError(f"a damaged PNG file: its pixels cannot be decompressed: {error}") from None
    if missing > 0 or (missing == 0 and not stream.eof):
        raise InputError("a truncated PNG file: its compressed pixels end too early")


def _filtered_size(width: int, height: int, bits: int, passes: Sequence[tuple[int, int, int, int]]) -> int:
    """Bytes of all rows of `bits` a pixel, each with the byte of its filter; `passes` begin at x, y and step over."""
    sizes = ((-((x - width) // across), -((y - height) // down)) for x, y, across, down in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)
