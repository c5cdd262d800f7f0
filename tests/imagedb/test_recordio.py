import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from imagedb.record import Annotation, Header, Record
from imagedb.recordio import RecordIOReader, RecordIOWriter

MAGIC = b"\x0a\x23\xd7\xce"  # 0xced7230a, little-endian
# The image begins 24 bytes after the start of the data, so that it is aligned there as in itself.
IMAGES = {
    "empty": b"",
    "one byte": b"x",
    "four bytes": b"abcd",
    "only the magic": MAGIC,
    "magic first": MAGIC + b"abcde",
    "magic last": b"abcd" + MAGIC,
    "twice in a row": b"abcd" + MAGIC + MAGIC + b"efg",
    "three parts": MAGIC + b"abcdefgh" + MAGIC + b"i",
    "unaligned": b"a" + MAGIC + b"bcdef",
    "unaligned before aligned": b"ab" + MAGIC + b"cd" + MAGIC + b"ef",
    "cut short": b"abcd" + MAGIC[:3],
    "large": bytes(range(256)) * 1000 + b"end",
}
RECORDS = [Record(image, 7 * number, f"{name}/é {number}") for number, (name, image) in enumerate(IMAGES.items())]
HEADER = Header(len(RECORDS), ["ant", "bee"], "00ff", shard=(1, 2), kept=(3,), encoding={"type": "raw"})


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "train.recordio", RECORDS)


def write(path, records, header=HEADER):
    writer = RecordIOWriter(path)
    for record in records:
        writer.put(record, b"")
    writer.finish(header)
    writer.close()
    return path


def parts(data):
    """(flag, bytes) of each part of a file, by the layout in dmlc-core's documentation."""
    while data:
        assert data[:4] == MAGIC
        (word,) = struct.unpack("<I", data[4:8])
        length = word % 2**29
        padded = (length + 3) // 4 * 4
        assert len(data) >= 8 + padded
        assert data[8 + length : 8 + padded] == bytes(padded - length)
        yield word // 2**29, data[8 : 8 + length]
        data = data[8 + padded :]


def records(data):
    """The flags and the joined data of each record of a file."""
    flags, whole = [], b""
    for flag, part in parts(data):
        whole += MAGIC * (flag in (2, 3)) + part
        flags.append(flag)
        if flag in (0, 3):
            yield flags, whole
            flags, whole = [], b""
    assert not flags


def test_files_are_those_of_the_format(folder):
    data = (folder / "data.rec").read_bytes()
    found = [(flags, struct.unpack("<IfQQ", whole[:24]), whole[24:]) for flags, whole in records(data)]
    lines = [f"{number}\t{record.label}\t{record.name}\n" for number, record in enumerate(RECORDS)]
    assert [(header, image) for _, header, image in found] == [
        ((0, float(record.label), number, zlib.crc32(lines[number].encode() + record.image)), record.image)
        for number, record in enumerate(RECORDS)
    ]
    flags = dict(zip(IMAGES, (flags for flags, _, _ in found), strict=True))
    split = {name: flags[name] for name in IMAGES if flags[name] != [0]}
    assert split == {
        "only the magic": [1, 3],
        "magic first": [1, 3],
        "magic last": [1, 3],
        "twice in a row": [1, 2, 3],
        "three parts": [1, 2, 3],
        "unaligned before aligned": [1, 3],
    }
    index = [tuple(map(int, line.split("\t"))) for line in (folder / "data.idx").read_text().splitlines()]
    assert [number for number, _ in index] == list(range(len(RECORDS)))
    for number, offset in index:
        assert next(records(data[offset:]))[1][24:] == RECORDS[number].image
    assert (folder / "data.lst").read_text() == "".join(lines)
    header = json.loads((folder / "header.json").read_text())
    header.pop("checksum")
    assert header == {
        "format": "imagedb",
        "version": 3,
        "count": 12,
        "class_names": ["ant", "bee"],
        "digest": "00ff",
        "annotated": False,
        "shard": [1, 2],
        "kept": [3],
        "encoding": {"type": "raw"},
    }


def test_records_and_header(folder):
    reader = RecordIOReader(folder)
    assert reader.header == HEADER
    assert [reader.record(index) for index in range(12)] == RECORDS
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(reader.record, [*range(12)] * 50)) == RECORDS * 50
    reader.close()
    reader.close()


def _read(reader, results):
    results.put([reader.record(index) for index in range(12)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_the_same(folder, method):
    context = get_context(method)
    reader, results = RecordIOReader(folder), context.SimpleQueue()
    process = context.Process(target=_read, args=(reader, results))
    process.start()
    assert results.get() == RECORDS
    process.join()
    assert reader.record(5) == pickle.loads(pickle.dumps(reader)).record(5) == RECORDS[5]


def test_unfinished(tmp_path):
    writer = RecordIOWriter(tmp_path / "db")
    writer.put(RECORDS[0], b"")
    writer.close()
    writer.close()
    refused(tmp_path / "db", "no header: packing did not finish, pack it again")
    with pytest.raises(FileExistsError):
        RecordIOWriter(tmp_path / "db")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotation": Annotation(), "label": None}, "RecordIO holds labels, not annotations; write lmdb"),
        ({"label": 2**24 + 1}, "label 16777217, allowed in RecordIO: up to 16777216"),
        ({"image": bytes(2**29 - 24)}, "536870912 bytes, allowed in RecordIO: below 536870912"),
    ],
)
def test_record_that_the_format_cannot_hold(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"^image a: {message}$"):
        RecordIOWriter(tmp_path / "db").put(replace(Record(b"", 0, "a"), **changes), b"")


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\r"])
def test_name_that_the_format_cannot_hold(tmp_path, name):
    message = f"image {name!r}: RecordIO allows no tab and no line break in a name; write lmdb"
    with pytest.raises(ValueError) as refusal:
        RecordIOWriter(tmp_path / "db").put(Record(b"", 0, name), b"")
    assert str(refusal.value) == message


def test_largest_label(tmp_path):
    folder = write(tmp_path / "db", [Record(b"x", 2**24, "a")], replace(HEADER, count=1, kept=()))
    assert RecordIOReader(folder).record(0).label == 2**24


def refused(path, message):
    with pytest.raises(ValueError, match=f"^{path}: {message}$"):
        RecordIOReader(path)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}/no is not a folder; expected a database in RecordIO$"):
        RecordIOReader(tmp_path / "no")


@pytest.mark.parametrize("name", ["data.rec", "data.idx", "data.lst"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, f"{name} is missing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": "imagedb", "version": 4}', "format 'imagedb' version 4, allowed: imagedb version 1 to 3"),
        ("[" * 100_000, "the header is not that of an imagedb database"),
        ("{", "the header is not that of an imagedb database"),
        ("[1]", "the header is not that of an imagedb database"),
    ],
)
def test_other_header(folder, content, message):
    (folder / "header.json").write_text(content)
    refused(folder, message)


@pytest.mark.parametrize("name", ["data.idx", "data.lst"])
def test_number_of_lines_differs_from_the_header(folder, name):
    with (folder / name).open("a") as file:
        file.write("12\t0\n")
    refused(folder, f"13 records in {name}, the header says 12")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\tx", "its lines are not pairs of numbers"),
        ("1", "its lines are not pairs of numbers"),
        ("2\t32", "its numbers or offsets are not in order"),
        ("1\t9999", "its numbers or offsets are not in order"),
    ],
)
def test_damaged_index(folder, line, message):
    lines = (folder / "data.idx").read_text().splitlines()
    lines[1] = line
    (folder / "data.idx").write_text("\n".join(lines))
    refused(folder, f"data.idx is damaged: {message}")


@pytest.mark.parametrize("missing", [1, 4, 100_000, 256_100])
def test_truncated_data(folder, missing):
    size, start = (folder / "data.rec").stat().st_size, (folder / "data.idx").read_text().split()[-1]
    os.truncate(folder / "data.rec", size - missing)
    refused(folder, f"data.rec is truncated: {size - missing} bytes, the last record starts at {start}")


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 0, "data.rec has no record there"),  # the magic
        (7, 2 << 5, "data.rec has no record there"),  # a flag that cannot come first
        (7, 1 << 5, "data.rec has no record of that length there"),  # a first part, nothing after it
        (4, 200, "208 bytes by its lengths, 36 by data.idx"),
        (4, 8, "16 bytes by its lengths, 36 by data.idx"),
        (8, 1, "number 1, label 7.0, and 1 more labels in data.rec"),
        (8 + 8, 9, "number 9, label 7.0, and 0 more labels in data.rec"),
        (8 + 5, 1, "number 1, label 7.00.*, and 0 more labels in data.rec"),
        (8 + 24, 0, "its CRC-32 in data.rec differs"),  # the image
        (8 + 16, 0, "its CRC-32 in data.rec differs"),  # the CRC-32
        (8 + 6, 0xC0, "data.lst has another number or label than data.rec"),  # label 6
    ],
)
def test_damaged_record(folder, at, value, message):
    start = int((folder / "data.idx").read_text().split()[3])  # of record 1, label 7, one byte
    with (folder / "data.rec").open("r+b") as file:
        file.seek(start + at)
        file.write(bytes([value]))
    reader = RecordIOReader(folder)
    with pytest.raises(ValueError, match=f"^damaged: {message}$"):
        reader.record(1)
    assert reader.record(2) == RECORDS[2]


def test_record_without_a_label(tmp_path):
    folder = write(tmp_path / "db", [Record(b"x", 0, "a")], replace(HEADER, count=1, kept=()))
    (folder / "data.rec").write_bytes(MAGIC + struct.pack("<I", 4) + b"abcd")
    with pytest.raises(ValueError, match=r"^damaged: 4 bytes in data\.rec$"):
        RecordIOReader(folder).record(0)


def test_changed_name_is_found(folder):
    names = (folder / "data.lst").read_bytes()
    (folder / "data.lst").write_bytes(names.replace(b"one byte", b"one bytf"))
    with pytest.raises(ValueError, match=r"^damaged: its CRC-32 in data\.rec differs$"):
        RecordIOReader(folder).record(1)


def test_folder_of_version_2_is_read(folder):
    """It had 0 in place of the checksum of a record, and none of the header."""
    header = json.loads((folder / "header.json").read_text())
    del header["checksum"]
    (folder / "header.json").write_text(json.dumps(header | {"version": 2, "count": 1, "kept": []}))
    image = struct.pack("<4sIIfQQ", MAGIC, 24 + 1, 0, 7, 0, 0) + b"x\0\0\0"
    (folder / "data.rec").write_bytes(image)
    (folder / "data.idx").write_text("0\t0\n")
    (folder / "data.lst").write_bytes(b"0\t7\ta\n")
    assert RecordIOReader(folder).record(0) == Record(b"x", 7, "a")
    (folder / "data.lst").write_bytes(b"0\t7\t\xff\n")
    with pytest.raises(ValueError, match=r"^damaged: its name in data\.lst is not UTF-8$"):
        RecordIOReader(folder).record(0)


def test_shard_without_records_is_read(tmp_path):
    header = replace(HEADER, count=0, kept=())
    assert RecordIOReader(write(tmp_path / "db", [], header)).header == header


def test_a_fifo_is_named_and_not_opened(folder):
    (folder / "data.lst").unlink()
    os.mkfifo(folder / "data.lst")
    with pytest.raises(ValueError, match=f"^{folder}/data.lst is not a file, one is expected there$"):
        RecordIOReader(folder)


@pytest.mark.parametrize("size", [0, 1000])
def test_full_disk_names_the_folder(tmp_path, size):
    """A limit of the size of files is met as a full disk is, when buffers are written."""
    code = f"""
import resource, signal
from pathlib import Path
from imagedb.record import Header, Record
from imagedb.recordio import RecordIOWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
try:
    writer = RecordIOWriter(Path("db"))
    writer.put(Record(bytes({size} + 1), 0, "a"), b"")
    writer.finish(Header(1, ["a"], ""))
except OSError as error:
    print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "cannot write db: [Errno 27] File too large\n"
