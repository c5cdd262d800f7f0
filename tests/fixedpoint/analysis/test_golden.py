import errno
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from programs import PROGRAMS, build, hard_inputs, numpy_constants

from fixedpoint.analysis.golden import (
    Difference,
    check_golden,
    difference,
    golden_input,
    golden_tensors,
    indexed_images,
    read_tensors,
    write_golden,
)
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Clamp

PROGRAM = PROGRAMS["network"]
INPUT = hard_inputs(PROGRAM, 1)
IMAGES, LABELS = [0, 3, 4, 10, 11, 20], [1, 0, 2, 2, 4, 3]


@pytest.fixture(scope="module")
def tensors():
    return golden_tensors(PROGRAM, torch.from_numpy(INPUT))


@pytest.fixture
def folder(tensors, tmp_path):
    write_golden(tmp_path / "golden", PROGRAM, tensors, IMAGES, LABELS)
    return tmp_path / "golden"


def compared(folder, tensors) -> list[tuple[str, str, Difference | None]]:
    found = read_tensors(folder, tensors)
    return [(name, path.name, difference(theirs, tensors[name])) for name, path, theirs in found]


def test_files_hold_the_oracles_tensors(folder, tensors):
    expected = oracle.run(PROGRAM.to_json(), numpy_constants(PROGRAM), INPUT)
    index = json.loads((folder / "index.json").read_text())
    assert [entry["name"] for entry in index["tensors"]] == list(expected), "in order of computation"
    archive = np.load(folder / "tensors.npz")
    assert set(archive) == set(expected)
    for entry in index["tensors"]:
        raw, name = (folder / entry["file"]).read_bytes(), entry["name"]
        width = 4 if name in ("logits", "classes") else 1
        assert entry["dtype"] == {1: "int8", 4: "int32"}[width]
        assert raw == b"".join(int(v).to_bytes(width, "little", signed=True) for v in expected[name].flat)
        assert entry["shape"] == list(expected[name].shape)
        assert entry["sha256"] == hashlib.sha256(raw).hexdigest()
        assert archive[name].dtype == entry["dtype"] and np.array_equal(archive[name], expected[name])
    files = {path.name for path in folder.iterdir()}
    assert files == {"index.json", "tensors.npz"} | {f"{name}.bin" for name in expected}


def test_the_index_tells_images_kinds_and_exponents(folder):
    index = json.loads((folder / "index.json").read_text())
    assert (index["format_version"], index["images"], index["labels"]) == (1, IMAGES, LABELS)
    entries = {entry["name"]: entry for entry in index["tensors"]}
    assert (entries["input"]["kind"], entries["input"]["exponent"]) == ("input", 7)
    assert (entries["sum"]["kind"], entries["sum"]["inputs"], entries["sum"]["exponent"]) == (
        "add",
        ["stem", "right"],
        4,
    )
    accumulators = [4 + int(e) for e in PROGRAM.constants["logits.weight_exponent"]]  # 4 is that of "global"
    assert PROGRAM.exponents["global"] == 4
    assert entries["logits"]["exponent"] == entries["classes"]["exponent"] == accumulators


def test_equal_tensors_give_equal_bytes(folder, tensors, tmp_path):
    write_golden(tmp_path / "again", PROGRAM, tensors, IMAGES, LABELS)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    with zipfile.ZipFile(folder / "tensors.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}, "of no clock"


def test_earlier_vectors_are_replaced(folder, tensors):
    (folder / "of_another_model.bin").write_bytes(b"1")
    write_golden(folder, PROGRAM, tensors, [5], [0])
    assert not (folder / "of_another_model.bin").exists()
    assert indexed_images(folder) == [5]
    assert [path.name for path in folder.parent.iterdir()] == ["golden"]


def test_a_folder_with_other_files_is_left_alone(tensors, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.txt, which is no golden vector"):
        write_golden(tmp_path, PROGRAM, tensors, IMAGES, LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_is_broken_off_leaves_the_earlier_vectors(folder, tensors):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeyError):
        write_golden(folder, PROGRAM, tensors | {"unknown": tensors["input"]}, [5], [0])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["golden"]


def test_our_own_vectors_do_not_differ(folder, tensors):
    assert compared(folder, tensors) == [
        (name, file, None) for name in tensors for file in (f"{name}.bin", "tensors.npz")
    ]


def test_some_tensors_from_elsewhere(tensors, tmp_path):
    sums = tensors["sum"].copy()
    sums[2, 7, 15, 3] ^= 1
    sums[4, 0, 0, 0] ^= 3
    sums.tofile(tmp_path / "sum.bin")
    np.savez(tmp_path / "theirs.npz", stem=tensors["stem"].astype(np.int64), unknown=np.zeros(3))
    values = int(tensors["sum"][2, 7, 15, 3])
    assert compared(tmp_path, tensors) == [
        ("stem", "theirs.npz", None),
        ("sum", "sum.bin", Difference(2, (2, 7, 15, 3), values ^ 1, values)),
    ]
    assert indexed_images(tmp_path) is None


def test_a_difference_is_of_values_not_of_wrapped_ones():
    assert difference(np.array([[1, 255]], np.uint8), np.array([[1, -1]], np.int8)) == Difference(1, (0, 1), 255, -1)
    assert difference(np.array([2**32 + 5]), np.array([5], np.int32)).theirs == 2**32 + 5
    assert difference(np.array([3], np.uint8), np.array([3], np.int32)) is None


def wrong_size(folder):
    (folder / "sum.bin").write_bytes(b"\0" * 12287)


def wrong_shape(folder):
    np.savez(folder / "x.npz", sum=np.zeros((6, 16, 16, 8), np.int8))


def floats(folder):
    np.savez(folder / "x.npz", sum=np.zeros((6, 8, 16, 16), np.float32))


def objects(folder):
    np.savez(folder / "x.npz", sum=np.array([None]))


def vast_array(folder):
    """An array in place of an archive, whose header asks for a terabyte."""
    with (folder / "x.npz").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|i1", "fortran_order": False, "shape": (10**12,)})


def vast_member(folder):
    """The same in an archive."""
    vast_array(folder)
    array = (folder / "x.npz").read_bytes()
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("sum.npy", array)


def no_archive(folder):
    (folder / "x.npz").write_bytes(b"junk")


def damaged_archive(folder):
    np.savez(folder / "x.npz", sum=np.zeros((6, 8, 16, 16), np.int8))
    content = bytearray((folder / "x.npz").read_bytes())
    content[1000] ^= 1
    (folder / "x.npz").write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_size, r"sum\.bin has 12287 bytes; int8 \[6, 8, 16, 16\] is 12288$"),
        (wrong_shape, r"x\.npz: sum is int8 \[6, 16, 16, 8\]; expected are integers \[6, 8, 16, 16\]$"),
        (floats, r"x\.npz: sum is float32 \[6, 8, 16, 16\]; expected are integers"),
        (objects, r"x\.npz: sum: Object arrays cannot be loaded[^\n]*$"),
        (no_archive, r"x\.npz is not an npz file$"),
        (vast_array, r"x\.npz is not an npz file$"),
        (vast_member, r"x\.npz: sum: [^\n]*$"),
        (damaged_archive, r"x\.npz: sum: Bad CRC-32[^\n]*$"),
    ],
)
def test_a_bad_file_is_named(tensors, tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        list(read_tensors(tmp_path, tensors))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no index of golden vectors"),
        ("[]", "is no index of golden vectors"),
        ('{"images": [1]}', "is no index of golden vectors"),
        ('{"format_version": 2, "images": [1]}', "has format version 2, supported is 1"),
        ('{"format_version": 1, "images": [1, "2"]}', "images must be a list of record numbers"),
        ("[" * 100_000, "is no index of golden vectors"),
        ('{"format_version": 1, "images": []}', "images must be a list of record numbers"),
    ],
)
def test_a_bad_index_is_named(tmp_path, text, message):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        indexed_images(tmp_path)


@pytest.mark.parametrize("name", ["../../x", "/abs/x", "conv/3x3", "x*\\\n/"])
def test_no_name_is_a_path(tmp_path, name):
    program = build((3, 4, 4), Clamp(name, ("input",), (3, 4, 4)))
    tensors = golden_tensors(program, torch.from_numpy(hard_inputs(program, 1)))
    write_golden(tmp_path / "a" / "golden", program, tensors, IMAGES, LABELS)
    files = {path.parent for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {tmp_path / "a" / "golden"}
    assert not any(part in entry for entry in np.load(tmp_path / "a/golden/tensors.npz") for part in "/\\")
    assert check_golden(tmp_path / "a" / "golden", tensors).names == [*tensors]


@pytest.mark.parametrize("bit", [0, 7, 1001])
def test_a_flipped_bit_of_the_images_is_noticed(folder, bit):
    assert np.array_equal(golden_input(folder, PROGRAM), INPUT)
    content = bytearray((folder / "input.bin").read_bytes())
    content[bit] ^= 1
    (folder / "input.bin").write_bytes(content)
    with pytest.raises(QuantizationError, match=r"input\.bin is damaged or was edited: index\.json has another digest"):
        golden_input(folder, PROGRAM)


def test_archives_of_any_bytes_are_one_line(folder, tensors):
    for path in folder.glob("*.bin"):
        path.unlink()
    whole, rng = (folder / "tensors.npz").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        content = bytearray(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 40)):
            content[place] = rng.integers(256)
        (folder / "tensors.npz").write_bytes(content[: rng.choice([len(whole), rng.integers(len(whole))])])
        try:
            check_golden(folder, tensors)
        except QuantizationError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused == 100


def test_an_archive_that_inflates_is_refused(folder, tensors):
    for path in folder.glob("*.bin"):
        path.unlink()
    with zipfile.ZipFile(folder / "tensors.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("stem.npy", bytes(2**24))
    with pytest.raises(QuantizationError, match=r"tensors\.npz: stem: 16777216 bytes are more than \[.*\] can take"):
        check_golden(folder, tensors)


def test_a_full_disk_is_told_with_the_folder(tensors, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=rf"cannot write {tmp_path}/golden: No space left on device") as caught:
        write_golden(tmp_path / "golden", PROGRAM, tensors, IMAGES, LABELS)
    assert caught.value.errno == errno.ENOSPC and [*tmp_path.iterdir()] == []
