"""MATLAB files that scipy may load: its reader follows any depth until the stack ends, and inflates any size."""

import struct
import zlib

from storage.errors import InputError

HEAD, SIGN = 128, b"\0\1IM"  # bytes before the first element; the last of them: version 1.0, little-endian
ELEMENT = struct.Struct("<II")  # type and size
MATRIX, COMPRESSED = 14, 15  # miMATRIX, miCOMPRESSED ("MAT-File Format", MathWorks, section Level 5)
MAX_DEPTH = 20


def plain_matlab(data: bytes, longest: int) -> bytes:
    """A MATLAB 5 file with its compressed elements inflated.

    Raises:
        InputError: if it is of another kind or cut short, would have more than `longest` bytes, or holds matrices in
            each other deeper than MAX_DEPTH.
    """
    if data[HEAD - len(SIGN) : HEAD] != SIGN:
        raise InputError("not a MATLAB 5 file of a little-endian machine")
    plain, at = bytearray(data[:HEAD]), HEAD
    try:
        while at < len(data):
            kind, size = ELEMENT.unpack_from(data, at)
            end = at + ELEMENT.size + size
            if kind == COMPRESSED:
                plain += zlib.decompressobj().decompress(data[at + ELEMENT.size : end], longest)
            else:
                plain += data[at:end]
            if len(plain) > longest:
                raise InputError(f"more than {longest} bytes, which are allowed")
            at = end
    except (struct.error, zlib.error) as error:
        raise InputError(f"damaged: {error}") from None
    _check_depth(plain)
    return bytes(plain)


def _check_depth(data: bytearray) -> None:
    pending = [(HEAD, len(data), 0)]
    while pending:
        at, end, depth = pending.pop()
        while at + ELEMENT.size <= end:
            kind, size = ELEMENT.unpack_from(data, at)
            if kind == MATRIX:
                if depth == MAX_DEPTH:
                    raise InputError(f"matrices are nested too deep, allowed: {MAX_DEPTH}")
                pending.append((at + ELEMENT.size, min(at + ELEMENT.size + size, end), depth + 1))
            # an element of up to 4 bytes has its size in the upper half of its type, and the bytes in place of the size
            at += ELEMENT.size + (0 if kind >> 16 else size + -size % 8)
