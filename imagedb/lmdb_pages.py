"""Reads LMDB files without the LMDB library, which trusts every page: a damaged one can kill the process there.

Pages are read with pread, and every number in them is checked. So damage is an InputError, nothing is mapped into
memory, and any thread or forked process may read. The layout is that of mdb.c, data version 1, as it is written by
64-bit little-endian machines: two meta pages, of which the later transaction counts, and a B+ tree of branch and leaf
pages. A value that is too long for a leaf lies in overflow pages.
"""

import os
import struct
from array import array
from bisect import bisect_left, bisect_right
from pathlib import Path

from storage.errors import InputError

MAGIC, VERSION = 0xBEEFC0DE, 1
PAGE = struct.Struct("<QHHHH")  # MDB_page: number, padding, flags, end of the nodes' offsets, start of the nodes
TREE = "IHH5Q"  # MDB_db: padding (of the first tree: the size of a page), flags, depth, 3 counts, entries, root
META = struct.Struct(f"<IIQQ{TREE}{TREE}QQ")  # MDB_meta: magic, version, address, size, trees, last page, transaction
NODE = struct.Struct("<HHHH")  # MDB_node: size of the value (low, high), flags, size of the key
NUMBER = struct.Struct("<Q")
BRANCH, LEAF, OVERFLOW, META_PAGE = 1, 2, 4, 8  # kinds of a page, the lowest bits of its flags
BIG = 1  # flag of a node whose value is the number of an overflow page
NO_ROOT = 2**64 - 1
MAX_DEPTH = 32  # LMDB's own
PAGE_SIZES = [2**power for power in range(8, 17)]


class LmdbFile:
    """The main tree of the LMDB file `path`, which stays open as long as this object.

    Attributes:
        entries: the number of entries.

    Raises:
        FileNotFoundError: if the file does not exist.
        InputError: if it is not a whole LMDB file.
    """

    def __init__(self, path: Path):
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file, an LMDB file is expected there")
        self._file = path.open("rb", buffering=0)
        self._branches: dict[int, tuple[list[bytes], array]] = {}  # few pages, and each record needs some
        self._size, self._page_size = os.fstat(self._file.fileno()).st_size, PAGE_SIZES[0]
        try:
            self._page_size, *_ = self._meta(0)
            metas = [self._meta(0), self._meta(1)]
        except InputError as error:
            raise InputError(f"{path} is not an LMDB file: {error}") from None
        _, self.entries, self._root, last, _ = max(metas, key=lambda meta: meta[-1])
        needed = (last + 1) * self._page_size
        if self._size < needed:
            raise InputError(f"{path} is truncated: {self._size} bytes of {needed}")

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None.

        Raises:
            InputError: if a page on the way to it is damaged.
        """
        number = self._root
        if number == NO_ROOT:
            return None
        try:
            for _ in range(MAX_DEPTH):
                if (branch := self._branches.get(number)) is None:
                    page = self._read(number * self._page_size, self._page_size)
                    found, _, flags, end, _ = PAGE.unpack_from(page)
                    offsets = memoryview(page)[PAGE.size : end & ~1].cast("H")
                    if found == number and flags & 0xF == LEAF:
                        return self._value(page, offsets, key)
                    if found != number or flags & 0xF != BRANCH or not offsets:
                        break
                    branch = self._branches[number] = _branch(page, offsets)
                keys, children = branch
                number = children[bisect_right(keys, key)]
        except (IndexError, struct.error):
            pass
        raise InputError(f"damaged: page {number} of LMDB")

    def _value(self, page: bytes, offsets: memoryview, key: bytes) -> bytes | None:
        index = bisect_left(offsets, key, key=lambda at: _key(page, at))
        if index == len(offsets) or _key(page, offsets[index]) != key:
            return None
        at = offsets[index]
        low, high, flags, _ = NODE.unpack_from(page, at)
        size, start = low | high << 16, at + NODE.size + len(key)
        if flags == 0 and start + size <= len(page):
            return page[start : start + size]
        if flags != BIG:
            raise struct.error
        (number,) = NUMBER.unpack_from(page, start)
        pages = self._read(number * self._page_size, PAGE.size + size)
        found, _, kind, _, _ = PAGE.unpack_from(pages)
        if found != number or kind & 0xF != OVERFLOW:
            raise struct.error
        return pages[PAGE.size :]

    def _meta(self, number: int) -> tuple[int, int, int, int, int]:
        """The size of a page; the number of entries, the root, the last page and the transaction of a meta page."""
        head = self._read(number * self._page_size, PAGE.size + META.size)
        found, _, kind, _, _ = PAGE.unpack_from(head)
        magic, version, _, _, size, *_, flags, _, _, _, _, entries, root, last, transaction = META.unpack_from(
            head, PAGE.size
        )
        if (found, kind & 0xF, magic, version) != (number, META_PAGE, MAGIC, VERSION) or size not in PAGE_SIZES:
            raise InputError(f"meta page {number} is damaged, or of another kind of file or machine")
        if flags:
            raise InputError(f"its tree has the flags {flags}, allowed: none (one value a key, keys in their order)")
        return size, entries, root, last, transaction

    def _read(self, start: int, size: int) -> bytes:
        if start + size > self._size or len(data := os.pread(self._file.fileno(), size, start)) != size:
            raise InputError(f"{size} bytes at {start} lie beyond its end")
        return data


def _branch(page: bytes, offsets: memoryview) -> tuple[list[bytes], array]:
    """The keys that separate the children of a branch page, and the numbers of the children's pages."""
    nodes = (NODE.unpack_from(page, at) for at in offsets)
    children = array("Q", [low | high << 16 | top << 32 for low, high, top, _ in nodes])
    return [_key(page, at) for at in offsets[1:]], children


def _key(page: bytes, at: int) -> bytes:
    start = at + NODE.size
    return page[start : start + (page[start - 2] | page[start - 1] << 8)]
