"""LMDB files read without the library: the same values, and damage is named."""

import os
import random

import lmdb
import pytest

from imagedb.lmdb_pages import LmdbFile
from storage.errors import InputError


def write(path, entries, **options):
    with lmdb.open(str(path), subdir=False, lock=False, sync=False, map_size=2**28, **options) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in entries.items():
                transaction.put(key, value)
        return environment.stat()


@pytest.fixture
def entries():
    """Keys of 1 to 500 bytes, and values from none to many pages."""
    draw = random.Random(0)
    sizes = [0, 1, 7, 8, 300, 2000, 2030, 4096, 4080, 4081, 70_000]
    return {draw.randbytes(draw.choice([1, 3, 8, 100, 500])): draw.randbytes(draw.choice(sizes)) for _ in range(700)}


def test_every_key_gives_what_was_written_and_no_other_gives_anything(tmp_path, entries):
    stat = write(tmp_path / "a", entries)
    assert stat["depth"] >= 3
    file = LmdbFile(tmp_path / "a")
    assert file.entries == len(entries)
    assert all(file.get(key) == value for key, value in entries.items())
    others = [key[:-1] for key in entries] + [key + b"\0" for key in entries] + [b"", b"\0", b"\xff" * 511]
    assert all(file.get(key) is None for key in others if key not in entries)


def test_the_last_transaction_counts(tmp_path):
    write(tmp_path / "a", {b"a": b"old", b"b": b"b"})
    for number in range(3):
        write(tmp_path / "a", {b"a": b"%d" % number})
        assert LmdbFile(tmp_path / "a").get(b"a") == b"%d" % number


def test_empty_file_of_lmdb(tmp_path):
    write(tmp_path / "a", {})
    file = LmdbFile(tmp_path / "a")
    assert (file.entries, file.get(b"a")) == (0, None)


def test_several_values_of_a_key_are_refused(tmp_path):
    write(tmp_path / "a", {b"a": b""})
    with (tmp_path / "a").open("r+b") as file:
        for page in (0, 4096):
            file.seek(page + 16 + 24 + 48 + 4)  # after the head of the page, that of the meta data, the first tree
            file.write(b"\4")  # MDB_DUPSORT
    with pytest.raises(InputError, match=r"^.*/a is not an LMDB file: its tree has the flags 4, allowed: none"):
        LmdbFile(tmp_path / "a")


def test_file_that_shrinks_while_it_is_open_is_an_error_and_no_signal(tmp_path, entries):
    write(tmp_path / "a", entries)
    file = LmdbFile(tmp_path / "a")
    os.truncate(tmp_path / "a", 3 * 4096)
    with pytest.raises(InputError, match=r"^\d+ bytes at \d+ lie beyond its end$"):
        for key in entries:
            file.get(key)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_pages_give_values_or_one_kind_of_error(tmp_path, entries, seed):
    """Values may be wrong, which the CRC of a record tells; all else is an InputError."""
    draw = random.Random(seed)
    write(tmp_path / "a", entries)
    data = bytearray((tmp_path / "a").read_bytes())
    for page in range(0, len(data), 4096):
        for _ in range(2):
            data[page + draw.randrange(64)] ^= 1 << draw.randrange(8)
    data[:8192] = (tmp_path / "a").read_bytes()[:8192]
    (tmp_path / "a").write_bytes(data)
    file, refused = LmdbFile(tmp_path / "a"), 0
    for key in entries:
        try:
            file.get(key)
        except InputError:
            refused += 1
    assert refused > 0
