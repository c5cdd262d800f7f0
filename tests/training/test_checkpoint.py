import os
from pathlib import Path

import pytest
import torch

from training.checkpoint import Checkpoint, digest_files, run_key

STATE = {"epoch": 3, "model": {"w": torch.arange(6.0).reshape(2, 3)}, "best": None, "history": [{"lr": 0.1}]}
PARTS = {"recipe": {"lr": 0.1, "epochs": 3}, "inputs": ["a", "b"], "code": "c", "versions": ["2.14"]}


def equal(left, right):
    return torch.equal(left.pop("model")["w"], right.pop("model")["w"]) and left == right


def test_round_trip(tmp_path):
    checkpoint = Checkpoint(tmp_path / "new" / "run")
    assert checkpoint.load() is None
    checkpoint.save(STATE)
    checkpoint.save(STATE | {"epoch": 4})
    assert equal(Checkpoint(tmp_path / "new" / "run").load(), STATE | {"epoch": 4})
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("at", ["save", "fsync", "replace"])
def test_a_failed_save_leaves_the_one_before(tmp_path, monkeypatch, at):
    def full(*arguments, **named):
        raise OSError("No space left on device")

    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(STATE)
    with monkeypatch.context() as broken:
        broken.setattr({"save": torch, "fsync": os, "replace": Path}[at], at, full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(STATE | {"epoch": 4})
    assert equal(checkpoint.load(), STATE | {})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    checkpoint.save(STATE | {"epoch": 5})
    assert checkpoint.load()["epoch"] == 5


class Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def test_damaged_and_harmful_checkpoints_are_named(tmp_path, capsys):
    torch.save({"model": Harmful()}, tmp_path / "checkpoint.pt")
    harmful = (tmp_path / "checkpoint.pt").read_bytes()
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(STATE)
    whole = checkpoint.path.read_bytes()
    for content in (
        harmful,
        b"",
        whole[:-1],
        whole[: len(whole) // 2],
        b"version https://git-lfs.github.com/spec/v1\n",
    ):
        checkpoint.path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{checkpoint.path} is damaged: remove it"):
            checkpoint.load()
    assert capsys.readouterr().out == ""


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
    Checkpoint(tmp_path / run_key(**PARTS)).save(STATE)
    assert Checkpoint(tmp_path / run_key(**PARTS)).load()["epoch"] == 3
    assert Checkpoint(tmp_path / run_key(**PARTS | {"code": "d"})).load() is None
