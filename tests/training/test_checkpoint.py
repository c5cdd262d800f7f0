import os
import resource
from pathlib import Path

import pytest
import torch

from training.checkpoint import Checkpoints, digest_files, run_key

STATE = {
    "epoch": 3,
    "model": {"w": torch.arange(6.0).reshape(2, 3)},
    "best": None,
    "history": [{"lr": 0.1}],
    "is_best": False,
}
PARTS = {"recipe": {"lr": 0.1, "epochs": 3}, "inputs": ["a", "b"], "code": "c", "versions": ["2.14"]}


def equal(left, right):
    return torch.equal(left.pop("model")["w"], right.pop("model")["w"]) and left == right


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path):
    folder = tmp_path / "new" / "run"
    checkpoints = Checkpoints(folder)
    assert checkpoints.load() is None
    assert not folder.exists()
    checkpoints.save(9, STATE)
    checkpoints.save(12, STATE | {"epoch": 4})
    assert equal(Checkpoints(folder).load(), STATE | {"epoch": 4})
    assert names(folder) == ["step_00000012.pt"]


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, 2)
    for done in range(1, 7):
        checkpoints.save(done, STATE | {"epoch": done, "is_best": done in (1, 3)})
    assert names(tmp_path) == ["best.pt", "step_00000005.pt", "step_00000006.pt"]
    assert checkpoints.load_best()["epoch"] == 3
    assert checkpoints.load()["epoch"] == 6


@pytest.mark.parametrize("at", ["save", "fsync", "replace"])
def test_a_failed_save_leaves_the_one_before(tmp_path, monkeypatch, at):
    def full(*arguments, **named):
        raise OSError("No space left on device")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, STATE)
    with monkeypatch.context() as broken:
        broken.setattr({"save": torch, "fsync": os, "replace": Path}[at], at, full)
        with pytest.raises(OSError, match=r"^cannot write .*step_00000004\.pt: No space left"):
            checkpoints.save(4, STATE | {"epoch": 4})
    assert equal(checkpoints.load(), dict(STATE))
    assert names(tmp_path) == ["step_00000003.pt"]
    checkpoints.save(5, STATE | {"epoch": 5})
    assert checkpoints.load()["epoch"] == 5


def test_a_full_disk_is_named_and_leaves_the_state_before(tmp_path):
    """A limit on the size of files stands for a full disk: writing a large tensor fails."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, STATE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(OSError, match=r"^cannot write .*step_00000004\.pt: .*File too large"):
            checkpoints.save(4, STATE | {"weights": torch.ones(2**20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == ["step_00000003.pt"]


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def flipped(contents, bit):
    return contents[: bit // 8] + bytes([contents[bit // 8] ^ 1 << bit % 8]) + contents[bit // 8 + 1 :]


def test_damaged_and_harmful_checkpoints_are_named(tmp_path, capsys):
    torch.save({"model": Harmful()}, tmp_path / "harmful")
    harmful = (tmp_path / "harmful").read_bytes()
    checkpoints = Checkpoints(tmp_path, 2)
    for done in (1, 2):
        checkpoints.save(done, STATE | {"epoch": done, "is_best": True})
    newest = tmp_path / "step_00000002.pt"
    whole = newest.read_bytes()
    for content in (
        harmful,
        b"",
        whole[:-1],
        whole[: len(whole) // 2],
        *(flipped(whole, bit) for bit in range(0, 8 * len(whole), 997)),
        b"version https://git-lfs.github.com/spec/v1\n",
    ):
        for path, load in ((newest, checkpoints.load), (tmp_path / "best.pt", checkpoints.load_best)):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=f"^{path} is damaged: remove it, and the run resumes from the checkp"):
                load()
    assert capsys.readouterr().out == ""
    newest.unlink()
    assert checkpoints.load()["epoch"] == 1


def test_run_key_depends_on_each_part():
    others = [
        PARTS | {"recipe": {"lr": 0.2, "epochs": 3}},
        PARTS | {"recipe": {"lr": 0.1, "epochs": 4}},
        PARTS | {"inputs": ["b", "a"]},
        PARTS | {"code": "d"},
        PARTS | {"versions": ["2.11"]},
        PARTS | {"more": None},
    ]
    keys = {run_key(**parts) for parts in [PARTS, *others]}
    assert len(keys) == 1 + len(others)
    assert all(len(key) == 16 and set(key) <= set("0123456789abcdef") for key in keys)


def test_run_key_does_not_depend_on_the_order_of_names():
    assert run_key(**dict(reversed(PARTS.items()))) == run_key(**PARTS)


def test_digest_of_files(tmp_path):
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("12")
    second.write_text("3")
    digest = digest_files([first, second])
    assert digest_files([second, first]) == digest
    assert digest_files([first]) != digest
    first.write_text("1")
    second.write_text("23")
    assert digest_files([first, second]) != digest


def test_another_key_does_not_resume(tmp_path):
    Checkpoints(tmp_path / run_key(**PARTS)).save(1, STATE)
    assert Checkpoints(tmp_path / run_key(**PARTS)).load()["epoch"] == 3
    assert Checkpoints(tmp_path / run_key(**PARTS | {"code": "d"})).load() is None
