import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from imagedb.sources.matlab import plain_matlab
from storage.errors import InputError

HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def cell(inner, name=b""):
    """A matrix of class cell with one element."""
    head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, name)
    return element(14, head + inner)


def nested(depth):
    number = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"")
    matrix = element(14, number + element(9, struct.pack("<d", 7)))
    for level in range(depth - 1):
        matrix = cell(matrix, b"x" if level == depth - 2 else b"")
    return HEAD + matrix


@pytest.mark.parametrize("compressed", [False, True])
def test_files_of_scipy_say_the_same_afterwards(compressed):
    fields = {"a": np.arange(6.0).reshape(2, 3), "s": {"x": "text", "y": [1, 2]}, "c": np.array([["é", 7]], object)}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, fields, do_compression=compressed)
    plain = plain_matlab(buffer.getvalue(), 10_000)
    found, right = (scipy.io.loadmat(io.BytesIO(data)) for data in (plain, buffer.getvalue()))
    assert {key: repr(value) for key, value in found.items()} == {key: repr(value) for key, value in right.items()}


def test_depth_is_bounded():
    value = scipy.io.loadmat(io.BytesIO(plain_matlab(nested(20), 10_000)))["x"]
    for _ in range(19):
        value = value[0, 0]
    assert value == 7
    for depth in (21, 20_000):  # the latter ends the process in scipy
        with pytest.raises(InputError, match=r"^matrices are nested too deep, allowed: 20$"):
            plain_matlab(nested(depth), 10**7)


def test_sizes_are_bounded():
    data = HEAD + element(15, zlib.compress(bytes(10**7))).rstrip(b"\0")
    with pytest.raises(InputError, match=r"^more than 1000 bytes, which are allowed$"):
        plain_matlab(data, 1000)
    with pytest.raises(InputError, match=r"^more than 1000 bytes, which are allowed$"):
        plain_matlab(HEAD + element(14, bytes(1000)), 1000)


OTHERS = [b"", b"MATLAB 5.0 MAT-file", HEAD[:-2] + b"MI", HEAD + b"\0", HEAD + element(15, b"no zlib")]


@pytest.mark.parametrize("data", OTHERS)
def test_other_files_are_refused(data):
    with pytest.raises(InputError, match=r"^(not a MATLAB 5 file of a little-endian machine|damaged: .+)$"):
        plain_matlab(data, 1000)
