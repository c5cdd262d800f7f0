"""The structure of JPEG files (ITU-T T.81, annex B)."""

import re
import struct

from imagedb.exif import orientation_note
from imagedb.limits import MAX_SCANS, check_size
from storage.errors import InputError

SIGNATURE, END = b"\xff\xd8\xff", b"\xff\xd9"
SOF, SOS, EOI, APP1 = 0xC0, 0xDA, 0xD9, 0xE1
METADATA = {*range(APP1, 0xEE), 0xEF, 0xFE}  # APPn and comments, but not JFIF and Adobe, which tell the colours
ALONE = {0x01, 0xD8}  # markers without a segment
AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # a marker behind coded pixels, which hold FF00 and restarts


def read_jpeg(data: bytes, tolerant: bool = False) -> tuple[bytes, list[str]]:
    """Check the structure of a JPEG file: all up to the first scan, the number of scans, and the end.

    Args:
        tolerant: whether the end may be missing.

    Returns:
        The file without metadata, and any of the notes "grey", "CMYK" and "EXIF orientation".

    Raises:
        InputError: if the file is damaged there, truncated, of another kind than 8 bits and SOF0 to SOF2, or has more
            than MAX_PIXELS or MAX_SCANS.
    """
    notes, parts, at, frame, components = [], [data[:2]], 2, 0, 0
    while True:
        if len(data) < at + 4 or data[at] != 0xFF:
            raise InputError("a JPEG file that is truncated or damaged before its first scan")
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == SOS:
            break
        if SOF <= marker <= SOF + 15 and marker not in (0xC4, 0xC8, 0xCC):
            if length < 8 or len(data) < at + 10:
                raise InputError("a JPEG file with a damaged frame header")
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            if bits != 8 or marker > SOF + 2:
                raise InputError(f"a JPEG file of {bits} bits and kind SOF{marker - SOF}, allowed: 8 bits, SOF0 to 2")
            check_size(width, height)
            frame = marker
        if marker == APP1 and data.startswith(b"Exif\0\0", at + 4):
            notes += orientation_note(data[at + 4 : at + 2 + length])
        if marker not in METADATA:
            parts.append(data[at : at + 2 + length])
        at += 2 + length
    if not frame:
        raise InputError("a JPEG file without a frame header")
    if frame == SOF + 2 or data[at + 4 : at + 5] != bytes([components]):  # otherwise one scan has all pixels
        _check_scans(data, at)
    if not (tolerant or data.endswith(END) or data.find(END, at) >= 0):
        raise InputError("a truncated JPEG file: it has no end marker")
    notes += {1: ["grey"], 4: ["CMYK"]}.get(components, [])
    return b"".join([*parts, data[at:]]), notes


def _check_scans(data: bytes, at: int) -> None:
    """Count the scans from the marker at `at` on."""
    scans = 0
    while found := AFTER_SCAN.search(data, at):
        at, marker = found.end(), found[0][1]
        scans += marker == SOS
        if scans > MAX_SCANS:
            raise InputError(f"a JPEG file of more than {MAX_SCANS} scans")
        if marker == EOI or len(data) < at + 2:
            return
        if marker not in ALONE:
            at += int.from_bytes(data[at : at + 2], "big")
