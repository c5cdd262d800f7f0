import json
import os
from hashlib import sha256

import pytest
import torch
from safetensors.torch import save_file

from storage.model_file import ModelInfo, load_model, save_model

FORMS = ("float", "ptq", "qat", "int")
INFO = ModelInfo("vargconvnet_32", {"channels": [16, 24, 32, 64, 128]}, 2, 32, "yuv444", ["chat", "élan"])
TENSORS = {
    "b.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,  # not contiguous
    "a.scale": torch.tensor(0.5),
    "c.weight": torch.tensor([[-128, 127]], dtype=torch.int8),
    "d.bias": torch.tensor([2**31 - 1], dtype=torch.int32),
}
PROGRAM = {"nodes": [{"op": "conv", "shift": 7}], "inputs": ["x"]}


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(tmp_path, form):
    path = tmp_path / "new" / "model.safetensors"
    save_model(path, form, TENSORS, INFO, PROGRAM if form == "int" else None)
    stored = load_model(path, (form,))
    assert (stored.form, stored.info, stored.program) == (form, INFO, PROGRAM if form == "int" else None)
    assert stored.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert stored.tensors[name].dtype == tensor.dtype
        assert torch.equal(stored.tensors[name], tensor)


def test_bytes_depend_on_the_contents_alone(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, "int", TENSORS, INFO, PROGRAM)
    first = path.read_bytes()
    save_model(path, "int", dict(reversed(TENSORS.items())), INFO, dict(reversed(PROGRAM.items())))
    assert path.read_bytes() == first
    # A golden value, because another process may use another order.
    assert sha256(first).hexdigest() == "6dd49bd1450b49635d08edd8df5bfc5c5d10ca7246d7366c028afc51ce22ef2c"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(path, "float", TENSORS, INFO)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors does not exist"):
        load_model(tmp_path / "absent.safetensors", FORMS)


def write_pickle(path):
    torch.save(TENSORS, path)


def write_truncated(path):
    save_model(path, "float", TENSORS, INFO)
    path.write_bytes(path.read_bytes()[:-1])


def write_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")


def write_without_header(path):
    save_file({"a": torch.zeros(1)}, path)


def write_foreign_header(path):
    save_file({"a": torch.zeros(1)}, path, {"model": "resnet18"})


def write_version_1(path):
    save_file({"a": torch.zeros(1)}, path, {"model": json.dumps({"format_version": 1})})


def write_qat(path):
    save_model(path, "qat", TENSORS, INFO)


@pytest.mark.parametrize(
    "write, message",
    [
        (write_pickle, "is not a safetensors file"),
        (write_truncated, "is not a safetensors file"),
        (write_pointer, "is a pointer of git-lfs; `git lfs pull` fetches the file itself"),
        (write_without_header, "has no model header"),
        (write_foreign_header, "has no model header"),
        (write_version_1, "has format version 1, supported is 3"),
        (write_qat, "holds a model in form 'qat', expected float or int"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, write, message):
    path = tmp_path / "bad.safetensors"
    write(path)
    with pytest.raises(ValueError, match=f"bad.safetensors {message}") as raised:
        load_model(path, ("float", "int"))
    assert "\n" not in str(raised.value)
